"""调度进程：真的 PostgreSQL、Valkey、代理与作业；从提交到结束没有人扮演调度器。"""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until

from scns_conductor.core.settings import Settings
from warm_processes import Process


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


ENDED = "state NOT IN ('PENDING', 'RUNNING')"


@contextmanager
def scheduler(yard: NodeYard, **extra: str) -> Iterator[Process]:
    process = yard.start_scheduler("n1", **{"SCNS_SCHEDULER_LEASE_S": "2", **extra})
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        process.wait()


def submitted(yard: NodeYard, script: str, **fields: object) -> int:
    job_id = yard.submit(script, **fields)
    yard.execute("INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', ARRAY[:job_id]::bigint[])", job_id=job_id)
    yard.execute("NOTIFY scns_inbox")
    return job_id


def ended(yard: NodeYard, count: int) -> None:
    wait_until(lambda: yard.query(f"SELECT count(*) AS n FROM jobs WHERE {ENDED}")[0]["n"] == count, f"{count} 个结束")


def test_a_full_node_queues_jobs_and_runs_them_all(yard: NodeYard) -> None:
    yard.start_agent()
    with scheduler(yard):
        for _ in range(30):
            submitted(yard, f"#!/bin/sh\necho x >> {yard.output}/ran\nexit 0", cpus_per_task=3)
        ended(yard, 30)
    assert {row["state"] for row in yard.query("SELECT state FROM jobs")} == {"COMPLETED"}
    assert (yard.output / "ran").read_text() == "x\n" * 30
    assert yard.node()["allocated_cpus"] == 0


@pytest.mark.faults
def test_changes_that_no_message_told_of_are_found(yard: NodeYard) -> None:
    """收件箱里没有的变化（新的、改过的、不见了的）由定期的核对找出来。"""
    yard.start_agent()
    held = submitted(yard, "#!/bin/sh\n", hold="user")
    gone = submitted(yard, "#!/bin/sh\n", hold="user")
    with scheduler(yard, SCNS_RECONCILE_INTERVAL_S="0.2"):
        told = "SELECT 1 FROM jobs WHERE job_id = :id AND reason = 'JobHeldUser'"
        for job_id in (held, gone):
            wait_until(lambda job_id=job_id: yard.query(told, id=job_id), "看过了保留的")
        fresh = yard.submit("#!/bin/sh\n")
        yard.execute("UPDATE jobs SET hold = NULL, revision = revision + 1 WHERE job_id = :id", id=held)
        yard.execute("UPDATE jobs SET state = 'CANCELLED' WHERE job_id = :id", id=gone)
        ended(yard, 3)
    states = {row["job_id"]: row["state"] for row in yard.query("SELECT job_id, state FROM jobs")}
    assert states == {held: "COMPLETED", gone: "CANCELLED", fresh: "COMPLETED"}


def test_jobs_that_cannot_run_wait_and_say_why(yard: NodeYard) -> None:
    yard.start_agent()
    big = submitted(yard, "#!/bin/sh\n", cpus_per_task=99)
    odd = submitted(yard, "#!/bin/sh\n", dependency="afterok:1")
    fine = submitted(yard, "#!/bin/sh\n")
    with scheduler(yard):
        ended(yard, 1)
        wait_until(
            lambda: yard.query("SELECT 1 FROM jobs WHERE job_id = :id AND reason = 'Dependency'", id=odd), "原因"
        )
    told = {row["job_id"]: row for row in yard.query("SELECT job_id, state, reason, error_msg FROM jobs")}
    assert told[fine]["state"] == "COMPLETED"
    assert told[big]["reason"] == "Resources"
    assert "99" in told[big]["error_msg"]


