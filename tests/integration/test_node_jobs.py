"""一个代理上作业的一生：启动、时限、取消、重新排队、挂起、信号、日志。各测试合用一个一直在跑的代理。"""

import base64
import os
import signal
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from node_yard import NodeYard, assert_released
from shepherd_yard import wait_until

from own_database import own_database
from scns_conductor.local.engines import Engines


@pytest.fixture(scope="module")
def node(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeYard]:
    work = tmp_path_factory.mktemp("node")
    with own_database(engines, f"t_{uuid.uuid4().hex[:12]}", work) as settings:
        running = NodeYard(settings, work)
        running.start_agent()
        yield running
        running.close()


@pytest.fixture
def yard(node: NodeYard, tmp_path: Path) -> Iterator[NodeYard]:
    """作业写的文件各在各的目录；一个测试完了，节点上什么也不剩。"""
    node.output = tmp_path
    yield node
    assert_released(node)


def test_job_runs_and_its_truth_is_recorded(yard: NodeYard) -> None:
    job_id = yard.run("#!/bin/bash\necho 你好 $SLURM_JOB_ID; echo oops >&2; exit 3\n", standard_error="%j.err")
    job = yard.ended(job_id)
    assert (job["state"], job["exit_status"], job["exit_signal"]) == ("FAILED", 3, 0)
    assert job["reason"] == "NonZeroExitCode"
    assert timedelta(0) <= job["end_time"] - job["start_time"] < timedelta(seconds=10)
    assert job["max_rss_kb"] > 0
    assert yard.output_of(job_id) == f"你好 {job_id}\n".encode()
    assert yard.output_of(job_id, "stderr") == b"oops\n"
    assert (yard.output / f"slurm-{job_id}.out").read_bytes() == f"你好 {job_id}\n".encode()
    assert (yard.output / f"{job_id}.err").exists()
    assert yard.causes(job_id) == ["start", "exit"]
    assert_released(yard)
    wait_until(lambda: not list((yard.work / "n1" / "scripts").iterdir()), "脚本删除")


def test_shebang_and_arguments(yard: NodeYard) -> None:
    script = "#!/usr/bin/env python3\nimport sys\nprint(sum(map(int, sys.argv[1:])))\n"
    job_id = yard.run(script, argv=["2", "3", "4"])
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert yard.output_of(job_id) == b"9\n"


def test_lost_message_is_made_up_by_reconcile(yard: NodeYard) -> None:
    job_id = yard.submit("echo ran >> runs\n")
    yard.start(job_id, send=False)
    assert yard.ended(job_id)["state"] == "COMPLETED"


def test_duplicate_and_stale_messages_do_nothing(yard: NodeYard) -> None:
    job_id = yard.submit("echo ran >> runs; sleep 0.3\n")
    yard.start(job_id)
    for _ in range(5):
        yard.send("launch", job_ids=[job_id])
    yard.ended(job_id)
    yard.send("launch", job_ids=[job_id, 999_999])
    yard.send("dance", job_ids=[job_id])
    yard.send("launch", job_ids="x")
    second = yard.run("true\n")
    assert yard.ended(second)["state"] == "COMPLETED"
    assert (yard.output / "runs").read_text() == "ran\n"
    assert "bus_message_refused" in yard.log()


def test_time_limit_and_changed_time_limit(yard: NodeYard) -> None:
    first = yard.run("exec sleep 60\n", time_limit=1)
    second = yard.run("touch ready; exec sleep 60\n", time_limit=3600)
    yard.exists("ready")
    yard.execute("UPDATE jobs SET time_limit = 1 WHERE job_id = :job_id", job_id=second)
    for job_id in (first, second):
        job = yard.ended(job_id)
        assert (job["state"], job["exit_signal"], job["reason"]) == ("TIMEOUT", signal.SIGTERM, "TimeLimit")


@pytest.mark.parametrize("send", [True, False])
def test_cancel_ends_the_process_with_the_requested_state(yard: NodeYard, send: bool) -> None:
    job_id = yard.run("touch ready; exec sleep 60\n")
    yard.exists("ready")
    yard.request_end(job_id, "CANCELLED", send=send)
    job = yard.ended(job_id)
    assert (job["state"], job["error_msg"], job["exit_signal"]) == ("CANCELLED", "有人要求", signal.SIGTERM)
    (event,) = yard.query("SELECT * FROM job_events WHERE job_id = :id AND to_state = 'CANCELLED'", id=job_id)
    assert event["actor"] == "alice"
    assert_released(yard)


