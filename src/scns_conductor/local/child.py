"""子进程的启动：自成会话、信号恢复原样、父进程没了就跟着结束。"""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)

# 监督者用 sigtimedwait 收信号，所以阻塞着它们；子进程必须放开。
SUPERVISED_SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def _before_exec(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def prepare() -> None:
        # 换身份会清掉这个设置；subprocess 先换身份再调用这里，次序正好。
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISED_SIGNALS)

    return prepare


def start_child(
    command: Sequence[str],
    *,
    log: Path | None,
    environment: Mapping[str, str],
    cwd: str = "/",
    death_signal: signal.Signals = signal.SIGTERM,
    pass_fds: Sequence[int] = (),
    stdin: bytes | None = None,
    identity: Mapping[str, Any] | None = None,
) -> "subprocess.Popen[bytes]":
    """启动一个子进程，输出追加到 log（None 则沿用父进程的）。父进程异常死亡时它收到 death_signal。

    须在主线程里调用：内核以启动它的线程为准。
    """
    opened = contextlib.nullcontext(None) if log is None else open(log, "ab", opener=_private)  # noqa: SIM115
    with opened as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            preexec_fn=_before_exec(os.getpid(), death_signal),  # 这里没有别的线程
            **(identity or {}),
        )
    if stdin is not None:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
    return process


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def directory_handle(directory: Path) -> Iterator[int]:
    """目录的描述符。传给子进程后写作 /proc/self/fd/N：不必从根走起，上级目录不许进也无妨。"""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def log_tail(log: Path | None, size: int = 2000) -> str:
    """日志的末尾，写进出错的说明里。"""
    if log is None:
        return ""
    try:
        with open(log, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - size))
            return stream.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