@pytest.mark.faults
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_standby_takes_over_from_a_dead_or_paused_leader(yard: NodeYard, fault: signal.Signals) -> None:
    yard.start_agent()
    with scheduler(yard) as first:
        submitted(yard, "#!/bin/sh\n")
        ended(yard, 1)
        with scheduler(yard):
            os.kill(first.pid, fault)
            submitted(yard, f"#!/bin/sh\necho x >> {yard.output}/ran\n")
            ended(yard, 2)
            if fault == signal.SIGSTOP:
                os.kill(first.pid, signal.SIGCONT)
                submitted(yard, f"#!/bin/sh\necho x >> {yard.output}/ran\n")
                ended(yard, 3)
    assert set((yard.output / "ran").read_text().splitlines()) == {"x"}
    assert yard.query("SELECT max(epoch) AS epoch FROM scheduler_leader")[0]["epoch"] >= 2


@pytest.mark.faults
def test_a_silent_node_goes_down_and_its_job_is_requeued(yard: NodeYard) -> None:
    yard.start_agent()
    with scheduler(yard, SCNS_NODE_TIMEOUT_S="1"):
        job_id = submitted(yard, "#!/bin/sh\nsleep 300\n")
        wait_until(lambda: yard.query("SELECT 1 FROM jobs WHERE state = 'RUNNING'"), "运行")
        yard.kill_agent()
        wait_until(lambda: yard.node()["state"] == "DOWN", "节点 DOWN")
        log = yard.work / "scheduler.log"
        wait_until(lambda: re.search(r"node_down.*\bn1\b", log.read_text()), "日志里说是哪个节点")
    row = yard.query("SELECT state, restart_count FROM jobs WHERE job_id = :id", id=job_id)[0]
    assert (row["state"], row["restart_count"]) == ("PENDING", 1)
    assert yard.node()["allocated_cpus"] == 0


@pytest.mark.faults
def test_what_a_running_job_was_started_as_outlives_its_leader(yard: NodeYard) -> None:
    """吸进预留的、启动时的优先级都记在作业上：换了领导者，里面的还是里面的，优先级低的仍让给同一个 QOS 里高的。"""
    yard.start_agent()
    yard.execute("INSERT INTO qos (name, preempt_mode) VALUES ('same', 'requeue,within')")
    yard.execute(
        "INSERT INTO reservations (name, start_time, end_time, nodes, node_cpus, accounts, flags, created_by) "
        """VALUES ('magnet', now(), now() + interval '1 hour', 'n1', '{"n1": 4}', '{inside}', '{MAGNETIC}', 'root')"""
    )
    wait = f"#!/bin/sh\nwhile [ ! -e {yard.output}/go ]; do sleep 0.1; done\n"
    rules = {"SCNS_PRIORITY_TYPE": "multifactor", "SCNS_PREEMPT_TYPE": "qos"}

    def running(job_id: int) -> None:
        wait_until(lambda: yard.job(job_id)["state"] == "RUNNING", f"{job_id} 启动")

    with scheduler(yard, **rules) as first:
        drawn = submitted(yard, wait, account="inside", cpus_per_task=4, time_limit=600)
        low = submitted(yard, wait, qos="same", priority=5, cpus_per_task=2, time_limit=600, requeue=True)
        running(drawn)
        running(low)
        first.kill()
        first.wait()
    started = yard.job(drawn)
    assert (started["reservation"], started["requested_reservation"]) == ("magnet", "")
    with scheduler(yard, **rules):
        # 里面的四个归 drawn，外面还有两个；当它在外面的话，一个也没有。
        outside = submitted(yard, wait, cpus_per_task=2, time_limit=600)
        running(outside)
        high = submitted(yard, wait, qos="same", priority=500, cpus_per_task=2, time_limit=600)
        running(high)
        assert yard.job(low)["restart_count"] == 1
        # 重新排队的不再是里面的，又被吸进去。
        yard.request_end(drawn, "PENDING")
        wait_until(lambda: yard.job(drawn)["restart_count"] == 1 and yard.job(drawn)["state"] == "RUNNING", "再启动")
        assert yard.job(drawn)["reservation"] == "magnet"
        (yard.output / "go").touch()
        ended(yard, 4)
