"""管理员的程序：等着它的进程在任何一刻被 kill -9，下一个都认得它，只结束它的会话。"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_system import alive, wait_until
from scns_conductor.worker.host.process_table import read_stat
from scns_conductor.worker.host.program import MARK, RunningPrograms, end_leftovers, run_program


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for each in found:
        each.kill()
        each.wait()


def program(started: list["subprocess.Popen[bytes]"], mark: str) -> int:
    """一个停不下来的程序；返回它的进程号。"""
    process = subprocess.Popen(["sleep", "300"], env={MARK: mark}, start_new_session=True)
    started.append(process)
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", 10, "换成了它")
    return process.pid


def test_killed_before_the_process_number_was_written(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    mark, variables = RunningPrograms(tmp_path).expect()
    RunningPrograms(tmp_path).expect()
    assert variables == {MARK: mark}
    # 它留在后台、另立会话的开始得晚。
    found, daemon, unknown = (program(started, each) for each in (mark, mark, "别的系统的"))
    assert end_leftovers(tmp_path) == [found]
    assert started[0].wait() == -signal.SIGKILL
    assert alive(daemon)
    assert alive(unknown)
    assert list(tmp_path.iterdir()) == []


def test_killed_while_it_ran(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    running = RunningPrograms(tmp_path)
    mark, _ = running.expect()
    found = program(started, mark)
    running.add(mark, found)
    # 它留在后台、另立会话的，环境里也有记号。
    daemon = program(started, mark)
    assert end_leftovers(tmp_path) == [found]
    assert alive(daemon)


def test_a_number_that_somebody_else_has_now(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    running = RunningPrograms(tmp_path)
    mark, _ = running.expect()
    running.add(mark, os.getpid())
    (record,) = tmp_path.iterdir()
    record.write_text(f"{program(started, mark)} 1.00")
    assert end_leftovers(tmp_path) == []
    (tmp_path / "program_torn").write_text("乱 写的")
    assert end_leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_the_version_before(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    found = program(started, "没有记号")
    stat = read_stat(found)
    assert stat is not None
    (tmp_path / f"program_{found}").write_text(f"{stat.start_s:.2f}")
    assert end_leftovers(tmp_path) == [found]


def test_it_may_run_our_own_commands(tmp_path: Path) -> None:
    """记号不被当作写错了的设置项。"""
    ours = [sys.executable, "-c", "from scns_conductor.core.settings import load_settings; load_settings()"]
    assert run_program(ours, {"PATH": os.defpath}, 60, RunningPrograms(tmp_path)) is None


def test_nothing_stays_behind(tmp_path: Path) -> None:
    running = RunningPrograms(tmp_path)
    look = (
        f"import os, sys; names = os.listdir({str(tmp_path)!r}); sys.exit(names != ['program_' + os.environ['{MARK}']])"
    )
    assert run_program([sys.executable, "-c", look], {}, 30, running) is None
    assert "无法运行" in str(run_program(["/nonexistent"], {}, 30, running))
    assert "超过" in str(run_program(["/bin/sleep", "30"], {}, 0.05, running))
    assert list(tmp_path.iterdir()) == []
