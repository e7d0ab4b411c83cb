"""一个作业要了多少、真的用了多少，以及下次怎样要更合适。纯函数。"""

import math
from dataclasses import dataclass

from scns_conductor.core.units import format_duration, format_memory_mb

# 用了不到要的一半才值得说；建议留的余地。
WORTH_SAYING = 0.5
MEMORY_MARGIN, TIME_MARGIN = 1.25, 1.5
_MEMORY_STEP_MB = 64


@dataclass(frozen=True, slots=True)
class Usage:
    """要的与用的。cpu_s 是用户态与内核态之和（秒），memory 都是 MiB；没有的（没有时限、没有采到）是 None。"""

    cpus: int
    run_s: float
    cpu_s: float | None
    memory_asked: int | None
    memory_peak: int | None
    limit_s: float | None
    gpus: int = 0
    gpu_s: float | None = None

    @property
    def gpu(self) -> float | None:
        """GPU 平均忙几成（0–1）；没有卡、没有采到是 None。"""
        return None if not self.gpus or self.gpu_s is None or self.run_s <= 0 else self.gpu_s / (self.run_s * self.gpus)

    @property
    def cpu(self) -> float | None:
        """CPU 用了几成（0–1，也许略大于 1）。"""
        return None if self.cpu_s is None or self.run_s <= 0 else self.cpu_s / (self.run_s * max(1, self.cpus))

    @property
    def memory(self) -> float | None:
        """内存的峰值占要的几成。"""
        if not self.memory_asked or self.memory_peak is None:
            return None
        return self.memory_peak / self.memory_asked

    @property
    def time(self) -> float | None:
        """时间占时限的几成。"""
        return self.run_s / self.limit_s if self.limit_s else None

    @property
    def idle_cpu_s(self) -> float:
        """占着而没有用的 CPU·秒。"""
        return max(0.0, self.run_s * self.cpus - (self.cpu_s or 0.0))


@dataclass(frozen=True, slots=True)
class Fit:
    """下次怎样要就够：CPU 数、内存（MiB）、时限（秒）；不必改的是 None。"""

    cpus: int | None = None
    memory_mb: int | None = None
    limit_s: float | None = None

    @property
    def changed(self) -> bool:
        """有要改的。"""
        return self != Fit()


def fitting(usage: Usage) -> Fit:
    """照用掉的要；跑了不到一秒的说不准，不改。"""
    if usage.run_s < 1:
        return Fit()
    cpus = memory_mb = None
    limit_s: float | None = None
    if usage.cpu is not None and usage.cpus > 1 and usage.cpu < WORTH_SAYING:
        cpus = max(1, math.ceil(usage.cpu * usage.cpus))
    if usage.memory is not None and usage.memory < WORTH_SAYING and usage.memory_peak is not None:
        enough = math.ceil(usage.memory_peak * MEMORY_MARGIN / _MEMORY_STEP_MB) * _MEMORY_STEP_MB
        if usage.memory_asked is not None and enough < usage.memory_asked:
            memory_mb = enough
    if usage.time is not None and usage.time < WORTH_SAYING and usage.limit_s is not None:
        enough_s = math.ceil(usage.run_s * TIME_MARGIN / 60) * 60
        if enough_s < usage.limit_s:
            limit_s = float(enough_s)
    return Fit(cpus, memory_mb, limit_s)


def hints(usage: Usage) -> list[str]:
    """下次怎样要；没有什么可说的是空的。"""
    found: list[str] = []
    fit = fitting(usage)
    if fit.cpus is not None and usage.cpu is not None:
        found.append(f"CPU 平均只用了 {usage.cpu * usage.cpus:.1f} 个，要 {fit.cpus} 个就够")
    if fit.memory_mb is not None and usage.memory_peak is not None:
        found.append(f"内存最多用到 {format_memory_mb(usage.memory_peak)}，要 {format_memory_mb(fit.memory_mb)} 就够")
    if usage.gpus > 1 and usage.gpu is not None and usage.gpu < WORTH_SAYING and usage.run_s >= 1:
        enough = max(1, math.ceil(usage.gpu * usage.gpus))
        found.append(f"GPU 平均只忙 {usage.gpu * usage.gpus:.1f} 块，要 {enough} 块就够")
    if fit.limit_s is not None:
        found.append(f"时限写 {format_duration(fit.limit_s)} 就够，也容易插空")
    return found
