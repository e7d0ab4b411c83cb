"""ConductorExecutor：函数在作业里跑，结果、异常、输出、取消、驱动程序死了之后找回。"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_system import RunningSystem, start_system, wait_until
from scns_conductor.client import Client
from scns_conductor.client.executor import ConductorExecutor, JobFailed
from scns_conductor.remote_call import BAD, RemoteFailure, perform, read_result


@pytest.fixture
def folder(running_system: RunningSystem, tmp_path: Path) -> Path:
    return running_system.data_dir / "calls"


@pytest.fixture
def executor(running_system: RunningSystem, folder: Path) -> Iterator[ConductorExecutor]:
    client = Client(running_system.url, running_system.token, patience_s=60, reconnect_s=60)
    with ConductorExecutor(folder, client=client, resources={"cpus_per_task": 1}) as made:
        yield made


def test_results_and_output_come_back(executor: ConductorExecutor) -> None:
    def add(first: int, *, second: int) -> int:
        print("加一加")
        return first + second

    future = executor.submit(add, 3, second=4, resources={"time_limit": "5"})
    assert future.result(120) == 7
    assert future.output() == "加一加\n"
    assert executor.client.job(future.job_id).time_limit == 300


def test_an_exception_comes_back_with_the_remote_traceback(executor: ConductorExecutor) -> None:
    def divide(first: int, second: int) -> float:
        return first / second

    with pytest.raises(ZeroDivisionError) as caught:
        executor.submit(divide, 1, 0).result(120)
    assert "in divide" in str(caught.value.__cause__)


def test_a_map_is_one_job_array(executor: ConductorExecutor) -> None:
    before = {job.job_id for job in executor.client.jobs(name=executor.name, fields="state")}
    assert list(executor.map(lambda x, y: x * y, range(10), range(10), chunksize=3)) == [n * n for n in range(10)]
    made = list(executor.client.jobs(name=executor.name, fields="array_job_id"))
    assert len({job.array_job_id for job in made if job.job_id not in before}) == 1
    # 10 个调用，3 个一块：4 个任务。
    assert len([job for job in made if job.job_id not in before]) == 4


def test_cancel_and_failure_are_told_apart(executor: ConductorExecutor) -> None:
    held = executor.submit(time.sleep, 60, resources={"hold": True})
    assert held.cancel()
    assert held.cancelled()
    assert executor.client.wait(held.job_id, timeout_s=60).state == "CANCELLED"
    # 没有留下结果就结束了的作业。
    killed = executor.submit(time.sleep, 60, resources={"hold": True})
    executor.client.cancel(killed.job_id)
    with pytest.raises(JobFailed, match="CANCELLED"):
        killed.result(120)


def test_what_cannot_be_sent_is_told_at_once(executor: ConductorExecutor) -> None:
    with pytest.raises(RemoteFailure, match="装不了箱"):
        executor.submit(print, (each for each in []))
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(print)


def test_a_result_too_big_is_told(running_system: RunningSystem, folder: Path) -> None:
    client = Client(running_system.url, running_system.token)
    with (
        ConductorExecutor(folder, client=client, most_bytes=10_000) as executor,
        pytest.raises(RemoteFailure, match="超过上限"),
    ):
        executor.submit(lambda: b"x" * 20_000).result(120)


def test_another_python_is_told() -> None:
    call = json.dumps({"python": [2, 7], "most_bytes": 1}).encode() + b"\n"
    good, data = perform(call)
    assert good == BAD
    with pytest.raises(RemoteFailure, match=r"2\.7"):
        read_result(good + data)


DRIVER = """
import os, sys
from scns_conductor.client import Client
from scns_conductor.client.executor import ConductorExecutor

executor = ConductorExecutor(sys.argv[1], name="survivor", client=Client())
futures = [executor.submit(pow, n, 2) for n in range(4)]
executor.map(abs, [-1, -2])
print(*[future.number for future in futures], flush=True)
os._exit(9)
"""


def test_the_work_of_a_dead_driver_is_found_again(running_system: RunningSystem, folder: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(folder)]
    driver = subprocess.run(command, env=running_system.environment, stdout=subprocess.PIPE, text=True, check=False)
    assert driver.returncode == 9
    numbers = driver.stdout.split()
    client = Client(running_system.url, running_system.token)
    executor, found = ConductorExecutor.attach("survivor", folder, client=client)
    with executor:
        assert [found[number].result(120) for number in numbers] == [0, 1, 4, 9]
        rest = [future.result(120) for number, future in found.items() if number not in numbers]
        assert sorted(rest) == [[1], [2]]
        # 找回不是再来一遍：四个调用与一个数组的两个任务。
        assert len(list(client.jobs(name="survivor", fields="state"))) == 6


def pids(system: RunningSystem, word: str) -> list[int]:
    command = ["pgrep", "-P", str(system.process.pid), "-f", word]
    return [int(pid) for pid in subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()]


def test_every_result_comes_once_though_api_and_scheduler_die(scratch: Path) -> None:
    with start_system(scratch / "executor", "--nodes", "1", "--cpus", "4", "--memory", "4G") as system:
        client = Client(system.url, system.token, patience_s=120, reconnect_s=120)
        marks = system.data_dir / "marks"
        marks.mkdir()

        def once(number: int) -> int:
            with open(marks / str(number), "a") as stream:
                stream.write("x")
            return number

        with ConductorExecutor(system.data_dir / "calls", client=client) as executor:
            mapped = executor.map(once, range(40))
            futures = []
            for number in range(40, 80):
                futures.append(executor.submit(once, number))
                if number % 20 == 10:
                    for word in ("scns_conductor.api", "scns_conductor.worker"):
                        for pid in pids(system, word):
                            os.kill(pid, signal.SIGKILL)
            assert list(mapped) == list(range(40))
            assert [future.result(150) for future in futures] == list(range(40, 80))
        wait_until(lambda: pids(system, "scns_conductor.api"), 60, "API 又起来了")
        assert {path.name: path.read_text() for path in marks.iterdir()} == {str(n): "x" for n in range(80)}
