"""节点的照看，对着真的系统：健康检查排空与恢复，scontrol reboot 等空、排队、回来、回不来。"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from running_system import RunningSystem, start_system, wait_until

CHECK = """#!/bin/bash
[ -e {work}/hang-$SLURMD_NODENAME ] && sleep 100
[ -e {work}/sick-$SLURMD_NODENAME ] || exit 0
cat {work}/sick-$SLURMD_NODENAME
exit 1
"""
# 假的重启：杀掉代理，由监督者再启动它。
REBOOT = """#!/bin/bash
echo $SLURMD_NODENAME >> {work}/reboots
[ -e {work}/refuse ] && {{ echo 没有权限; exit 3; }}
[ -e {work}/stay ] && exit 0
kill -9 $(cat {data}/spool/$SLURMD_NODENAME/agent.lock)
"""


class Cared:
    """一套系统与它的程序看的文件。"""

    def __init__(self, system: RunningSystem, work: Path, slurm: Commands) -> None:
        self.system, self.work, self.slurm = system, work, slurm

    def node(self, name: str) -> dict[str, Any]:
        status, answer = self.system.call("GET", f"/nodes/{name}")
        assert status == 200, answer
        return answer  # type: ignore[no-any-return]

    def reboots(self) -> list[str]:
        path = self.work / "reboots"
        return path.read_text().split() if path.exists() else []

    def waiting_job(self, node: str) -> str:
        """在这个节点上跑着、等 go-作业号 的作业；有时限，计划才知道它何时让出来。"""
        script = f"while [ ! -e {self.work}/go-$SLURM_JOB_ID ]; do sleep 0.1; done\n"
        job = self.system.submit(script, required_nodes=node, time_limit="20")
        self.system.wait_state(job, "RUNNING")
        return job

    def release(self, job: str) -> None:
        (self.work / f"go-{job}").touch()


@pytest.fixture(scope="module")
def cared(scratch: Path) -> Iterator[Cared]:
    work, data = scratch / "care-work", scratch / "care"
    work.mkdir()
    for name, text in (("check", CHECK), ("reboot", REBOOT)):
        (work / name).write_text(text.format(work=work, data=data))
        (work / name).chmod(0o755)
    environment = {
        "SCNS_HEALTH_CHECK_PROGRAM": str(work / "check"),
        "SCNS_HEALTH_CHECK_INTERVAL_S": "0.2",
        "SCNS_HEALTH_CHECK_TIMEOUT_S": "1",
        "SCNS_REBOOT_PROGRAM": str(work / "reboot"),
        "SCNS_AGENT_RESTART_IS_REBOOT": "true",
        "SCNS_RESUME_TIMEOUT_S": "20",
        "SCNS_HEARTBEAT_INTERVAL_S": "0.2",
        "SCNS_RECONCILE_INTERVAL_S": "0.5",
    }
    with start_system(data, "--nodes", "2", "--cpus", "2", environment=environment) as system:
        yield Cared(system, work, Commands.beside(system, work))


def test_a_failing_health_check_drains_the_node_and_a_passing_one_resumes_it(cared: Cared) -> None:
    (cared.work / "sick-node1").write_text("磁盘坏了\n")
    wait_until(lambda: cared.node("node1")["drain"], what="排空")
    assert cared.node("node1")["reason"].endswith("以 1 退出：磁盘坏了")
    assert cared.slurm.run("sinfo", "-h", "-n", "node1", "-o", "%t").stdout == "drain\n"
    # 换了一种毛病，原因跟着换。
    (cared.work / "sick-node1").write_text("网卡也坏了\n")
    wait_until(lambda: "网卡" in cared.node("node1")["reason"], what="新的原因")
    job = cared.system.submit("true\n", required_nodes="node1")
    assert cared.system.query(job)["state"] == "PENDING"
    (cared.work / "sick-node1").unlink()
    assert cared.system.wait_state(job)["state"] == "COMPLETED"
    assert (cared.node("node1")["drain"], cared.node("node1")["reason"]) == (False, None)


def test_a_health_check_that_hangs_is_a_failing_one(cared: Cared) -> None:
    (cared.work / "hang-node2").touch()
    wait_until(lambda: cared.node("node2")["drain"], what="排空")
    assert "运行超过 1 秒" in cared.node("node2")["reason"]
    (cared.work / "hang-node2").unlink()
    wait_until(lambda: not cared.node("node2")["drain"], what="恢复")


def test_a_drain_by_the_administrator_is_not_undone(cared: Cared) -> None:
    cared.system.call("PATCH", "/nodes/node2", {"state": "DRAIN", "reason": "换内存"})
    before = cared.node("node2")["beat"]
    wait_until(lambda: cared.node("node2")["beat"] > before + 5, what="检查过几遍")
    assert (cared.node("node2")["drain"], cared.node("node2")["reason"]) == (True, "换内存")
    cared.system.call("PATCH", "/nodes/node2", {"state": "RESUME"})


def test_a_reboot_asap_waits_for_the_running_job_and_lets_no_other_in(cared: Cared) -> None:
    running = cared.waiting_job("node1")
    asked = cared.slurm.run("scontrol", "reboot", "ASAP", "nextstate=RESUME", "reason=kernel", "node1")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert cared.node("node1")["state"] == "MIXED+REBOOT_REQUESTED"
    assert cared.slurm.run("sinfo", "-h", "-n", "node1", "-o", "%t").stdout == "mix@\n"
    shown = cared.slurm.run("scontrol", "show", "node", "node1").stdout
    assert "NextState=RESUME RebootReason=kernel" in shown
    later = cared.system.submit("true\n", required_nodes="node1")
    job = cared.system.submit("true\n")
    # 别的节点照样接。
    assert cared.system.wait_state(job)["detail"]["node_list"] == "node2"
    assert (cared.system.query(later)["state"], cared.reboots()) == ("PENDING", [])
    cared.release(running)
    assert cared.system.wait_state(later)["state"] == "COMPLETED"
    assert cared.system.query(running)["state"] == "COMPLETED"
    assert cared.reboots() == ["node1"]
    assert cared.node("node1")["reboot"] is None


def test_a_reboot_can_be_cancelled_until_it_begins_and_may_leave_the_node_down(cared: Cared) -> None:
    running = cared.waiting_job("node2")
    assert cared.slurm.run("scontrol", "reboot", "nextstate=DOWN", "reason=firmware", "node2").returncode == 0
    assert cared.slurm.run("scontrol", "cancel_reboot", "node2").returncode == 0
    assert cared.node("node2")["reboot"] is None
    done = cared.system.call("POST", "/nodes/node2/reboot", {"next_state": "down", "reason": "firmware"})
    assert done[0] == 200, done
    cared.release(running)
    wait_until(lambda: cared.node("node2")["state"] == "DOWN", what="回来之后下线")
    assert (cared.node("node2")["reason"], cared.reboots()) == ("firmware", ["node1", "node2"])
    cared.system.call("PATCH", "/nodes/node2", {"state": "RESUME"})
    wait_until(lambda: cared.node("node2")["state"] == "IDLE", what="恢复")


@pytest.mark.faults
def test_a_reboot_that_fails_or_never_happens_tells_why(cared: Cared) -> None:
    (cared.work / "refuse").touch()
    cared.system.call("POST", "/nodes/node2/reboot", {})
    wait_until(lambda: cared.node("node2")["drain"], what="排空")
    assert cared.node("node2")["reason"].startswith("重启没有成：")
    assert cared.node("node2")["reason"].endswith("没有权限")
    cared.system.call("PATCH", "/nodes/node2", {"state": "RESUME"})
    (cared.work / "refuse").unlink()
    (cared.work / "stay").touch()
    cared.system.call("POST", "/nodes/node2/reboot", {"asap": True})
    wait_until(lambda: cared.node("node2")["state"] == "DOWN", what="重启太久")
    assert cared.node("node2")["reason"] == "重启了 20 秒没有回来"
    # 代理还在跳，也不当作回来了；真的重启过才是。
    before = cared.node("node2")["beat"]
    wait_until(lambda: cared.node("node2")["beat"] > before + 3, what="还在跳")
    assert cared.node("node2")["state"] == "DOWN"
    (cared.work / "stay").unlink()
    lock = cared.system.data_dir / "spool" / "node2" / "agent.lock"
    os.kill(int(lock.read_text()), signal.SIGKILL)
    wait_until(lambda: cared.node("node2")["state"] == "IDLE", what="回来了")
    assert cared.node("node2")["reason"] is None


@pytest.mark.parametrize(
    ("body", "name", "status", "code"),
    [
        ({}, "nosuch", 404, "node_not_found"),
        ({}, "node[1-", 422, "invalid_field"),
        ({"next_state": "UP"}, "node1", 422, "invalid_field"),
    ],
)
def test_bad_reboots_are_refused(cared: Cared, body: dict[str, Any], name: str, status: int, code: str) -> None:
    found, answer = cared.system.call("POST", f"/nodes/{name}/reboot", body)
    assert (found, answer["code"]) == (status, code), answer


def test_an_idle_node_held_for_the_job_at_the_front_is_planned(cared: Cared) -> None:
    running = cared.waiting_job("node1")
    front = cared.system.submit("true\n", nodes=2, tasks=4, time_limit="5")
    wait_until(lambda: cared.node("node2")["state"] == "IDLE+PLANNED", what="留给队首")
    assert cared.slurm.run("sinfo", "-h", "-n", "node2", "-o", "%t").stdout == "plnd\n"
    cared.release(running)
    cared.system.wait_state(front)
    wait_until(lambda: cared.node("node2")["state"] == "IDLE", what="不再留着")
