"""由载入好了的进程 fork 出来的 scns up，它的 Python 服务也 fork：照样是它的孩子，收它的信号，由它收尸。

省下的只是启动 Python 与导入。引擎与看板照旧从头启动。
"""

import atexit
import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any

from scns_conductor.core.settings import load_settings
from scns_conductor.local import child
from scns_conductor.local.host_names import OWN_MOUNTS, SYSTEM_HOSTS

# 已经载入的（warm_commands.py 的 SERVICES）。
MODULES = {
    "scns_conductor.api",
    "scns_conductor.worker.scheduler.process",
    "scns_conductor.worker.agent.process",
    "scns_conductor.worker.background.process",
}

# unshare(2)、mount(2)。
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000

Become = Callable[[list[str], dict[str, str], str, list[int]], None]


class ForkedChild:
    """监督者用得到的 Popen。"""

    returncode: int | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """退出码；还在跑是 None。"""
        if self.returncode is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def wait(self) -> int:
        """等它结束。"""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """结束了的不理。"""
        if self.poll() is None:
            os.kill(self.pid, number)


def _service(command: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """载入好了的服务的命令：（前面的词，python 之后的词）；别的是 None。前面的词只认 names_prefix 的。"""
    if sys.executable not in command:
        return None
    place = command.index(sys.executable)
    before, words = list(command[:place]), list(command[place + 1 :])
    known = not before or before[: len(OWN_MOUNTS)] == list(OWN_MOUNTS)
    return (before, words) if known and words[0] == "-m" and words[1] in MODULES else None


def _own_hosts(hosts: str) -> None:
    """这个进程从此看到的 /etc/hosts 是 hosts，同 names_prefix 的命令。"""
    libc = ctypes.CDLL(None, use_errno=True)
    for call, *arguments in (
        (libc.unshare, CLONE_NEWNS),
        (libc.mount, b"none", b"/", None, MS_REC | MS_SLAVE, None),
        (libc.mount, hosts.encode(), str(SYSTEM_HOSTS).encode(), None, MS_BIND, None),
    ):
        if call(*arguments):
            raise OSError(ctypes.get_errno(), "进不了自己的挂载空间")


class _Subprocess:
    """child.py 眼里的 subprocess：起得了的 fork，别的照旧。"""

    DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE

    def __init__(self, become: Become) -> None:
        self._become = become

    def Popen(  # noqa: N802
        self,
        command: list[str],
        *,
        env: dict[str, str],
        cwd: str,
        stdout: IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
        preexec_fn: Callable[[], None],
        **rest: Any,
    ) -> "ForkedChild | subprocess.Popen[bytes]":
        service = _service(command)
        if service is None or stdout is None:
            return subprocess.Popen(
                command, env=env, cwd=cwd, stdout=stdout, pass_fds=pass_fds, preexec_fn=preexec_fn, **rest
            )
        before, words = service
        log = stdout.fileno()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.setsid()
                preexec_fn()
                if before:
                    _own_hosts(before[-1])
                kept = {*pass_fds, 0, 1, 2, log}
                for each in os.listdir("/proc/self/fd"):
                    if int(each) not in kept:
                        with contextlib.suppress(OSError):
                            os.close(int(each))
                # scns up 的不是它的：到时要做的事、缓存的设置。
                atexit._clear()
                load_settings.cache_clear()
                null = os.open(os.devnull, os.O_RDONLY)
                self._become(words, env, cwd, [null, os.dup(log), log])
            os._exit(1)
        return ForkedChild(pid)


def fork_services(become: Become) -> None:
    """这个进程从此启动的服务都 fork；become 使 fork 出来的成为它，不返回。"""
    child.subprocess = _Subprocess(become)  # type: ignore[assignment]
