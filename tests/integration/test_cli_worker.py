"""scns worker：一条命令就有节点代理与调度候选；停下后作业照跑。"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until

from scns_conductor.core.settings import Settings

SCNS = str(Path(sys.executable).parent / "scns")


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def start_worker(yard: NodeYard, *options: str) -> "subprocess.Popen[bytes]":
    with open(yard.work / "n1.log", "ab") as log:
        process = subprocess.Popen(
            [SCNS, "worker", *options], env=yard.environment("n1"), stdout=log, stderr=log, cwd=yard.work
        )
    # 由 yard 收尾，牧守进程也在内。
    yard.agents["n1"] = process
    return process


def ended(yard: NodeYard, job_id: int) -> str | None:
    row = yard.query("SELECT state FROM jobs WHERE job_id = :job_id AND end_time IS NOT NULL", job_id=job_id)
    return str(row[0]["state"]) if row else None


def test_one_command_schedules_and_runs_jobs_and_jobs_outlive_it(yard: NodeYard) -> None:
    yard.work.joinpath("n1").mkdir()
    go_on = yard.work / "go-on"
    short = yard.submit("exit 0\n")
    long = yard.submit(f"while [ ! -e {go_on} ]; do sleep 0.1; done\n")
    first = start_worker(yard, "--scheduler")
    wait_until(lambda: ended(yard, short) == "COMPLETED", "短作业结束")
    wait_until(lambda: yard.query("SELECT 1 FROM jobs WHERE job_id = :j AND state = 'RUNNING'", j=long), "长作业运行")
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    second = start_worker(yard)
    go_on.touch()
    wait_until(lambda: ended(yard, long) == "COMPLETED", "长作业结束")
    assert second.poll() is None
    assert yard.query("SELECT restart_count FROM jobs WHERE job_id = :j", j=long)[0]["restart_count"] == 0


def test_options_that_leave_nothing_to_run_are_refused(yard: NodeYard) -> None:
    answer = subprocess.run(
        [SCNS, "worker", "--no-agent", "--no-scheduler"], env=yard.environment("n1"), capture_output=True, check=False
    )
    assert answer.returncode == 2


def test_the_api_host_schedules_and_a_plain_worker_does_not(yard: NodeYard) -> None:
    yard.work.joinpath("n1").mkdir()
    job = yard.submit("exit 0\n")
    start_worker(yard)
    wait_until(lambda: yard.query("SELECT 1 FROM nodes WHERE state = 'UP'"), "节点在线")
    with open(yard.work / "api.log", "ab") as log:
        api = subprocess.Popen(
            [SCNS, "api", "--port", "0"], env=yard.environment("n1"), stdout=log, stderr=log, cwd=yard.work
        )
    try:
        wait_until(lambda: ended(yard, job) == "COMPLETED", "API 的机器上的调度器启动了它")
    finally:
        api.send_signal(signal.SIGTERM)
        assert api.wait(30) == 0
    assert not yard.query("SELECT 1 FROM scheduler_leader WHERE backend_pid IS NOT NULL"), "让了位"


def test_an_api_with_bad_settings_says_so_and_ends(yard: NodeYard) -> None:
    answer = subprocess.run(
        [SCNS, "api", "--host", "0.0.0.0"], env=yard.environment("n1"), capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 2
    assert "SCNS_JWT_KEY_FILE" in answer.stderr
