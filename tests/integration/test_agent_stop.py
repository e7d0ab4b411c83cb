"""正常停下的代理：先说一声，没有启动的交还，运行中的照跑，回来之后接着用。真的调度器、代理、牧守进程。"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings

RESTARTS = 5


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@pytest.fixture
def scheduled(yard: NodeYard) -> Iterator[NodeYard]:
    """带着一个真的调度进程。"""
    process = yard.start_scheduler()
    try:
        yield yard
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def tell(yard: NodeYard, kind: str, job_ids: list[int]) -> None:
    yard.execute(
        "WITH told AS (INSERT INTO scheduler_inbox (kind, job_ids) VALUES (:kind, CAST(:job_ids AS bigint[]))) "
        "SELECT pg_notify('scns_inbox', '')",
        kind=kind,
        job_ids=job_ids,
    )


def submit(yard: NodeYard, script: str, **fields: object) -> int:
    job_id = yard.submit(script, **fields)
    tell(yard, "jobs", [job_id])
    return job_id


def test_a_stopped_agent_is_announced_and_gets_no_new_jobs(scheduled: NodeYard) -> None:
    yard = scheduled
    yard.start_agent()
    running = submit(yard, "echo $$ > pid.new; mv pid.new pid; while [ ! -e go ]; do sleep 0.1; done; exit 5\n")
    pid = int(yard.written("pid"))
    yard.kill_agent(number=signal.SIGTERM)
    node = yard.node()
    assert (node["state"], node["drain"], node["reason_user"]) == ("UNKNOWN", False, "agent@n1")
    assert "停下" in node["reason"]
    # 之后提交的等着，说得出为什么；运行中的照跑。
    waiting = submit(yard, "true\n", requeue=False)
    wait_until(lambda: yard.job(waiting)["reason"] == "ReqNodeNotAvail", "原因是节点不在")
    assert (yard.job(waiting)["state"], yard.job(running)["state"]) == ("PENDING", "RUNNING")
    assert alive(pid)
    (yard.output / "go").touch()
    yard.start_agent()
    assert yard.node()["reason"] is None
    assert yard.ended(waiting)["state"] == "COMPLETED"
    assert (yard.ended(running)["exit_status"], yard.job(running)["restart_count"]) == (5, 0)


@pytest.mark.faults
def test_what_was_allocated_to_a_stopped_node_is_taken_back_at_once(scheduled: NodeYard) -> None:
    """代理停下的同时放上去的：没有人认领，不许重新排队的也回到队列，不等失联的期限，不算节点故障。"""
    yard = scheduled
    yard.start_agent()
    yard.kill_agent(number=signal.SIGTERM)
    job_id = yard.submit("echo ran >> ran\n", requeue=False)
    yard.start(job_id, send=False)
    tell(yard, "nodes", [])
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "收回")
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    assert yard.node()["allocated_cpus"] == 0
    assert yard.causes(job_id) == ["start", "give_back"]
    yard.start_agent()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert (yard.output / "ran").read_text() == "ran\n"


@pytest.mark.faults
def test_a_taken_back_job_frees_its_other_nodes(scheduled: NodeYard) -> None:
    """多节点作业的脚本所在的节点停下了，另一个已经认领：整个收回，两边都归还，另一个节点的核立即能再用。"""
    yard = scheduled
    for node in ("n1", "n2"):
        yard.start_agent(node, SCNS_NODE_CPUS="1")
    yard.kill_agent("n1", signal.SIGTERM)
    job_id = yard.submit("true\n", minimum_nodes=2, tasks=2)
    yard.start(job_id, ["n1", "n2"], send=False)
    wait_until(
        lambda: yard.query("SELECT 1 FROM resource_allocations WHERE node_name='n2' AND claimed_at IS NOT NULL"), "认领"
    )
    tell(yard, "nodes", [])
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "收回")
    assert [yard.node(name)["allocated_cpus"] for name in ("n1", "n2")] == [0, 0]
    assert yard.ended(submit(yard, "true\n"))["state"] == "COMPLETED"
    yard.start_agent("n1", SCNS_NODE_CPUS="1")
    assert yard.ended(job_id)["state"] == "COMPLETED"


@pytest.mark.faults
def test_a_job_in_its_prolog_is_given_back(scheduled: NodeYard) -> None:
    """认领了、prolog 还在跑：代理停下时它随之结束，作业回到队列；代理不为它等上几分钟。"""
    yard = scheduled
    prolog = yard.work / "prolog"
    prolog.write_text(f"#!/bin/bash\n[ -e {yard.work}/quick ] && exit 0\necho $$ > {yard.work}/prolog.pid\nsleep 300\n")
    prolog.chmod(0o755)
    yard.start_agent(SCNS_TASK_PROLOG=str(prolog))
    job_id = submit(yard, "echo ran >> ran\n", requeue=False)
    written = yard.work / "prolog.pid"
    pid = int(wait_until(lambda: written.exists() and written.read_text(), "prolog 在跑"))
    yard.kill_agent(number=signal.SIGTERM)
    assert not alive(pid)
    job = yard.job(job_id)
    assert (job["state"], job["hold"]) == ("PENDING", None)
    assert yard.causes(job_id) == ["start", "give_back"]
    assert not yard.node()["drain"]
    (yard.work / "quick").touch()
    yard.start_agent(SCNS_TASK_PROLOG=str(prolog))
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert (yard.output / "ran").read_text() == "ran\n"


@pytest.mark.faults
def test_an_administrators_drain_and_down_outlive_a_restart(yard: NodeYard) -> None:
    yard.start_agent()
    yard.execute("UPDATE nodes SET drain = true, reason = '换内存', reason_user = 'admin'")
    yard.kill_agent(number=signal.SIGTERM)
    yard.start_agent()
    node = yard.node()
    assert (node["state"], node["drain"], node["reason"], node["reason_user"]) == ("UP", True, "换内存", "admin")
    yard.execute("UPDATE nodes SET drain = false, state = 'DOWN', reason = '检修', reason_user = 'admin'")
    yard.kill_agent(number=signal.SIGTERM)
    before = yard.node()["last_heartbeat"]
    yard.start_agent(wait=False)
    wait_until(lambda: yard.node()["last_heartbeat"] > before, "又有心跳")
    node = yard.node()
    assert (node["state"], node["reason"], node["reason_user"]) == ("DOWN", "检修", "admin")


@pytest.mark.faults
def test_a_stop_longer_than_the_timeout_is_a_node_failure(yard: NodeYard) -> None:
    """同 slurmd 停了超过 SlurmdTimeout：判下线，作业重新排队；回来时先杀掉旧的那一次。"""
    yard.start_agent()
    scheduler = yard.start_scheduler(SCNS_NODE_TIMEOUT_S="2")
    try:
        job_id = submit(yard, "echo $$ >> pids; sleep 300\n")
        first = int(wait_until(lambda: yard.written("pids"), "进程号"))
        yard.kill_agent(number=signal.SIGTERM)
        assert (yard.job(job_id)["state"], yard.node()["state"]) == ("RUNNING", "UNKNOWN")
        wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "重新排队")
        assert (yard.node()["state"], yard.job(job_id)["restart_count"]) == ("DOWN", 1)
        assert "失联" in (yard.query("SELECT message FROM job_events WHERE cause = 'requeue'")[0]["message"])
        yard.start_agent()
        assert not alive(first)
        wait_until(lambda: len((yard.output / "pids").read_text().split()) == 2, "又启动一次")
    finally:
        scheduler.send_signal(signal.SIGTERM)
        scheduler.wait(timeout=30)


@pytest.mark.faults
def test_restarting_an_agent_again_and_again_under_load_loses_and_fails_nothing(scheduled: NodeYard) -> None:
    """systemctl restart scns-worker 的循环：每个作业都成功，每次尝试至多跑一遍，长的从头跑到尾。"""
    yard = scheduled
    for node in ("n1", "n2"):
        yard.start_agent(node)
    long = [
        submit(yard, "echo $SLURM_JOB_ID >> long; while [ ! -e go ]; do sleep 0.1; done\n", requeue=False)
        for _ in range(4)
    ]
    wait_until(lambda: len(yard.written("long").split()) == len(long), "长的都在跑")
    jobs: list[int] = []
    for _ in range(RESTARTS):
        jobs += [
            submit(yard, "echo $SLURM_JOB_ID >> runs; sleep 0.05\n", requeue=number % 2 == 0) for number in range(30)
        ]
        yard.kill_agent("n1", signal.SIGTERM)
        jobs += [submit(yard, "echo $SLURM_JOB_ID >> runs\n", requeue=number % 2 == 0) for number in range(10)]
        yard.start_agent("n1", wait=False)
        wait_until(lambda: yard.node("n1")["state"] == "UP", "回来")
    (yard.output / "go").touch()
    ended = {job_id: yard.ended(job_id)["state"] for job_id in (*long, *jobs)}
    assert set(ended.values()) == {"COMPLETED"}, ended
    runs = (yard.output / "runs").read_text().split()
    assert sorted(map(int, runs)) == sorted(jobs)
    assert len((yard.output / "long").read_text().split()) == len(long)
    causes = {row["cause"] for row in yard.query("SELECT DISTINCT cause FROM job_events")}
    assert causes <= {"start", "exit", "give_back"}
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    wait_until(lambda: os.listdir(yard.work / "n1" / "scripts") == [], "脚本删净")


@pytest.mark.parametrize("copied", [False, True])
def test_a_second_agent_of_the_same_name_is_refused(yard: NodeYard, tmp_path: Path, copied: bool) -> None:
    """另一台机器误用了同一个节点名（copied：连工作目录一起复制的）：它说清楚、退出；原来的作业照跑，只跑一次。"""
    yard.start_agent()
    job_id = yard.run("#!/bin/bash\necho started >> starts\nwhile [ ! -e go ]; do sleep 0.1; done\n")
    yard.exists("starts")
    other = tmp_path / "other"
    if copied:
        (other / "spool" / "n1").mkdir(parents=True)
        seen = (yard.spool() / "database.seen").read_bytes()
        beat = yard.node()["beat"]
        (other / "spool" / "n1" / "database.seen").write_bytes(seen)
        wait_until(lambda: yard.node()["beat"] > beat + 2, "原来的接着心跳")
    folders = {"SCNS_DATA_DIR": str(other), "SCNS_SCRIPT_DIR": str(other / "scripts")}
    second = subprocess.run(
        [sys.executable, "-m", "scns_conductor.worker.agent.process"],
        env=yard.environment("n1", **folders), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert "节点名 n1 有人在用" in second.stderr
    beat = yard.node()["beat"]
    wait_until(lambda: yard.node()["beat"] > beat + 2, "原来的还在心跳")
    assert (yard.job(job_id)["state"], yard.job(job_id)["restart_count"]) == ("RUNNING", 0)
    (yard.output / "go").touch()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert (yard.output / "starts").read_text() == "started\n"


def test_an_agent_without_its_memory_comes_back(yard: NodeYard) -> None:
    """工作目录没有了（重装的机器），原来的代理已经死了：看过没有人心跳，照样登记。"""
    yard.start_agent()
    yard.kill_agent()
    (yard.spool() / "database.seen").unlink()
    yard.start_agent()
