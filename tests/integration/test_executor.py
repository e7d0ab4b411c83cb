"""ConductorExecutor：函数在作业里跑，结果、异常、输出、取消、驱动程序死了之后找回。"""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import pytest

from running_system import RunningSystem, start_system, wait_until
from scns_conductor.client import Client, Problem
from scns_conductor.client.executor import ConductorExecutor
from scns_conductor.client.job_future import JobFailed
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.remote_call import BAD, RemoteFailure, perform, read_result


@pytest.fixture
def folder(running_system: RunningSystem, tmp_path: Path) -> Path:
    return running_system.data_dir / "calls"


@pytest.fixture(scope="module")
def chaos(scratch: Path) -> Iterator[RunningSystem]:
    with start_system(scratch / "executor", "--nodes", "1", "--cpus", "4", "--memory", "4G") as system:
        yield system


@pytest.fixture(params=["folder", "api"])
def executor(
    running_system: RunningSystem, folder: Path, request: pytest.FixtureRequest
) -> Iterator[ConductorExecutor]:
    """经共用的目录，与只经 API：做的事一样。"""
    client = Client(running_system.url, running_system.token, patience_s=60, reconnect_s=60)
    resources = {"cpus_per_task": 1, "current_working_directory": str(running_system.data_dir)}
    if request.param == "folder":
        with ConductorExecutor(folder, client=client, resources={"cpus_per_task": 1}) as made:
            yield made
    else:
        with ConductorExecutor(client=client, resources=resources) as made:
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
    # 标准库等 Future 的也要知道。
    assert wait([held], timeout=60).done == {held}
    assert executor.client.wait(held.job_id, timeout_s=60).state == "CANCELLED"
    # 数组里没有启动就取消了的任务，没有自己的行。
    mapped = executor.map(time.sleep, [60, 60], resources={"hold": True})
    [array] = [job.job_id for job in executor.client.jobs(name=executor.name, state="PENDING", fields="state")]
    executor.client.cancel(f"{array}_1")
    executor.client.cancel(array)
    with pytest.raises(JobFailed, match="CANCELLED"):
        list(mapped)
    # 没有留下结果就结束了的作业。
    killed = executor.submit(time.sleep, 60, resources={"hold": True})
    executor.client.cancel(killed.job_id)
    with pytest.raises(JobFailed, match="CANCELLED"):
        killed.result(120)


def test_what_is_cancelled_while_it_starts_is_over(executor: ConductorExecutor) -> None:
    """取消与启动抢着来：每一个都有个了断，作业也不留下。"""
    futures = [executor.submit(time.sleep, 60) for _ in range(6)]
    wait_until(lambda: any(future.running() for future in futures), 60, "有的在跑")
    assert all(future.cancel() for future in futures)
    assert not any(future.running() for future in futures)
    with pytest.raises(CancelledError):
        futures[0].result()
    ended = executor.client.as_completed([future.job_id for future in futures], timeout_s=60)
    assert {job.state for job in ended} == {"CANCELLED"}


def test_what_cannot_be_sent_is_told_at_once(executor: ConductorExecutor) -> None:
    with pytest.raises(RemoteFailure, match="装不了箱"):
        executor.submit(print, (each for each in []))
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(print)


def test_what_is_too_big_is_told(running_system: RunningSystem, folder: Path) -> None:
    client = Client(running_system.url, running_system.token)
    for place in (folder, None):
        with ConductorExecutor(
            place, client=client, most_bytes=10_000, resources={"current_working_directory": str(folder.parent)}
        ) as executor:
            with pytest.raises(RemoteFailure, match="超过上限"):
                executor.submit(lambda: b"x" * 20_000).result(120)
            with pytest.raises(RemoteFailure, match="超过上限"):
                executor.submit(len, b"x" * 20_000)


def test_another_python_is_told() -> None:
    good, data = perform({"python": [2, 7], "most_bytes": 1, "each": False}, b"", b"")
    assert good == BAD
    with pytest.raises(RemoteFailure, match=r"2\.7"):
        read_result(good + data)


def test_a_python_that_is_not_there_is_told(executor: ConductorExecutor) -> None:
    with (
        ConductorExecutor(
            executor.folder, client=executor.client, python="/no/such/python", resources=executor._resources
        ) as elsewhere,
        pytest.raises(JobFailed, match="/no/such/python: No such file"),
    ):
        elsewhere.submit(abs, -1).result(120)


def test_a_node_needs_only_cloudpickle(executor: ConductorExecutor, tmp_path: Path) -> None:
    """只经 API 时节点上不必装本系统：这个 Python 只看得到 cloudpickle。"""
    if executor.folder is not None:
        pytest.skip("经目录的用装好的")
    import cloudpickle

    (tmp_path / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)

    def seen() -> tuple[int, bool]:
        import importlib.util

        return os.getpid(), importlib.util.find_spec("sqlalchemy") is None

    with ConductorExecutor(client=executor.client, python=str(bare), resources=executor._resources) as elsewhere:
        assert elsewhere.submit(seen).result(120)[1]
        with pytest.raises(RemoteFailure, match="超过上限"):
            elsewhere.submit(lambda: "x" * (9 << 20)).result(120)


