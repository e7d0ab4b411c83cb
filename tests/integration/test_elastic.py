"""节能与要用时才有的节点，对着真的系统：自带的程序起、停真的节点代理；程序失败、挂住、开错、后台进程被杀。"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from running_system import RunningSystem, alive, start_system, wait_until

# 前面几行是各种毛病；最后是真的起、停。
PROGRAM = """#!/bin/bash
echo "$1 $2" >> {work}/calls
[ $1 = failed ] && exit
if [ $1 = resume ]; then
    [ -e {work}/fail ] && {{ echo 没有配额; exit 3; }}
    [ -e {work}/hang-$2 ] && sleep 1000
    [ -e {work}/wrong ] && exec {python} -m scns_conductor.local.elastic_nodes resume --cpus 2 --memory 1G c3
    [ -e {work}/slow ] && touch {work}/slowly && while [ -e {work}/slow ]; do sleep 0.1; done
    exec {python} -m scns_conductor.local.elastic_nodes resume --cpus 2 --memory 1G $2
fi
exec {python} -m scns_conductor.local.elastic_nodes suspend $2
"""
OFF = "IDLE+CLOUD+POWERED_DOWN"


class Elastic:
    """一套系统：node1 一直开着，c[1-3] 要用时才有。"""

    def __init__(self, system: RunningSystem, work: Path, slurm: Commands) -> None:
        self.system, self.work, self.slurm = system, work, slurm

    def node(self, name: str) -> dict[str, Any]:
        status, answer = self.system.call("GET", f"/nodes/{name}")
        assert status == 200, answer
        return answer  # type: ignore[no-any-return]

    def calls(self, word: str) -> list[str]:
        path = self.work / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.startswith(word)]

    def agent(self, name: str) -> int | None:
        lock = self.system.data_dir / "spool" / name / "agent.lock"
        pid = int(lock.read_text()) if lock.exists() and lock.read_text() else None
        return pid if pid is not None and alive(pid) else None

    def all_off(self) -> None:
        """下线的恢复，等三个都关着。"""
        for name in ("c1", "c2", "c3"):
            if self.node(name)["availability"] == "DOWN":
                self.system.call("PATCH", f"/nodes/{name}", {"state": "RESUME"})
        wait_until(lambda: all(self.node(f"c{n}")["state"] == OFF for n in (1, 2, 3)), 90, "都关了")

    def trouble(self, name: str) -> Path:
        path = self.work / name
        path.touch()
        return path


@pytest.fixture(scope="module")
def running(scratch: Path) -> Iterator[Elastic]:
    work = scratch / "elastic-work"
    work.mkdir()
    program = work / "power"
    program.write_text(PROGRAM.format(work=work, python=sys.executable))
    program.chmod(0o755)
    environment = {
        "SCNS_RESUME_PROGRAM": f"{program} resume",
        "SCNS_SUSPEND_PROGRAM": f"{program} suspend {{node}}",
        "SCNS_RESUME_FAIL_PROGRAM": f"{program} failed",
        "SCNS_SUSPEND_TIME_S": "0.5",
        "SCNS_SUSPEND_TIMEOUT_S": "0.2",
        "SCNS_RESUME_TIMEOUT_S": "15",
        "SCNS_POWER_PROGRAM_TIMEOUT_S": "30",
        "SCNS_SUSPEND_EXC_NODES": "node1",
        "SCNS_SUSPEND_RATE": "0",
        "SCNS_RESUME_RATE": "0",
        "SCNS_HEARTBEAT_INTERVAL_S": "0.2",
        "SCNS_RECONCILE_INTERVAL_S": "0.5",
    }
    with start_system(scratch / "elastic", "--nodes", "1", "--cpus", "2", environment=environment) as system:
        found = Elastic(system, work, Commands.beside(system, work))
        yield found


@pytest.fixture
def elastic(running: Elastic) -> Elastic:
    if running.system.call("GET", "/nodes/c1")[0] == 404:
        made = running.slurm.run(
            "scontrol", "create", "nodename=c[1-3]", "cpus=2", "realmemory=1024", "features=burst", "state=CLOUD"
        )
        assert (made.returncode, made.stderr) == (0, "")
    running.all_off()
    return running


def test_a_job_turns_on_the_node_it_was_given_and_an_idle_node_is_turned_off(elastic: Elastic) -> None:
    assert elastic.slurm.run("sinfo", "-h", "-n", "c1", "-o", "%t").stdout == "idle~\n"
    shown = elastic.slurm.run("scontrol", "show", "node", "c1").stdout
    assert f"State={OFF} " in shown
    # 开着的先用。
    here = elastic.system.submit("true\n")
    assert elastic.system.wait_state(here)["detail"]["node_list"] == "node1"
    slow = elastic.trouble("slow")
    job = elastic.slurm.submit("-C", "burst", "-t", "5", text="#!/bin/bash\nhostname\n")
    elastic.system.wait_state(job, "RUNNING")
    wait_until(lambda: elastic.slurm.run("squeue", "-h", "-j", job, "-o", "%t").stdout == "CF\n", what="在等节点开机")
    assert elastic.slurm.run("squeue", "-h", "-t", "CF", "-o", "%i").stdout == f"{job}\n"
    assert "在等节点开机：c1，大约" in elastic.system.call("GET", f"/jobs/{job}/why")[1]["text"]
    wait_until(lambda: elastic.slurm.run("sinfo", "-h", "-n", "c1", "-o", "%t").stdout == "mix#\n", what="在开机")
    slow.unlink()
    done = elastic.system.wait_state(job)
    assert (done["state"], done["detail"]["node_list"]) == ("COMPLETED", "c1")
    node = elastic.node("c1")
    assert (node["boots"], node["power_error"]) == (1, None)
    # 从节点登记的那一刻起算，不是从分配起。
    assert done["time"]["elapsed_time"] < "0-00:00:10"
    agent = elastic.agent("c1")
    elastic.all_off()
    assert agent is None or not alive(agent)
    assert elastic.node("c1")["boot_s"] > 0


def test_a_job_on_two_nodes_waits_for_both(elastic: Elastic) -> None:
    job = elastic.system.submit("echo $SLURM_JOB_NODELIST\n", constraints="burst", nodes=2, standard_output="two")
    done = elastic.system.wait_state(job)
    assert (done["state"], done["detail"]["allocated_nodes"]) == ("COMPLETED", 2), done
    status, whole = elastic.system.call("GET", f"/jobs/{job}")
    assert (status, whole["restart_count"], whole["configuring"]) == (200, 0, False)
    assert all(part["node_name"].startswith("c") for part in whole["allocations"])


def test_a_program_that_fails_sends_the_job_elsewhere_with_its_attempt_kept(elastic: Elastic) -> None:
    trouble = elastic.trouble("fail")
    job = elastic.system.submit("true\n", constraints="burst", requeue=False)

    def down() -> str | None:
        found = [f"c{n}" for n in (1, 2, 3) if elastic.node(f"c{n}")["availability"] == "DOWN"]
        return found[0] if found else None

    failed = wait_until(down, what="一个下线")
    trouble.unlink()
    assert elastic.node(failed)["reason"].endswith("没有配额")
    done = elastic.system.wait_state(job, wait_s=90)
    assert (done["state"], done["detail"]["node_list"] != failed) == ("COMPLETED", True)
    # 开了一半也说不定：照样运行过关机的程序。
    wait_until(lambda: elastic.node(failed)["state"] == "DOWN+CLOUD+POWERED_DOWN", what="关着")
    assert failed in elastic.calls("suspend")
    assert failed in elastic.calls("failed")


@pytest.mark.faults
def test_a_program_that_hangs_is_bounded_and_the_job_goes_elsewhere(elastic: Elastic) -> None:
    """c1 的分区只给两秒；程序要挂一千秒，杀它的期限是三十秒。"""
    trouble = elastic.trouble("hang-c1")
    made = elastic.slurm.run("scontrol", "create", "partition=impatient", "nodes=c1", "resumetimeout=2")
    assert made.returncode == 0, made.stderr
    shown = elastic.slurm.run("scontrol", "show", "partition", "impatient").stdout
    assert "ResumeTimeout=2 sec SuspendTimeout=GLOBAL SuspendTime=GLOBAL" in shown
    # 先试 c1。
    for name in ("c2", "c3"):
        assert elastic.system.call("PATCH", f"/nodes/{name}", {"weight": 50})[0] == 200
    job = elastic.system.submit("true\n", constraints="burst")
    wait_until(lambda: elastic.node("c1")["availability"] == "DOWN", 60, "c1 没有来")
    assert elastic.node("c1")["reason"] == "开机超过 2 秒没有来（ResumeTimeout）"
    done = elastic.system.wait_state(job, wait_s=90)
    assert (done["state"], done["detail"]["node_list"]) in (("COMPLETED", "c2"), ("COMPLETED", "c3"))
    # 挂着的已经杀掉：立即又开得了，前一次的结局不算在这一次头上。
    trouble.unlink()
    assert elastic.system.call("DELETE", "/partitions/impatient")[0] == 204
    wait_until(lambda: elastic.node("c1")["state"] == "DOWN+CLOUD+POWERED_DOWN", what="关着")
    elastic.system.call("PATCH", "/nodes/c1", {"state": "RESUME"})
    job = elastic.system.submit("true\n", required_nodes="c1")
    assert elastic.system.wait_state(job, wait_s=90)["state"] == "COMPLETED"


def test_a_partition_keeps_its_nodes_on(elastic: Elastic) -> None:
    assert elastic.slurm.run("scontrol", "create", "partition=warm", "nodes=c1", "suspendtime=infinite").returncode == 0
    for name in ("c1", "c2"):
        elastic.system.wait_state(elastic.system.submit("true\n", required_nodes=name), wait_s=90)
    # c2 闲了早就关了，c1 还开着。
    wait_until(lambda: elastic.node("c2")["state"] == OFF, what="c2 关了")
    assert elastic.node("c1")["power_state"] == "ON"
    updated = elastic.slurm.run("scontrol", "update", "partition=warm", "suspendtime=0")
    assert updated.returncode == 0, updated.stderr
    wait_until(lambda: elastic.node("c1")["state"] == OFF, what="c1 也关了")
    assert elastic.system.call("DELETE", "/partitions/warm")[0] == 204


def test_a_wrong_node_is_named_in_the_reason(elastic: Elastic) -> None:
    trouble = elastic.trouble("wrong")
    job = elastic.system.submit("true\n", required_nodes="c1")
    wait_until(lambda: elastic.node("c1")["availability"] == "DOWN", 60, "c1 没有来")
    assert elastic.node("c1")["reason"] == "开机超过 15 秒没有来（ResumeTimeout）；其间来的是没有要的 c3"
    trouble.unlink()
    # 节点下线与交还作业先后写下。
    elastic.system.wait_state(job, "PENDING")
    elastic.system.call("PATCH", "/nodes/c1", {"state": "RESUME"})
    assert elastic.system.wait_state(job, wait_s=90)["detail"]["node_list"] == "c1"


@pytest.mark.faults
def test_a_background_killed_amid_a_slow_program_loses_nothing(elastic: Elastic) -> None:
    slow, before = elastic.trouble("slow"), len(elastic.calls("resume"))
    job = elastic.system.submit("echo once >> ran\n", required_nodes="c2", current_working_directory=str(elastic.work))
    wait_until(lambda: (elastic.work / "slowly").exists() and len(elastic.calls("resume")) > before, what="程序在跑")
    pid = elastic.system.background()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(elastic.calls("resume")) > before + 1, what="接手的又运行了一遍")
    slow.unlink()
    assert elastic.system.wait_state(job)["state"] == "COMPLETED"
    assert (elastic.work / "ran").read_text() == "once\n"


def test_the_administrator_turns_nodes_on_and_off(elastic: Elastic) -> None:
    assert elastic.slurm.run("scontrol", "power", "up", "c3").returncode == 0
    # 没有作业，开了之后又会闲着关掉：看它开过。
    boots = elastic.node("c3")["boots"]
    wait_until(lambda: elastic.node("c3")["boots"] > boots, what="c3 开了")
    job = elastic.system.submit("sleep 1000\n", required_nodes="c3")
    elastic.system.wait_state(job, "RUNNING")
    wait_until(lambda: elastic.node("c3")["availability"] == "UP", what="c3 在")
    wait_until(lambda: elastic.slurm.run("squeue", "-h", "-j", job, "-o", "%t").stdout == "R\n", what="在跑")
    assert elastic.slurm.run("scontrol", "power", "down", "asap", "c3").returncode == 0
    wait_until(lambda: elastic.slurm.run("sinfo", "-h", "-n", "c3", "-o", "%t").stdout == "mix!\n", what="等着关")
    assert elastic.slurm.run("scontrol", "update", "nodename=c3", "state=power_down_force").returncode == 0
    wait_until(lambda: elastic.node("c3")["power_state"] == "OFF", what="强行关了")
    # 作业回到队列，又把它开起来：没有丢。
    elastic.system.call("POST", f"/jobs/cancel/{job}")
    assert elastic.system.wait_state(job)["state"] == "CANCELLED"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/nodes", {"name": "c1", "cpus": 1, "memory": "1G"}, 409, "node_exists"),
        ("POST", "/nodes", {"name": "x[1-", "cpus": 1, "memory": "1G"}, 422, "invalid_field"),
        ("POST", "/nodes", {"name": "x1", "cpus": 0, "memory": "1G"}, 422, "invalid_field"),
        ("POST", "/nodes", {"name": "x1", "cpus": 1, "memory": "1G", "gres": "a:b:c:d"}, 422, "invalid_field"),
    ],
)
def test_bad_declarations_are_refused(
    running: Elastic, method: str, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    found, answer = running.system.call(method, path, body)
    assert (found, answer["code"]) == (status, code), answer
