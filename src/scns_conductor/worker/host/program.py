"""运行管理员的程序（prolog、健康检查、RebootProgram、ResumeProgram……）：有期限，自成一个会话，到时一起杀掉。"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_CHARS = 500


class RunningPrograms:
    """正在跑的程序；要停下时一起结束，以后启动的也立即结束。"""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._stopping = False

    def add(self, pid: int) -> None:
        """记下一个刚启动的。"""
        with self._lock:
            self._pids.add(pid)
            if self._stopping:
                _kill_session(pid)

    def discard(self, pid: int) -> None:
        """它结束了。"""
        with self._lock:
            self._pids.discard(pid)

    def stop(self) -> None:
        """结束正在跑的，以后启动的也立即结束。"""
        with self._lock:
            self._stopping = True
            for pid in self._pids:
                _kill_session(pid)


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
    process = subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
    )
    running.add(process.pid)
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill_session(process.pid)
        process.wait()
        return f"{command[0]} 运行超过 {timeout_s:g} 秒" + _tail(output)
    finally:
        running.discard(process.pid)
    return None if process.returncode == 0 else f"{command[0]} 以 {process.returncode} 退出" + _tail(output)


def _tail(descriptor: int) -> str:
    """“：”加输出的末尾；没有输出是空的。"""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 4 * _OUTPUT_CHARS, max(0, size - 4 * _OUTPUT_CHARS)).decode("utf-8", "replace")
    # 数据库的文字里不能有 NUL。
    found = text.replace("\0", "").strip()[-_OUTPUT_CHARS:]
    return f"：{found}" if found else ""
