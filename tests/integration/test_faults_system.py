"""整个系统的故障：提交途中 API 被 kill -9；监督者连同全部服务被 kill -9 之后重新启动。"""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from running_system import RunningSystem, alive, start_system, wait_until
from scns_conductor.client import JsonClient, Problem, Unreachable
from scns_conductor.worker.host import process_table

pytestmark = pytest.mark.faults

CLIENTS = 4
JOBS_EACH = 30


def children(system: RunningSystem, word: bytes) -> list[int]:
    """监督者的子进程里命令行含 word 的。"""
    found = []
    for stat in process_table.snapshot().values():
        if stat.parent == system.process.pid and stat.state not in "ZX":
            with contextlib.suppress(OSError):  # 列出之后它结束了
                if word in Path(f"/proc/{stat.pid}/cmdline").read_bytes():
                    found.append(stat.pid)
    return found


def submit_all(system: RunningSystem, output: Path, name: int, ids: list[str], errors: list[str]) -> None:
    """一个客户端：逐个提交，断了就带着同一个幂等键再来。"""
    with JsonClient(system.url, system.token, timeout_s=20) as client:
        for number in range(JOBS_EACH):
            key = f"client{name}-{number}"
            job = {"name": key, "current_working_directory": str(output), "standard_output": "/dev/null"}
            for _ in range(400):
                try:
                    ids.append(client.submit(job, "echo $SLURM_JOB_NAME >> runs\n", idempotency_key=key))
                    break
                except Unreachable:
                    continue
                except Problem as problem:
                    if problem.status != 503:
                        errors.append(str(problem))
                        return
            else:
                errors.append(f"{key} 一直提交不上")


def test_api_killed_amid_submissions_loses_and_doubles_nothing(tmp_path: Path, scratch: Path) -> None:
    """四个客户端同时提交，API 被反复 kill -9：重试带着同一个键，恰好一人一份。"""
    with start_system(scratch / "api-killed", "--nodes", "1", "--cpus", "32", "--memory", "32G") as system:
        ids: list[list[str]] = [[] for _ in range(CLIENTS)]
        errors: list[str] = []
        threads = [
            threading.Thread(target=submit_all, args=(system, tmp_path, name, ids[name], errors))
            for name in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        killed = 0
        for least in (10, 40, 80):
            wait_until(lambda least=least: sum(map(len, ids)) >= least or errors, 60, "提交在进行")  # type: ignore[misc]
            for pid in wait_until(lambda: system.services("api"), 60, "API 在运行"):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        for thread in threads:
            thread.join(120)
        assert errors == []
        assert killed >= 3
        accepted = [job_id for each in ids for job_id in each]
        assert len(set(accepted)) == len(accepted) == CLIENTS * JOBS_EACH
        for job_id in accepted:
            assert system.wait_state(job_id)["state"] == "COMPLETED"
        status, page = system.call("GET", "/jobs?limit=1000&fields=job_id,name")
        assert status == 200
        assert len(page["jobs"]) == CLIENTS * JOBS_EACH
    lines = (tmp_path / "runs").read_text().split()
    assert sorted(lines) == sorted({f"client{name}-{number}" for name in range(CLIENTS) for number in range(JOBS_EACH)})


def test_everything_killed_and_started_again_finishes_every_job(tmp_path: Path, scratch: Path) -> None:
    """监督者、API、调度器、代理、两个引擎同时 kill -9；重新启动之后，运行中的接上，排队的跑完，什么也没有跑两遍。"""
    data = scratch / "all-killed"
    go = tmp_path / "go"
    with start_system(data, "--nodes", "1", "--cpus", "2", "--memory", "4G") as system:
        running = system.submit(f"echo running >> {tmp_path}/runs; while [ ! -e {go} ]; do sleep 0.1; done; exit 9\n")
        ends_meanwhile = system.submit(f"echo meanwhile >> {tmp_path}/runs; while [ ! -e {go}2 ]; do sleep 0.1; done\n")
        for job_id in (running, ends_meanwhile):
            system.wait_state(job_id, "RUNNING")
        wait_until(lambda: (tmp_path / "runs").exists() and len((tmp_path / "runs").read_text().split()) == 2, 60)
        waiting = [system.submit(f"echo {number} >> {tmp_path}/runs\n") for number in range(10)]
        services = [pid for word in (b"scns_conductor", b"postgres", b"valkey") for pid in children(system, word)]
        assert len(services) >= 5
        for pid in (system.process.pid, *services):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in services), 60, "全部消失")
        system.process.wait()
    Path(f"{go}2").touch()
    with start_system(data, "--nodes", "1", "--cpus", "2", "--memory", "4G") as again:
        assert again.wait_state(ends_meanwhile)["state"] == "COMPLETED"
        go.touch()
        answer = again.wait_state(running)
        assert (answer["state"], answer["detail"]["exit_code"]) == ("FAILED", "9:0")
        for job_id in waiting:
            assert again.wait_state(job_id)["state"] == "COMPLETED"
    lines = (tmp_path / "runs").read_text().split()
    assert sorted(lines) == sorted(["running", "meanwhile", *map(str, range(10))])
