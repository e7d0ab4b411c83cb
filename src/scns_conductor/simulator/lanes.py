"""甘特图的排布：给每个作业找具体的处理器编号。只为画图，与调度的放置无关。

任一时刻占用的处理器总数不超过机器大小，所以按开始的次序取最小的空闲编号总放得下；可能不连续，那就分成几块。
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from types import MappingProxyType

from scns_conductor.simulator.workload import Span, TraceJob


@dataclass(frozen=True, slots=True)
class Rectangle:
    """一块：处理器 [first_cpu, first_cpu + cpus) 在 [begin_s, end_s) 归这个作业。"""

    job_id: str
    user: str
    begin_s: float
    end_s: float
    first_cpu: int
    cpus: int


def assign_lanes(
    jobs: Sequence[TraceJob],
    starts: Sequence[float | None],
    machine_cpus: int,
    window: tuple[float, float],
    walked: Mapping[int, Sequence[Span]] = MappingProxyType({}),
    *,
    recorded: bool = False,
) -> list[Rectangle]:
    """与时间窗相交的作业各占哪些处理器；walked 是停过的（jobs 的下标）真的在走的各段。

    作业重叠超出机器时抛 ValueError：那说明重放本身超分了。recorded 是真的记录：时刻是整秒的，何时停的不知道，
    所以重叠了的画在余下的处理器上。
    """
    begin_s, end_s = window
    placed = [
        (since, until, job)
        for place, (job, start) in enumerate(zip(jobs, starts, strict=True))
        if start is not None
        for since, until in walked.get(place, ((start, start + job.run_s),))
        if since < end_s and until > begin_s
    ]
    placed.sort(key=lambda each: each[0])
    free = list(range(machine_cpus))
    heapify(free)
    ending: list[tuple[float, int, list[int]]] = []
    rectangles: list[Rectangle] = []
    for order, (start, until, job) in enumerate(placed):
        while ending and ending[0][0] <= start:
            for cpu in heappop(ending)[2]:
                heappush(free, cpu)
        if len(free) < job.cpus and not recorded:
            raise ValueError(f"时刻 {start}：作业 {job.job_id} 要 {job.cpus} 个处理器，只剩 {len(free)} 个")
        cpus = [heappop(free) for _ in range(min(job.cpus, len(free)))]
        heappush(ending, (until, order, cpus))
        rectangles.extend(Rectangle(job.job_id, job.user, start, until, first, count) for first, count in _runs(cpus))
    return rectangles


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """升序的编号 -> 连续的段（起点，长度）。"""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
