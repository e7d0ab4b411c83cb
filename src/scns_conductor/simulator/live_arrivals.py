"""重放线上系统时的到达：提交、放行、--begin、所依赖的都结束，四者的最晚；开始时还在排队的，从开始起。"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from scns_conductor.core.dependency import parse_dependency
from scns_conductor.core.states import HOLD_REASONS
from scns_conductor.simulator.history import instant
from scns_conductor.simulator.live_clock import Clock, Kind
from scns_conductor.simulator.workload import TraceJob


class Arrivals:
    """见模块的说明。时刻是 Unix 秒。"""

    def __init__(
        self, jobs: Mapping[int, TraceJob], rows: Mapping[int, Mapping[str, Any]], clock: Clock, began: float
    ) -> None:
        self._clock = clock
        # 从何时起算等待；最早何时可以排队（放行之后）。
        self.eligible: dict[int, float] = {}
        self._earliest: dict[int, float] = {}
        for number, job in jobs.items():
            self.eligible[number] = float(max(job.submit_s, instant(rows[number].get("begin_time")) or 0))
            held_until = job.submit_s + _held_s(rows[number])
            self._earliest[number] = max(began, self.eligible[number], held_until)
        self._waiting_on, self._children = _dependencies(jobs, rows)

    def expect(self, running: Collection[int]) -> None:
        """不等别人的，到时就来；running 已经在跑了。"""
        for number, parents in self._waiting_on.items():
            if not parents and number not in running:
                self._clock.push(self._earliest[number], Kind.ARRIVAL, number)

    def ended(self, number: int, now: float) -> None:
        """做完了一个：只等它的可以来了。"""
        for child in self._children[number]:
            self._waiting_on[child].discard(number)
            if not self._waiting_on[child]:
                self._clock.push(max(now, self._earliest[child]), Kind.ARRIVAL, child)


def _dependencies(
    jobs: Mapping[int, TraceJob], rows: Mapping[int, Mapping[str, Any]]
) -> tuple[dict[int, set[int]], dict[int, list[int]]]:
    """各个作业还在等谁，谁在等它。至今没有做完的没有人等：它们的都启动过了。"""
    # 记录里没有的列不算没有做完（不是线上来的作业）。
    numbers = {job.job_id: number for number, job in jobs.items() if rows[number].get("end_time", "") is not None}
    arrays: dict[str, list[int]] = defaultdict(list)
    for number in numbers.values():
        array = rows[number].get("array_job_id")
        if array is not None:
            arrays[str(array)].append(number)
    waiting_on: dict[int, set[int]] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for number in jobs:
        parents: set[int] = set()
        dependency = rows[number].get("dependency")
        for parent in parse_dependency(dependency).job_ids if dependency else ():
            known = numbers.get(str(parent))
            parents |= set(arrays.get(str(parent), () if known is None else (known,)))
        parents.discard(number)
        waiting_on[number] = parents
        for parent in parents:
            children[parent].append(number)
    return waiting_on, children


def _held_s(row: Mapping[str, Any]) -> float:
    """被保留着的时长（秒）：等待花在各个原因上多久里有；从何时起没有，当作从提交起（sbatch -H）。"""
    spent = row.get("wait_breakdown") or {}
    return sum(float(spent.get(reason, 0)) for reason in set(HOLD_REASONS.values()))