def test_a_call_may_wait_for_another(executor: ConductorExecutor) -> None:
    one = executor.submit(lambda: [1, 2, 3])
    total = executor.submit(lambda words, *, start: sum(words["numbers"]) + start[0], {"numbers": one}, start=one)
    assert total.result(120) == 7
    assert executor.client.job(total.job_id).start_time >= executor.client.job(one.job_id).end_time  # type: ignore[operator]

    bad = executor.submit(lambda: 1 / 0)
    after = executor.submit(lambda found: found, bad)
    with pytest.raises(JobFailed, match="CANCELLED") as caught:
        after.result(120)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


DRIVER = """
import os, sys
from scns_conductor.client.executor import ConductorExecutor

name, folder = sys.argv[1:]
executor = ConductorExecutor(folder or None, name=name, resources={"current_working_directory": os.getcwd()})
futures = [executor.submit(pow, n, 2) for n in range(4)]
executor.map(abs, [-1, -2])
print(*[future.number for future in futures], flush=True)
os._exit(9)
"""


@pytest.mark.parametrize("kind", ["folder", "api"])
def test_the_work_of_a_dead_driver_is_found_again(running_system: RunningSystem, folder: Path, kind: str) -> None:
    name = f"survivor-{kind}"
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, name, str(folder) if kind == "folder" else ""],
        env=running_system.environment, cwd=running_system.data_dir, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert driver.returncode == 9
    numbers = driver.stdout.split()
    client = Client(running_system.url, running_system.token)
    # 只凭名字：目录是提交时的。
    executor, found = ConductorExecutor.attach(name, client=client)
    with executor:
        assert list(found)[:4] == numbers
        assert [found[number].result(120) for number in numbers] == [0, 1, 4, 9]
        rest = [future.result(120) for number, future in found.items() if number not in numbers]
        assert rest == [[1], [2]]
    # 找回不是再来一遍：四个调用与一个数组的两个任务。
    again, twice = ConductorExecutor.attach(name, client=client)
    with again:
        assert [twice[number].result(120) for number in found] == [found[number].result() for number in found]
    assert len(list(client.jobs(name=name, fields="state"))) == 6
    with pytest.raises(LookupError, match="nobody"):
        ConductorExecutor.attach("nobody", client=client)


