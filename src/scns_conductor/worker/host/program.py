"""运行管理员的程序（prolog、健康检查、RebootProgram、ResumeProgram……）：有期限，自成一个会话，到时一起杀掉。

等着它的进程被 kill -9，它还在跑：记在盘上的，下一个进程开工之前结束掉（end_leftovers），不与重来的一遍同时跑。
启动之前先记下它环境里的记号，启动之后再写进程号：在这之间被杀的，也凭记号认得它。
"""

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scns_conductor.worker.host.process_table import ProcessStat, read_stat, snapshot

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_CHARS = 500
# 记在盘上的：目录/program_记号，内容是进程号与它何时开始（开机秒）；还没有启动完是空的。
# 上一个版本的是 program_进程号，内容只有何时开始。
_RECORD = "program_"
# 记号在它环境里的名字。
MARK = "SCNS_PROGRAM"
LEFTOVER_WAIT_S = 5.0


class RunningPrograms:
    """正在跑的程序；要停下时一起结束，以后启动的也立即结束。folder 是记在哪里，None 是不记。"""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        # 记号 -> 进程号。
        self._pids: dict[str, int] = {}
        self._stopping = False

    def expect(self) -> tuple[str, dict[str, str]]:
        """就要启动一个：先记下，返回它的记号与要给它的环境变量（不记的没有）。"""
        mark = secrets.token_hex(8)
        self._write(mark, "")
        return mark, {} if self._folder is None else {MARK: mark}

    def add(self, mark: str, pid: int) -> None:
        """启动了。"""
        if (stat := read_stat(pid)) is not None:
            self._write(mark, f"{pid} {stat.start_s:.2f}")
        with self._lock:
            self._pids[mark] = pid
            if self._stopping:
                _kill_session(pid)

    def discard(self, mark: str) -> None:
        """它结束了，或没有启动成。"""
        with self._lock:
            self._pids.pop(mark, None)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / f"{_RECORD}{mark}").unlink()

    def _write(self, mark: str, text: str) -> None:
        if self._folder is not None:
            # 盘满了也照跑：只是被 kill -9 之后没有人认得它。
            with contextlib.suppress(OSError):
                (self._folder / f"{_RECORD}{mark}").write_text(text)

    def stop(self) -> None:
        """结束正在跑的，以后启动的也立即结束。"""
        with self._lock:
            self._stopping = True
            for pid in self._pids.values():
                _kill_session(pid)


def end_leftovers(folder: Path) -> list[int]:
    """结束前一个进程留下的（连同会话里的全部），等它们消失，至多 LEFTOVER_WAIT_S 秒；返回是哪些进程号。"""
    ended = []
    deadline = time.monotonic() + LEFTOVER_WAIT_S
    for record in folder.glob(f"{_RECORD}*"):
        with contextlib.suppress(OSError, ValueError):
            for pid in _recorded(record):
                ended.append(pid)
                _end_session(pid, deadline)
        # 它自己早做完了的，留在后台的不管。
        record.unlink(missing_ok=True)
    return ended


def _recorded(record: Path) -> list[int]:
    """这条记录说的、还活着的进程号。"""
    name = record.name.removeprefix(_RECORD)
    if text := record.read_text():
        pid, start_s = text.split() if " " in text else (name, text)
        return [int(pid)] if _is_it(read_stat(int(pid)), float(start_s)) else []
    mark = f"{MARK}={name}".encode()
    marked = [stat for stat in snapshot().values() if stat.session == stat.pid and mark in _environment(stat.pid)]
    # 它留在后台、另立会话的也有记号，开始得晚：只认最早的。
    return [stat.pid for stat in sorted(marked, key=lambda stat: stat.start_s)[:1]]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_it(stat: ProcessStat | None, start_s: float) -> bool:
    """还活着，而且不是又用了这个号的别人。"""
    return (
        stat is not None and stat.state not in "ZX" and stat.session == stat.pid and abs(stat.start_s - start_s) < 0.1
    )


def _end_session(pid: int, deadline: float) -> None:
    """SIGKILL，直到会话里没有活着的或到期。"""
    while True:
        alive = [stat.pid for stat in snapshot().values() if stat.session == pid and stat.state not in "ZX"]
        if not alive or time.monotonic() > deadline:
            return
        for each in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.02)


def _kill_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    running: RunningPrograms | None = None,
) -> str | None:
    """运行并等它自己结束（它留在后台的不等），至多 timeout_s 秒；成功返回 None，失败返回中文原因（含输出的末尾）。"""
    # 输出进文件而不是管道：留在后台的子进程占着管道，会让人以为它还没有结束。
    try:
        with tempfile.TemporaryFile() as output:
            return _run(command, environment, timeout_s, running or RunningPrograms(), output.fileno())
    except OSError as error:
        return f"{command[0]} 无法运行：{error.strerror}"


def _run(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float, running: RunningPrograms, output: int
) -> str | None:
    mark, marked = running.expect()
    try:
        process = subprocess.Popen(
            list(command),
            env={**environment, **marked},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
        running.add(mark, process.pid)
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill_session(process.pid)
        process.wait()
        return f"{command[0]} 运行超过 {timeout_s:g} 秒" + _tail(output)
    finally:
        running.discard(mark)
    return None if process.returncode == 0 else f"{command[0]} 以 {process.returncode} 退出" + _tail(output)


def _tail(descriptor: int) -> str:
    """“：”加输出的末尾；没有输出是空的。"""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 4 * _OUTPUT_CHARS, max(0, size - 4 * _OUTPUT_CHARS)).decode("utf-8", "replace")
    # 数据库的文字里不能有 NUL。
    found = text.replace("\0", "").strip()[-_OUTPUT_CHARS:]
    return f"：{found}" if found else ""
