"""一个作业的用量随时间怎样变化：等长的几格，格数有上限，满了两格并一格。纯的，不读钟，不碰数据库。"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

# 至多几格；偶数，两格并一格时没有剩下的。
MOST_BUCKETS = 120
# 内存没有采到。
UNKNOWN = -1


class UsageSeries:
    """从作业开始起。cpu_s、gpu_s 是各格里用掉的秒，memory_mb、gpu_memory_mb 是各格里的峰值（MiB）。

    gpu_energy_j 是各块 GPU 至今的能耗合计（焦耳），不知道是 None。
    """

    __slots__ = (
        "_energy_counter", "cpu_s", "cpu_total_s", "elapsed_s", "gpu_energy_j", "gpu_memory_mb", "gpu_s", "memory_mb",
        "width_s",
    )  # fmt: skip

    def __init__(self, width_s: float) -> None:
        self.width_s = width_s
        self.elapsed_s = 0.0
        self.cpu_total_s = 0.0
        self.cpu_s = array("d")
        self.memory_mb = array("l")
        # 有没有 GPU 的数，头一次采到时才知道。
        self.gpu_s: array[float] | None = None
        self.gpu_memory_mb: array[int] | None = None
        self.gpu_energy_j: float | None = None
        # 上一次的能耗计数；它从哪里数起不知道，只看差。
        self._energy_counter: float | None = None

    @classmethod
    def restored(
        cls,
        width_s: float,
        elapsed_s: float,
        cpu_s: Sequence[float],
        memory_mb: Sequence[int | None],
        gpu_s: Sequence[float] | None,
        gpu_memory_mb: Sequence[int | None] | None,
        gpu_energy_j: float | None,
    ) -> UsageSeries:
        """从写下的接着记。"""
        found = cls(width_s)
        found.elapsed_s = elapsed_s
        found.cpu_total_s = math.fsum(cpu_s)
        found.cpu_s = array("d", cpu_s)
        found.memory_mb = _peaks(memory_mb)
        found.gpu_s = None if gpu_s is None else array("d", gpu_s)
        found.gpu_memory_mb = None if gpu_memory_mb is None else _peaks(gpu_memory_mb)
        found.gpu_energy_j = gpu_energy_j
        return found

    def add(
        self,
        elapsed_s: float,
        cpu_total_s: float,
        memory_mb: int,
        gpu: tuple[float, int, float | None] | None = None,
    ) -> None:
        """开始之后 elapsed_s 秒采到的：CPU 一共用了多少秒，此刻的内存；gpu 是（忙着几块，显存 MiB，能耗计数 J）。

        两次之间隔得再久也行：CPU 摊在其间的各格里；内存只记在这次之前不久的格里，别的格不知道。
        """
        span_s = elapsed_s - self.elapsed_s
        if span_s <= 0:
            return
        while elapsed_s > self.width_s * MOST_BUCKETS:
            self._merge()
        first, last = int(self.elapsed_s // self.width_s), math.ceil(elapsed_s / self.width_s) - 1
        self._reach(last, gpu is not None)
        # 进程退出了而没有人等它，总数会变小：这一段就当没有用。
        used_s = max(0.0, cpu_total_s - self.cpu_total_s)
        seen_from = first if span_s <= 2 * self.width_s else last
        for bucket in range(first, last + 1):
            overlap_s = min(elapsed_s, (bucket + 1) * self.width_s) - max(self.elapsed_s, bucket * self.width_s)
            self.cpu_s[bucket] += used_s * overlap_s / span_s
            if bucket >= seen_from:
                self.memory_mb[bucket] = max(self.memory_mb[bucket], memory_mb)
            if gpu is not None and self.gpu_s is not None and self.gpu_memory_mb is not None and bucket >= seen_from:
                self.gpu_s[bucket] += gpu[0] * overlap_s
                self.gpu_memory_mb[bucket] = max(self.gpu_memory_mb[bucket], gpu[1])
        if gpu is not None and gpu[2] is not None:
            if self._energy_counter is not None:
                # 驱动重新装载过，计数会从头来。
                self.gpu_energy_j = (self.gpu_energy_j or 0.0) + max(0.0, gpu[2] - self._energy_counter)
            self._energy_counter = gpu[2]
        self.elapsed_s, self.cpu_total_s = elapsed_s, cpu_total_s

    def _reach(self, last: int, has_gpu: bool) -> None:
        missing = last + 1 - len(self.cpu_s)
        if missing > 0:
            self.cpu_s.extend([0.0] * missing)
            self.memory_mb.extend([UNKNOWN] * missing)
        if self.gpu_s is None and has_gpu:
            self.gpu_s, self.gpu_memory_mb = array("d"), array("l")
        if self.gpu_s is not None and self.gpu_memory_mb is not None:
            missing = last + 1 - len(self.gpu_s)
            self.gpu_s.extend([0.0] * missing)
            self.gpu_memory_mb.extend([UNKNOWN] * missing)

    def _merge(self) -> None:
        self.width_s *= 2
        self.cpu_s, self.memory_mb = _sums(self.cpu_s), _highest(self.memory_mb)
        if self.gpu_s is not None and self.gpu_memory_mb is not None:
            self.gpu_s, self.gpu_memory_mb = _sums(self.gpu_s), _highest(self.gpu_memory_mb)


def _sums(values: array[float]) -> array[float]:
    return array("d", [sum(values[at : at + 2]) for at in range(0, len(values), 2)])


def _highest(values: array[int]) -> array[int]:
    return array("l", [max(values[at : at + 2]) for at in range(0, len(values), 2)])


def _peaks(values: Sequence[int | None]) -> array[int]:
    return array("l", [UNKNOWN if value is None else value for value in values])