def test_requeue_runs_again_and_appends(yard: NodeYard) -> None:
    job_id = yard.run(
        'echo attempt ${SLURM_RESTART_COUNT:-0}; [ -n "$SLURM_RESTART_COUNT" ] || { touch ready; sleep 60; }\n'
    )
    yard.exists("ready")
    yard.request_end(job_id, "PENDING")
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "回到排队")
    assert yard.job(job_id)["restart_count"] == 1
    yard.start(job_id)
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert (yard.output / f"slurm-{job_id}.out").read_text() == "attempt 0\nattempt 1\n"


def test_suspend_and_resume_follow_the_database(yard: NodeYard) -> None:
    job_id = yard.run("while :; do echo x >> ticks; sleep 0.02; done\n")
    ticks = yard.exists("ticks")
    yard.execute("UPDATE jobs SET state = 'SUSPENDED', suspend_time = clock_timestamp() WHERE job_id = :id", id=job_id)
    yard.send("suspend", job_ids=[job_id])

    def still() -> bool:
        size = ticks.stat().st_size
        os.sched_yield()
        pid = yard.job(job_id)["process_id"]
        return (
            pid is not None
            and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "DT"
            and (ticks.stat().st_size == size)
        )

    wait_until(still, "停下")
    yard.execute("UPDATE jobs SET state = 'RUNNING' WHERE job_id = :id", id=job_id)
    yard.send("resume", job_ids=[job_id])
    size = ticks.stat().st_size
    wait_until(lambda: ticks.stat().st_size > size, "继续")
    yard.request_end(job_id, "CANCELLED")
    assert yard.ended(job_id)["state"] == "CANCELLED"


def test_signal_reaches_the_job(yard: NodeYard) -> None:
    job_id = yard.run("trap 'exit 9' USR1; touch ready; while :; do sleep 0.02; done\n")
    yard.exists("ready")
    yard.send("signal", job_ids=[job_id], signal="USR1", target="batch")
    assert yard.ended(job_id)["exit_status"] == 9


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"current_working_directory": "/nowhere"}, "/nowhere"),
        ({"standard_output": "/nowhere/out"}, "/nowhere/out"),
        ({"script": "#!/no/such/interpreter\n"}, "/no/such/interpreter"),
    ],
)
def test_impossible_jobs_fail_with_the_reason(yard: NodeYard, fields: dict[str, str], word: str) -> None:
    job_id = yard.run(fields.pop("script", "true\n"), **fields)
    job = yard.ended(job_id)
    assert job["state"] == "FAILED"
    assert word in job["error_msg"]
    assert job["restart_count"] == 0
    assert_released(yard)


def test_live_log_is_answered_through_the_database(yard: NodeYard) -> None:
    job_id = yard.run("echo 0123456789; touch ready; exec sleep 60\n")
    yard.exists("ready")
    yard.send("read_log", request_id="r1", job_id=job_id, stream="stdout", offset=2, length=3)
    yard.send("read_log", request_id="r2", job_id=job_id, stream="stdout", offset=-4, length=100)
    yard.send("read_log", request_id="r3", job_id=999)

    def answers() -> dict[str, dict[str, object]] | None:
        rows = {row["request_id"]: row["answer"] for row in yard.query("SELECT * FROM request_answers")}
        return rows if len(rows) == 3 else None

    found = wait_until(answers, "回答")
    assert (base64.b64decode(found["r1"]["data"]), found["r1"]["total"]) == (b"234", 11)
    assert (base64.b64decode(found["r2"]["data"]), found["r2"]["offset"]) == (b"789\n", 7)
    assert found["r3"]["code"] == "no_output"
    yard.request_end(job_id, "CANCELLED")
    yard.ended(job_id)


def test_allocation_without_a_script_is_held_until_ended(yard: NodeYard) -> None:
    job_id = yard.run(None, interactive=True)
    wait_until(lambda: yard.job(job_id)["process_id"], "占位进程")
    yard.request_end(job_id, "CANCELLED")
    assert yard.ended(job_id)["state"] == "CANCELLED"


def test_usage_of_a_running_job_is_sampled(yard: NodeYard) -> None:
    job_id = yard.run(
        "x=$(head -c 40000000 /dev/zero | tr '\\0' x)\ntouch ready; while [ ! -e go ]; do sleep 0.02; done\n"
    )
    yard.exists("ready")
    wait_until(lambda: (yard.job(job_id)["max_rss_kb"] or 0) > 39_000, "采样")
    assert yard.job(job_id)["cpu_user_s"] > 0
    (yard.output / "go").touch()
    job = yard.ended(job_id)
    assert job["max_rss_kb"] > 39_000
    assert job["read_bytes"] >= 40_000_000
