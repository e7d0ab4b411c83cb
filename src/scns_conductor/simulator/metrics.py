"""指标：由作业与各自的开始时刻求出；与用什么策略、怎样重放无关。

有界慢化 = max(1, (等待 + 运行) / max(运行, 10 秒))（Feitelson 等，1997）；
利用率 = Σ(运行 × CPU) / (机器 CPU × 总时长)，总时长从第一次提交到最后一次结束。
启动之后停过的（挂起、时间片）：停着的时间不算运行，算在慢化与周转里，CPU 当作均匀地用。
没有做完就被取消的（抢占）：只有真的跑了的算运行；被抢占而重新排队的，只有最后一次算。
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from scns_conductor.simulator.workload import TraceJob

SLOWDOWN_THRESHOLD_S = 10
NOT_STOPPED: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UserMetrics:
    """一个用户的指标。"""

    user: str
    jobs: int
    cpu_hours: float
    avg_wait_s: float
    max_wait_s: float
    avg_bounded_slowdown: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """一次重放的指标；时间单位秒，利用率在 0 与 1 之间。没有一个作业启动时各平均值为 0。"""

    jobs: int
    avg_wait_s: float
    median_wait_s: float
    p95_wait_s: float
    max_wait_s: float
    avg_bounded_slowdown: float
    median_bounded_slowdown: float
    p95_bounded_slowdown: float
    avg_turnaround_s: float
    utilization: float
    makespan_s: float
    users: tuple[UserMetrics, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """作业的各列（numpy），按作业的次序。"""

    submit_s: NDArray[np.float64]
    start_s: NDArray[np.float64]
    run_s: NDArray[np.float64]
    cpus: NDArray[np.float64]
    end_s: NDArray[np.float64]


def started_columns(
    jobs: Sequence[TraceJob],
    starts: Sequence[float | None],
    ends: Mapping[int, float] = NOT_STOPPED,
    ran_s: Mapping[int, float] = NOT_STOPPED,
) -> tuple[list[TraceJob], Columns]:
    """只留下真正启动了的作业，并转成列。

    ends 是停过、没有做完的（jobs 的下标）何时结束，ran_s 是其中没有做完的跑了多久。
    """
    places = [place for place, start in enumerate(starts) if start is not None]
    started = [jobs[place] for place in places]
    start_s = np.array([starts[place] for place in places], dtype=np.float64)
    run_s = np.array([ran_s.get(place, jobs[place].run_s) for place in places], dtype=np.float64)
    end_s = start_s + run_s
    for row, place in enumerate(places if ends else ()):
        if place in ends:
            end_s[row] = ends[place]
    columns = Columns(
        submit_s=np.array([job.submit_s for job in started], dtype=np.float64),
        start_s=start_s,
        run_s=run_s,
        cpus=np.array([job.cpus for job in started], dtype=np.float64),
        end_s=end_s,
    )
    return started, columns


def bounded_slowdown(turnaround_s: NDArray[np.float64], run_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """有界慢化，逐个作业；turnaround_s 是从提交到结束，门槛 10 秒。"""
    slowdown: NDArray[np.float64] = np.maximum(1.0, turnaround_s / np.maximum(run_s, SLOWDOWN_THRESHOLD_S))
    return slowdown


def measure(
    jobs: Sequence[TraceJob],
    starts: Sequence[float | None],
    machine_cpus: int,
    ends: Mapping[int, float] = NOT_STOPPED,
    ran_s: Mapping[int, float] = NOT_STOPPED,
) -> Metrics:
    """求指标。starts 与 jobs 一一对应，None 表示始终没有启动（不计入）；ends、ran_s 同 started_columns 的。"""
    started, columns = started_columns(jobs, starts, ends, ran_s)
    if not started:
        return Metrics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ())
    wait_s = columns.start_s - columns.submit_s
    turnaround_s = columns.end_s - columns.submit_s
    slowdown = bounded_slowdown(turnaround_s, columns.run_s)
    makespan_s = float(columns.end_s.max() - columns.submit_s.min())
    work = float((columns.run_s * columns.cpus).sum())
    return Metrics(
        jobs=len(started),
        avg_wait_s=float(wait_s.mean()),
        median_wait_s=float(np.median(wait_s)),
        p95_wait_s=float(np.percentile(wait_s, 95)),
        max_wait_s=float(wait_s.max()),
        avg_bounded_slowdown=float(slowdown.mean()),
        median_bounded_slowdown=float(np.median(slowdown)),
        p95_bounded_slowdown=float(np.percentile(slowdown, 95)),
        avg_turnaround_s=float(turnaround_s.mean()),
        utilization=work / (machine_cpus * makespan_s) if makespan_s > 0 else 0.0,
        makespan_s=makespan_s,
        users=_by_user(started, columns, wait_s, slowdown),
    )


def _by_user(
    started: Sequence[TraceJob], columns: Columns, wait_s: NDArray[np.float64], slowdown: NDArray[np.float64]
) -> tuple[UserMetrics, ...]:
    """每个用户一行，用得多的在前。"""
    names, index = np.unique(np.array([job.user for job in started], dtype=object).astype(str), return_inverse=True)
    counts = np.bincount(index)
    hours = np.bincount(index, weights=columns.run_s * columns.cpus) / 3600
    waits = np.bincount(index, weights=wait_s) / counts
    slowdowns = np.bincount(index, weights=slowdown) / counts
    longest = np.zeros(len(names))
    np.maximum.at(longest, index, wait_s)
    rows = [
        UserMetrics(str(name), int(count), float(used), float(wait), float(most), float(slow))
        for name, count, used, wait, most, slow in zip(names, counts, hours, waits, longest, slowdowns, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.cpu_hours, row.user)))


@dataclass(frozen=True, slots=True)
class Steps:
    """阶梯函数：从 times_s[i] 起取 values[i]，直到下一个时刻。"""

    times_s: NDArray[np.float64]
    values: NDArray[np.float64]


def busy_cpus(columns: Columns) -> Steps:
    """占用的 CPU 随时间的变化。"""
    # 停过的均匀地用；没有停过的一分不差。
    whole = columns.end_s - columns.start_s
    rates = np.where(whole > columns.run_s, columns.cpus * columns.run_s / np.maximum(whole, 1e-9), columns.cpus)
    return _steps(columns.start_s, columns.end_s, rates)


def queue_length(columns: Columns) -> Steps:
    """排队的作业数随时间的变化。"""
    return _steps(columns.submit_s, columns.start_s, np.ones(len(columns.submit_s)))


def _steps(begin_s: NDArray[np.float64], end_s: NDArray[np.float64], amount: NDArray[np.float64]) -> Steps:
    times_s, index = np.unique(np.concatenate([begin_s, end_s]), return_inverse=True)
    change = np.bincount(index, weights=np.concatenate([amount, -amount]), minlength=len(times_s))
    return Steps(times_s, np.cumsum(change))


def area_until(steps: Steps, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """阶梯函数从头到各时刻的积分。"""
    widths = np.diff(steps.times_s)
    total = np.concatenate([[0.0], np.cumsum(widths * steps.values[:-1])])
    index = np.clip(np.searchsorted(steps.times_s, at_s, side="right") - 1, 0, len(steps.times_s) - 1)
    beyond = np.maximum(0.0, at_s - steps.times_s[index])
    area: NDArray[np.float64] = total[index] + beyond * steps.values[index]
    return area


def averages(steps: Steps, edges_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """阶梯函数在相邻两个时刻之间的时间平均（面积不变）；edges_s 递增。"""
    found: NDArray[np.float64] = np.diff(area_until(steps, edges_s)) / np.diff(edges_s)
    return found
