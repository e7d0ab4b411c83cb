"""节点一侧的故障，都真的发生：数据库立即停机、Valkey 被杀与清空、磁盘满、代理在各处被 kill -9。"""

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from node_yard import NodeYard
from outage import Outage
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings

pytestmark = pytest.mark.faults

pytest_plugins = ["outage_fixtures"]


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def test_database_away_jobs_run_on_and_ends_arrive_later_with_true_times(fragile: NodeYard, outage: Outage) -> None:
    fragile.start_agent()
    job_id = fragile.run("touch ready; while [ ! -e go ]; do sleep 0.1; done; date +%s.%N > when; exit 7\n")
    fragile.exists("ready")
    outage.kill_postgres()
    fragile.engine.dispose()
    (fragile.output / "go").touch()
    when = fragile.exists("when")
    wait_until(lambda: "ends_commit_retry" in fragile.log(), "收尾在重试")
    outage.revive_postgres()
    job = fragile.ended(job_id)
    assert (job["state"], job["exit_status"]) == ("FAILED", 7)
    assert abs(job["end_time"].timestamp() - float(when.read_text())) < 0.5
    after = fragile.run("true\n")
    assert fragile.ended(after)["state"] == "COMPLETED"


def test_agent_starts_while_the_database_is_away(fragile: NodeYard, outage: Outage) -> None:
    outage.kill_postgres()
    fragile.engine.dispose()
    fragile.start_agent(wait=False)
    wait_until(lambda: "database_unavailable" in fragile.log(), "代理在等数据库")
    outage.revive_postgres()
    wait_until(lambda: fragile.node().get("state") == "UP", "上线")


def test_valkey_killed_flushed_and_away(fragile: NodeYard, outage: Outage) -> None:
    fragile.start_agent()
    with redis.Redis.from_url(outage.engines.redis_url) as client:
        job_id = fragile.submit("echo ran >> runs\n")
        fragile.start(job_id)
        client.flushall()
    assert fragile.ended(job_id)["state"] == "COMPLETED"
    outage.kill_valkey()
    away = fragile.submit("echo away >> runs\n")
    fragile.start(away, send=False)
    assert fragile.ended(away)["state"] == "COMPLETED"
    outage.revive_valkey()
    back = fragile.submit("echo back >> runs\n")
    fragile.start(back)
    assert fragile.ended(back)["state"] == "COMPLETED"
    assert (fragile.output / "runs").read_text() == "ran\naway\nback\n"


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("需要 root：挂载一个小的 tmpfs")
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_full_output_directory_is_the_jobs_own_failure(yard: NodeYard) -> None:
    with small_disk(yard.work / "small", "64k"):
        yard.start_agent()
        job_id = yard.run(
            "set -e\nhead -c 1000000 /dev/zero\n", standard_output=str(yard.work / "small/out"), standard_error="err"
        )
        job = yard.ended(job_id)
        assert job["state"] == "FAILED"
        assert b"No space left" in (yard.output / "err").read_bytes()
        assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"


def test_full_spool_requeues_the_job_and_drains_the_node(yard: NodeYard) -> None:
    with small_disk(yard.work / "n1", "8m"):
        yard.start_agent()
        running = yard.run("while [ ! -e go ]; do sleep 0.1; done; exit 4\n")
        wait_until(lambda: yard.job(running)["process_id"], "进程号")
        with contextlib.suppress(OSError), open(yard.work / "n1" / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        job_id = yard.run("touch ran\n")
        wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "重新排队")
        wait_until(lambda: yard.node()["drain"], "排空")
        assert not (yard.output / "ran").exists()
        # 一个节点的盘满是它自己的事：作业不保留，去别的节点。
        assert yard.job(job_id)["hold"] is None
        # 正在运行的不受影响，结束照样送到。
        (yard.output / "go").touch()
        assert yard.ended(running)["exit_status"] == 4
        (yard.work / "n1" / "filler").unlink()
        yard.close()


def test_full_spool_is_told_even_if_nothing_is_launched(yard: NodeYard) -> None:
    """作业的记录也许还塞得下（它照跑）：盘满本身就要排空、写进日志，不等谁启动失败。"""
    with small_disk(yard.work / "n1", "8m"):
        yard.start_agent()
        filler = yard.work / "n1" / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        wait_until(lambda: yard.node()["drain"], "排空")
        node = yard.node()
        # 节点的几个目录都在这个盘上，先看到哪个满了就说哪个。
        assert (node["reason_user"], str(yard.work / "n1") in node["reason"]) == ("agent@n1", True), node["reason"]
        assert "node_drained" in yard.log()
        filler.unlink()
        # 腾出地方之后由管理员恢复，不再排空。
        yard.execute("UPDATE nodes SET drain = false, reason = NULL, reason_user = NULL")
        before = yard.node()["last_heartbeat"]
        wait_until(lambda: yard.node()["last_heartbeat"] > before + timedelta(seconds=1), "又跳了几次")
        assert not yard.node()["drain"]
        assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
        yard.close()


