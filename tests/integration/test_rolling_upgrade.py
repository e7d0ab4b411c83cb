"""滚动升级：代理换成新的，旧的牧守进程做完手里的作业就走，新作业给新的；正在跑的作业不知道换过人。"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from old_version import start_old_shepherd
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.statements.claims import claim_allocations
from scns_conductor.worker.agent.shepherd_client import ShepherdClient
from scns_conductor.worker.bus import Message
from scns_conductor.worker.wire.launch_spec import LaunchSpec

pytestmark = pytest.mark.faults

WAITS = "while [ ! -e {0} ]; do sleep 0.1; done; echo {0} done; exit {1}\n"


class Upgrade:
    """一个节点，旧的牧守进程带着旧的代理启动的作业；start 是升级之后的第一次启动。"""

    def __init__(self, yard: NodeYard) -> None:
        self.yard = yard
        self.spool = yard.spool()
        yard.start_agent()
        yard.kill_agent(number=signal.SIGTERM)
        pid = yard.shepherd_pid()
        client = ShepherdClient.connect(self.spool, "n1", start=False)
        client.shutdown(0)
        client.close()
        wait_until(lambda: not alive(pid), "登记用的牧守进程退出")
        shutil.rmtree(self.spool)
        self.yard.execute("UPDATE nodes SET state = 'UP'")
        self.old: subprocess.Popen[bytes] = start_old_shepherd(self.spool, "n1")
        self.client = ShepherdClient.connect(self.spool, "n1", start=False)
        self.client.hello(attach=False)
        assert self.client.version == 1

    def run_under_the_old(self, script: str, **fields: Any) -> int:
        """照旧的代理那样：认领，送去启动。"""
        yard = self.yard
        job_id = yard.submit(script, **fields)
        yard.start(job_id, send=False)
        with yard.engine.begin() as connection:
            (job,) = claim_allocations(connection, "n1", [job_id])
        path = str(yard.work / f"n1/scripts/job_{job_id}.sh")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        spec = LaunchSpec(
            job_id=job_id,
            attempt=0,
            launch_id=job.launch_id,
            step="batch",
            argv=["/bin/bash", path],
            env={"PATH": "/usr/bin:/bin"},
            cwd=str(yard.output),
            stdout=str(yard.output / f"slurm-{job_id}.out"),
            script=script,
            script_path=path,
            time_limit_s=job.time_limit,
            grace_s=1.0,
        )
        assert self.client.launch([spec])[0].state == "running"
        return job_id

    def start(self) -> int:
        """换上新的代理；返回新的牧守进程的进程号。"""
        self.client.close()
        self.yard.start_agent()
        return self.new_pid()

    def new_pid(self) -> int:
        lock = self.spool / "shepherd.1/shepherd.lock"
        return int(wait_until(lambda: lock.exists() and lock.read_text(), "新的牧守进程"))


@pytest.fixture
def upgrade(settings: Settings, tmp_path: Path) -> Iterator[Upgrade]:
    yard = NodeYard(settings, tmp_path)
    upgrade = Upgrade(yard)
    yield upgrade
    yard.close()
    if upgrade.old.poll() is None:
        upgrade.old.wait(timeout=30)


def parent_of(yard: NodeYard, job_id: int) -> int:
    assert yard.ended(job_id)["state"] == "COMPLETED"
    return int((yard.output_of(job_id) or b"0").split()[0])


def test_the_old_shepherd_ends_with_its_last_job(upgrade: Upgrade) -> None:
    yard, go = upgrade.yard, upgrade.yard.output
    ended = upgrade.run_under_the_old("exit 5\n")
    first = upgrade.run_under_the_old(WAITS.format("first", 3))
    second = upgrade.run_under_the_old(WAITS.format("second", 0), time_limit=3600)
    cancelled = upgrade.run_under_the_old("touch up; exec sleep 300\n")
    limited = upgrade.run_under_the_old("exec sleep 300\n", time_limit=3600)
    yard.exists("up")
    new = upgrade.start()
    # 旧的没有来得及送的结束，新的代理写下。
    assert yard.ended(ended)["exit_status"] == 5
    assert new != upgrade.old.pid
    # 新作业归新的牧守进程，旧的照跑。
    assert parent_of(yard, yard.run("echo $PPID\n")) == new
    assert {yard.job(job_id)["state"] for job_id in (first, second, cancelled, limited)} == {"RUNNING"}
    # 取消、改时限照旧管得到旧的。
    yard.request_end(cancelled, "CANCELLED")
    assert yard.ended(cancelled)["state"] == "CANCELLED"
    yard.execute("UPDATE jobs SET time_limit = 1 WHERE job_id = :id", id=limited)
    yard.send("update", job_ids=[limited])
    assert yard.ended(limited)["state"] == "TIMEOUT"
    # 代理再重启一次：两个都接上。
    yard.kill_agent()
    yard.start_agent()
    assert upgrade.new_pid() == new
    assert {yard.job(job_id)["state"] for job_id in (first, second)} == {"RUNNING"}
    (go / "first").touch()
    assert (yard.ended(first)["state"], yard.job(first)["exit_status"]) == ("FAILED", 3)
    assert upgrade.old.poll() is None, "还有一个作业"
    (go / "second").touch()
    job = yard.ended(second)
    assert (job["state"], job["restart_count"]) == ("COMPLETED", 0)
    assert yard.output_of(second) == b"second done\n"
    # 最后一个作业结束了，旧的就走，什么也不留下。
    assert upgrade.old.wait(timeout=60) == 0
    wait_until(lambda: "shepherd_retired" in yard.log(), "收拾好")
    assert not (upgrade.spool / "shepherd.journal").exists()
    assert parent_of(yard, yard.run("echo $PPID\n")) == new
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    assert [yard.causes(job_id) for job_id in (ended, first, second)] == [["start", "exit"]] * 3
    yard.kill_agent()
    yard.start_agent()
    assert parent_of(yard, yard.run("echo $PPID\n")) == new


def test_a_step_joins_its_job_under_the_old_shepherd(upgrade: Upgrade) -> None:
    yard = upgrade.yard
    job_id = upgrade.run_under_the_old(WAITS.format("end", 0))
    upgrade.start()
    yard.execute(
        "INSERT INTO job_steps (job_id, restart_count, step_id, name, tasks, cpus_per_task, nodes, node_tasks, "
        "node_cpus, pending_nodes, node_shares, launch) VALUES (:id, 0, 0, 's', 1, 1, '{n1}', '{1}', '{1}', '{n1}', "
        "'{}', '{}')",
        id=job_id,
    )
    step = {
        "job_id": job_id,
        "restart_count": 0,
        "step_id": 0,
        "name": "s",
        "tasks": 1,
        "cpus_per_task": 1,
        "nodes": {"n1": [0]},
        "argv": ["/bin/sh", "-c", "cut -d' ' -f4 /proc/$PPID/stat > above; sleep 300"],
        "streams": {"stdout": "step.out"},
    }
    yard.publisher.send({"n1": [Message("launch_step", step)]})
    # 步的主人是旧的牧守进程的孩子：与它的作业在一起，作业结束时一起收场。
    assert int(yard.written("above")) == upgrade.old.pid
    (yard.output / "end").touch()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    wait_until(lambda: yard.query("SELECT state FROM job_steps")[0]["state"] == "CANCELLED", "作业步随它结束")
    assert upgrade.old.wait(timeout=60) == 0


def test_an_old_shepherd_killed_while_it_drains_is_taken_over(upgrade: Upgrade) -> None:
    yard = upgrade.yard
    job_id = upgrade.run_under_the_old("touch up; " + WAITS.format("end", 7))
    yard.exists("up")
    new = upgrade.start()
    os.kill(upgrade.old.pid, signal.SIGKILL)
    upgrade.old.wait(timeout=30)
    wait_until(lambda: yard.shepherd_pid() != upgrade.old.pid, "有人接管")
    after = yard.run("true\n")
    assert yard.ended(after)["state"] == "COMPLETED"
    assert yard.job(job_id)["state"] == "RUNNING"
    (yard.output / "end").touch()
    # 过继给代理或 1 号进程：看得见退出码就如实报，看不见就说没有看见，绝不猜。
    job = wait_until(lambda: (row := yard.job(job_id))["state"] != "RUNNING" and row, "结束")
    assert (job["state"], job["exit_status"]) in (("FAILED", 7), ("PENDING", None), ("NODE_FAIL", None))
    # 两个本版的只留一个。
    pids = {new, yard.shepherd_pid()}
    wait_until(lambda: sum(map(alive, pids)) == 1, "空了的那个走了")
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
