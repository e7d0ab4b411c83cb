"""计时与计数：攒在普通的数里，有人来采集才换成 Prometheus 的样子（metrics_page）。只用标准库，没有锁。

没有锁是有意的：调度器会 fork，子进程不能等一个父进程里别的线程拿着的锁；加一偶尔少记一次，无碍大局。
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# 从一毫秒到一分钟（秒）。
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
# 作业等多久：从一秒到一周（秒）。
WAITS = (1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0, 604800.0)
# 一次几个。
COUNTS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)


class Timing:
    """一个直方图：bounds 是各格的上界，counts 比它多一格（更大的）。"""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """记一个值。"""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @contextmanager
    def measure(self) -> Iterator[None]:
        """记下里面用了多久（秒）；抛错也记。"""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began)


class Trouble:
    """一件会失败的事：每次多久，失败了几次。"""

    __slots__ = ("failures", "seconds")

    def __init__(self) -> None:
        self.seconds = Timing()
        self.failures = 0

    @contextmanager
    def measure(self) -> Iterator[None]:
        """记下里面用了多久；抛错记一次失败。"""
        try:
            with self.seconds.measure():
                yield
        except BaseException:
            self.failures += 1
            raise
