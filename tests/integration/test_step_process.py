"""作业步的任务进程：真的 fork 与信号。"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scns_conductor.worker.step.task_process import Task, TaskStarter, signal_task
from scns_conductor.worker.wire.launch_spec import JOB_KEY_VARIABLE
from scns_conductor.worker.wire.step_spec import StepSpec, StepStreams, TaskFiles, TaskSpec


@pytest.fixture
def swallowing() -> Iterator[None]:
    """与作业步的主人一样：SIGTERM 有自己的处理。"""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


def end_of(pid: int, wait_s: float = 20.0) -> int:
    """等它结束，返回退出码（负的是信号）；到时还在的杀掉。"""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_signal_right_after_the_fork_is_not_swallowed(
    swallowing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """任务刚 fork、还带着主人的信号处理、还没有自己的进程组时就要它结束，它照样结束。"""
    monkeypatch.setenv(JOB_KEY_VARIABLE, "1")
    spec = StepSpec(
        node="n1",
        step="1.0",
        tasks=[TaskSpec(rank=rank, files=TaskFiles(), env={}) for rank in range(20)],
        argv=["sleep", "300"],
        env={"PATH": os.environ["PATH"]},
        cwd=str(tmp_path),
        umask=0o022,
        streams=StepStreams(),
        shared_files=False,
        nodes={"n1": list(range(20))},
        task_count=20,
    )
    starter = TaskStarter(spec, linked=False)
    tasks = [Task(rank) for rank in range(20)]
    for task in tasks:
        starter.start(task, (None, {}))
        signal_task(task.pid, signal.SIGTERM)
    assert [end_of(task.pid) for task in tasks] == [-signal.SIGTERM] * 20
