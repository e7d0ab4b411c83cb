"""收走也许不答话的文件系统上的脚本：另有一个子进程去删，挂住的是它，牧守进程照样启动、回收、管时限。

一次一个子进程，收走攒下的一批；它还没有回来，后来的攒着，太多就留在盘上。
"""

from __future__ import annotations

import os
import signal

from scns_conductor.worker.host.default_signals import restore_default_signals
from scns_conductor.worker.shepherd.own_log import log
from scns_conductor.worker.shepherd.script_files import unlink_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

WAITING_MOST = 10_000


class ScriptSweeper:
    """主循环里用：add 攒下，run 派出去，reaped 认出自己的子进程。

    helpers 收下正派着的子进程，免得当作作业的孤儿杀掉；needed：最近启动的作业说脚本目录也许不答话。
    """

    def __init__(self, helpers: set[int]) -> None:
        self.needed = False
        self._helpers = helpers
        self._waiting: list[tuple[str, int | None]] = []
        self._pid: int | None = None

    @property
    def busy(self) -> bool:
        """还有没收走的。"""
        return self._pid is not None or bool(self._waiting)

    def add(self, path: str, inode: int | None) -> None:
        """作业结束了，它的脚本不再要。inode 同 ScriptFiles.discard。"""
        if len(self._waiting) < WAITING_MOST:
            self._waiting.append((path, inode))
        else:
            log(f"script_left_behind path={path}")

    def run(self) -> None:
        """前一个子进程回来了才派下一个。"""
        if self._pid is not None or not self._waiting:
            return
        try:
            pid = os.fork()
        except OSError as error:
            log(f"script_sweep_failed error={error.strerror}")
            return
        if pid == 0:
            self._sweep()
        self._pid = pid
        self._helpers.add(pid)
        self._waiting = []

    def reaped(self, pid: int) -> bool:
        """回收的是不是它。"""
        if pid != self._pid:
            return False
        self._pid = None
        self._helpers.discard(pid)
        return True

    def close(self) -> None:
        """还在等的不管了。"""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)

    def _sweep(self) -> NoReturn:
        try:
            restore_default_signals()
            # 牧守进程的锁、套接字都不留：它不在了，下一个要拿得到。
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            for path, inode in self._waiting:
                try:
                    unlink_script(path, inode)
                except OSError as error:
                    log(f"script_unlink_failed path={path} error={error.strerror}")
        finally:
            os._exit(0)