def test_what_was_written_down_but_not_submitted_is_submitted_once(
    running_system: RunningSystem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """驱动程序死在记下之后、提交之前（或回答之前）：attach 用同一个键提交，不会有两个。"""

    class Died(BaseException):
        pass

    client = Client(running_system.url, running_system.token)
    executor = ConductorExecutor(folder, name="halfway", client=client)

    def answer_lost(*words: Any, **named: Any) -> Any:
        Client.submit.__get__(client, Client)(*words, **named)
        raise Died

    def died(*words: Any, **named: Any) -> Any:
        raise Died

    for dying in (died, answer_lost):
        monkeypatch.setattr(client, "submit", dying, raising=False)
        with pytest.raises(Died):
            executor.submit(pow, 3, 2)
    monkeypatch.undo()
    attached, found = ConductorExecutor.attach("halfway", folder, client=client)
    with attached:
        assert [future.result(120) for future in found.values()] == [9, 9]
    assert len(list(client.jobs(name="halfway", fields="state"))) == 2
    # 收没收不知道的也取消得了：只经 API 的没有记录，同一个键再送一遍。
    lost = ConductorExecutor(name="doubtful", client=client, resources={"hold": True})
    monkeypatch.setattr(client, "submit", answer_lost, raising=False)
    with pytest.raises(Died):
        lost.submit(pow, 3, 2)
    monkeypatch.undo()
    lost.shutdown(cancel_futures=True)
    assert [job.state for job in client.jobs(name="doubtful", fields="state")] == ["CANCELLED"]
    # 服务器不收的不留记录。
    with pytest.raises(Problem):
        ConductorExecutor(folder, name="refused", client=client, resources={"partition": "nowhere"}).submit(abs, -1)
    assert not list((folder / "refused").iterdir())


# 测试在后台跑时 SIGINT 是被忽略着继承来的：先恢复成人在终端上的样子。
CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from scns_conductor.client.executor import ConductorExecutor
with ConductorExecutor(name=sys.argv[1], on_interrupt=sys.argv[1], resources={"hold": True}) as executor:
    executor.submit(abs, -1)
    print("ready", flush=True)
    executor.submit(abs, -2).result()
"""


def test_ctrl_c_leaves_or_cancels_as_told(running_system: RunningSystem) -> None:
    client = Client(running_system.url, running_system.token)
    for told, state in (("leave", "PENDING"), ("cancel", "CANCELLED"), ("ask", "PENDING")):
        process = subprocess.Popen(
            [sys.executable, "-c", CTRL_C, told], env=running_system.environment, cwd=running_system.data_dir,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda told=told: len(list(client.jobs(name=told, fields="state"))) == 2, 60)
        # 恰好落在析构函数里的 Ctrl-C 被 Python 吞掉：人会再按一次。
        for _ in range(6):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
        assert (f"attach('{told}')" in said) == (state == "PENDING"), said
        assert {job.state for job in client.jobs(name=told, fields="state")} == {state}
    client.control("cancel", conditions={"name": "leave,ask"})


def test_ctrl_c_asks_at_a_terminal(running_system: RunningSystem) -> None:
    """在终端上问：答 y 都取消。"""
    code = CTRL_C.replace("on_interrupt=sys.argv[1], ", "")
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "asked"], env=running_system.environment, cwd=running_system.data_dir,
        stdin=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    client = Client(running_system.url, running_system.token)
    with os.fdopen(here, "wb"):
        wait_until(lambda: len(list(client.jobs(name="asked", fields="state"))) == 2, 60)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(6):
            process.send_signal(signal.SIGINT)
            if select.select([process.stdout], [], [], 10)[0]:
                break
        os.write(here, b"y\n")
        said, _ = process.communicate(timeout=60)
    os.close(there)
    assert "还有 2 个调用没有结束。取消它们吗？" in said
    assert {job.state for job in client.jobs(name="asked", fields="state")} == {"CANCELLED"}


def test_an_expired_token_does_not_lose_the_work(running_system: RunningSystem, folder: Path) -> None:
    """令牌中途过期：等着的接着等，说一声；换了新的就都有结果。"""
    settings = Settings(data_dir=running_system.data_dir)
    gate = running_system.data_dir / "token-gate"

    def gated(number: int) -> int:
        while not gate.exists():
            time.sleep(0.05)
        return number

    tokens = [running_system.token]
    resources = {"current_working_directory": str(running_system.data_dir)}
    with (
        Client(running_system.url, lambda: tokens[-1]) as client,
        ConductorExecutor(client=client, resources=resources) as executor,
    ):
        futures = [executor.submit(gated, number) for number in range(3)]
        tokens.append(issue_token(settings, "root", lifetime_s=-60))
        client.transport.place.token = tokens[-1]
        with pytest.warns(RuntimeWarning, match="接着等"):
            wait_until(lambda: executor._warned, 60, "说令牌过期了")
        gate.touch()
        tokens.append(running_system.token)
        assert [future.result(120) for future in futures] == [0, 1, 2]


# 多做些：EXECUTOR_CALLS=1000 EXECUTOR_AWAY_S=60 make test ARGS='-k every_result'
CALLS = int(os.environ.get("EXECUTOR_CALLS", "32"))
AWAY_S = float(os.environ.get("EXECUTOR_AWAY_S", "1"))


@pytest.mark.timeout(180 + CALLS + 3 * AWAY_S)
@pytest.mark.parametrize("way", ["folder", "api"])
@pytest.mark.faults
def test_every_result_comes_once_though_api_and_scheduler_die(chaos: RunningSystem, way: str) -> None:
    """一半是一个数组，一半逐个提交；中途调度器被杀，API 一起来就被杀，连着一会儿。"""
    client = Client(chaos.url, chaos.token, patience_s=120 + AWAY_S, reconnect_s=120 + AWAY_S)
    marks = chaos.data_dir / f"marks-{way}"
    marks.mkdir()

    def once(number: int) -> int:
        with open(marks / str(number), "a") as stream:
            stream.write("x")
        return number

    folder = chaos.data_dir / "calls" if way == "folder" else None
    place = {} if folder else {"current_working_directory": str(chaos.data_dir)}
    away_until = 0.0
    half = CALLS // 2

    def away() -> None:
        while time.monotonic() < away_until:
            chaos.kill("api")
            time.sleep(0.05)

    with ConductorExecutor(folder, client=client, resources=place) as executor:
        mapped = executor.map(once, range(half), chunksize=2)
        futures = [executor.submit(once, number) for number in range(half, half + half // 2)]
        for module in ("worker.scheduler.process", "worker.agent.process", "worker.background.process"):
            chaos.kill(module)
        away_until = time.monotonic() + AWAY_S
        killer = threading.Thread(target=away)
        killer.start()
        # API 不在的时候照样提交。
        futures += [executor.submit(once, number) for number in range(half + half // 2, CALLS)]
        killer.join()
        assert list(mapped) == list(range(half))
        assert [future.result(150 + CALLS) for future in futures] == list(range(half, CALLS))
    assert {path.name: path.read_text() for path in marks.iterdir()} == {str(n): "x" for n in range(CALLS)}
