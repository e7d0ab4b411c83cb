"""一个进程的全部线程归一个主人：任何一个意外死去，都记下经过、以非零退出，由监督者重启；悄悄少一个线程比死掉更坏。

立即退出而不慢慢收拾：代理与调度进程本来就可以随时 kill -9，牧守进程与数据库里什么都在；别的线程也许正挂着，等不得。
都是守护线程：挂在不答话的文件系统上的，不能拦着进程退出。
"""

import contextlib
import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import NoReturn

# sysexits.h 的 EX_SOFTWARE。
EXIT_THREAD_DIED = 70
# 没有事做的线程等这么久才散去。
IDLE_S = 10.0

logger = logging.getLogger(__name__)


def die(name: str, error: BaseException) -> NoReturn:
    """线程 name 因 error 死去：记下经过，整个进程立即退出。"""
    try:
        logger.critical("thread_died", extra={"died": name}, exc_info=error)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    finally:
        os._exit(EXIT_THREAD_DIED)


def own_every_thread() -> None:
    """此后本进程里任何线程的意外死亡都结束进程，不论是谁建的。"""

    def died(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "?"
        die(name, args.exc_value or args.exc_type())

    def main_died(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        die("main", error)

    threading.excepthook = died
    sys.excepthook = main_died


def within(wait_s: float, action: Callable[[], object]) -> bool:
    """在别的线程里做，至多等 wait_s 秒；做完了返回 True（它抛的 OSError 照样抛），挂住了返回 False，由它挂着。"""
    failures: list[OSError] = []

    def act() -> None:
        try:
            action()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=act, name="within", daemon=True)
    thread.start()
    thread.join(wait_s)
    if failures:
        raise failures[0]
    return not thread.is_alive()


class Lanes:
    """按车道排队的线程：同一条道上的事一件接一件，不同的道互不相干，一条道挂住了只耽误它自己。

    道属于一个组（作业的用户）：一个组至多占 most_of_group 个线程，一个用户挂住多少条道都占不满。
    """

    def __init__(self, name: str, *, most: int, most_of_group: int | None = None) -> None:
        self._name = name
        self._most = most
        self._most_of_group = most_of_group or most
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[Callable[[], object]]] = {}
        # 有事而没有人在做的道 -> 它的组。
        self._ready: dict[Hashable, Hashable] = {}
        self._running: Counter[Hashable] = Counter()
        self._threads = 0
        # 闲着的线程各等自己的一把锁；放开哪一把就叫醒哪一个，不会叫了却没有人醒。
        self._idle: list[threading.Lock] = []
        self._closed = False

    def submit(self, lane: Hashable, task: Callable[[], object], *, group: Hashable = None) -> None:
        """排进这条道（任何线程）。task 抛出的任何异常都结束进程。"""
        with self._lock:
            if self._closed:
                return
            queued = self._waiting.get(lane)
            if queued is not None:
                # 正在做、或已经排着：轮到时一并做。
                queued.append(task)
                return
            self._waiting[lane] = deque([task])
            self._ready[lane] = group
            if self._running[group] >= self._most_of_group:
                return
            if self._idle:
                self._idle.pop().release()
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def close(self) -> None:
        """还没开始的不再做；正在做的不等。"""
        with self._lock:
            self._closed = True
            self._ready.clear()
            for baton in self._idle:
                baton.release()
            self._idle.clear()

    def _work(self) -> None:
        baton = threading.Lock()
        baton.acquire()
        while (found := self._take(baton)) is not None:
            lane, group = found
            while (task := self._next(lane, group)) is not None:
                task()
                del task

    def _take(self, baton: threading.Lock) -> tuple[Hashable, Hashable] | None:
        """等到一条轮得到的道；闲得久了、停了返回 None，线程就此散去。"""
        while True:
            with self._lock:
                for lane, group in self._ready.items():
                    if self._running[group] < self._most_of_group:
                        del self._ready[lane]
                        self._running[group] += 1
                        return lane, group
                if self._closed:
                    return None
                self._idle.append(baton)
            if baton.acquire(timeout=IDLE_S):
                continue
            with self._lock:
                if baton in self._idle:
                    self._idle.remove(baton)
                    self._threads -= 1
                    return None
            # 正要散去时有人叫：把那一下收下，接着做。
            baton.acquire()

    def _next(self, lane: Hashable, group: Hashable) -> Callable[[], object] | None:
        with self._lock:
            queued = self._waiting[lane]
            if queued and not self._closed:
                return queued.popleft()
            del self._waiting[lane]
            self._running[group] -= 1
            if not self._running[group]:
                del self._running[group]
            return None