def test_job_that_does_everything_wrong(yard: NodeYard) -> None:
    """忽略 SIGTERM、关闭标准流、输出一大堆二进制、逃进别的会话：时限一到照样结束，照样说实话。"""
    yard.start_agent()
    script = """trap '' TERM INT HUP
head -c 50000000 /dev/urandom
setsid bash -c 'trap "" TERM; while :; do sleep 0.1; done' & echo $! > stray
exec 0<&- 1>&- 2>&-
while :; do sleep 0.1; done
"""
    job_id = yard.run(script, time_limit=2)
    job = yard.ended(job_id)
    assert (job["state"], job["exit_signal"]) == ("TIMEOUT", signal.SIGKILL)
    (row,) = yard.query("SELECT octet_length(content) AS kept, total_bytes FROM job_outputs")
    assert (row["kept"], row["total_bytes"]) == (65536, 50_000_000)
    assert not alive(int((yard.output / "stray").read_text()))


def test_shepherd_killed_before_it_took_the_launch_is_asked_again(yard: NodeYard) -> None:
    """认领了、启动的请求还在路上时牧守进程死了：不允许重新排队的作业也照样启动，且只启动一次。两批可以同时在路上。"""
    # 定期的上报会等牧守进程答话：它停着的时候不让它们来。
    yard.start_agent(SCNS_RECONCILE_INTERVAL_S="3600", SCNS_HEARTBEAT_INTERVAL_S="3600")
    shepherd = yard.shepherd_pid()
    os.kill(shepherd, signal.SIGSTOP)
    job_ids = []
    for _ in range(2):
        job_ids.append(yard.run("echo $SLURM_JOB_ID >> runs\n", requeue=False))
        wait_until(lambda: claimed(yard) == job_ids, "不等上一批的答复就认领")
    # 再多的等着：牧守进程那里不无限地排。
    job_ids.append(yard.run("echo $SLURM_JOB_ID >> runs\n", requeue=False))
    os.kill(shepherd, signal.SIGKILL)
    assert [yard.ended(job_id)["state"] for job_id in job_ids] == ["COMPLETED"] * 3
    assert sorted(map(int, (yard.output / "runs").read_text().split())) == job_ids


def test_a_cancel_right_behind_a_long_launch_reaches_the_job(yard: NodeYard) -> None:
    """前面的还在一个个启动时要求取消最后一个：不能因为牧守进程还没有听说它就放过，等到下一次核对。"""
    slow = {"SCNS_RECONCILE_INTERVAL_S": "3600", "SCNS_HEARTBEAT_INTERVAL_S": "3600"}
    yard.start_agent(SCNS_NODE_CPUS="300", **slow)
    job_ids = [yard.submit("exec sleep 300\n", requeue=False) for _ in range(300)]
    for job_id in job_ids:
        yard.start(job_id, send=False)
    yard.send("launch", job_ids=job_ids)
    wait_until(lambda: claimed(yard) == job_ids, "认领")
    yard.request_end(job_ids[-1], "CANCELLED")
    job = yard.ended(job_ids[-1])
    # 还在看目录时就听说了的，根本不启动。
    assert (job["state"], job["exit_signal"]) in [("CANCELLED", signal.SIGTERM), ("CANCELLED", None)]


def claimed(yard: NodeYard) -> list[int]:
    """认领了的作业。"""
    rows = yard.query("SELECT job_id FROM resource_allocations WHERE claimed_at IS NOT NULL ORDER BY job_id")
    return [row["job_id"] for row in rows]


def test_random_kills_of_agent_and_shepherd(yard: NodeYard) -> None:
    """反复 kill -9 代理与牧守进程：每次尝试至多运行一次，没有丢失，资源全部归还。"""
    rng = random.Random(20261124)
    yard.start_agent(SCNS_NODE_CPUS="64")
    jobs = [
        yard.submit("echo $SLURM_JOB_ID.$SCNS_ATTEMPT >> runs; sleep 0.0$((RANDOM % 9)); exit 0\n") for _ in range(120)
    ]
    waiting = list(jobs)
    for round_number in range(6):
        batch, waiting = waiting[:20], waiting[20:]
        for job_id in batch:
            yard.start(job_id, send=False)
        yard.send("launch", job_ids=batch)
        target = "agent" if round_number % 2 else "shepherd"
        wait_until(lambda: rng.random() < 0.3, "随机的片刻")
        if target == "agent":
            yard.kill_agent()
            yard.start_agent(SCNS_NODE_CPUS="64")
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(yard.shepherd_pid(), signal.SIGKILL)

    def settle() -> bool:
        """扮演调度器：重新排队的再启动一次，直到全部有终态。"""
        pending = [row["job_id"] for row in yard.query("SELECT job_id FROM jobs WHERE state = 'PENDING'")]
        for job_id in pending:
            yard.start(job_id)
        return not yard.query("SELECT 1 FROM jobs WHERE state IN ('PENDING', 'RUNNING')")

    wait_until(settle, "全部结束")
    assert {row["state"] for row in yard.query("SELECT DISTINCT state FROM jobs")} == {"COMPLETED"}
    attempts = (yard.output / "runs").read_text().split()
    assert len(attempts) == len(set(attempts)), "有一次尝试运行了两遍"
    assert {int(attempt.split(".")[0]) for attempt in attempts} == set(jobs)
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    assert yard.node()["allocated_cpus"] == 0
