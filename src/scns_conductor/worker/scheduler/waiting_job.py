"""排队的作业在核心之外还要记的，以及怎样从 jobs 的一行得到它。"""

import math
import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scns_conductor.core.array_spec import CONSECUTIVE, MAX_TASK_ID, Stride, TaskRange, parse_array
from scns_conductor.core.dependency import Dependency, Outcome
from scns_conductor.core.job_limits import Violation
from scns_conductor.scheduling.eligibility import Request
from scns_conductor.scheduling.job_requirements import dependency_of, eligibility_request, owners_of, priority_of
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import Shape
from scns_conductor.worker.scheduler.priority_factors import Applicant, age_from

_Value = TypeVar("_Value", bound=Hashable)
# 共用的值至多记这么多种。
MOST_SHARED = 20_000


@dataclass(slots=True, eq=False)
class Waiting:
    """排队的作业在核心之外还要记的：资格、依赖、写进数据库的原因。"""

    job: PendingJob
    request: Request
    dependency: Dependency | None
    array_limit: int
    user_name: str
    name: str
    kill_on_invalid_dependency: bool | None
    written: tuple[str, str | None, float | None]
    applicant: Applicant
    age_from: float
    violation: Violation | None = None
    # 它算谁的（见 job_requirements.owners_of）。
    owners: tuple[str, ...] = ()
    # 数组还没有启动的全部任务；job.tasks 只有依赖已满足的（aftercorr 逐个任务满足）。
    remaining: list[TaskRange] | None = None
    stride: Stride = CONSECUTIVE
    # 所属的数组；不是数组的是 None。
    array_job_id: int | None = None
    # 所属的异构作业、第几个部分、共几个部分；不是异构作业的是 None。
    het_job_id: int | None = None
    het_job_offset: int = 0
    het_size: int = 1
    # 到这个时刻（Unix 秒）就不再要求交换机的数目；没有要求的是 None。
    switches_until: float | None = None


@dataclass(slots=True)
class SharedValues:
    """许多作业相同的值只存一份：每个排队的作业不到 1 KiB。"""

    _known: dict[Hashable, Any] = field(default_factory=dict)

    def one(self, value: _Value) -> _Value:
        """与它相等的那一份。"""
        if len(self._known) > MOST_SHARED:
            self._known.clear()
        found: _Value = self._known.setdefault((type(value), value), value)
        return found


def waiting_of(
    row: Mapping[str, Any],
    shape: Shape,
    violation: Violation | None,
    shared: SharedValues,
    *,
    precedence: int,
    tier: int,
    max_switch_wait_s: int,
) -> Waiting:
    """jobs 的一行（COLUMNS）与它的要求 -> 排队的作业；读不懂时抛 ValueError。"""
    remaining = row["array_remaining"]
    tasks = None if remaining is None else [TaskRange(span.lower, span.upper) for span in remaining]
    dependency = dependency_of(row)
    job = PendingJob(
        job_id=row["job_id"],
        shape=shape,
        time_limit_s=math.inf if row["time_limit"] is None else float(row["time_limit"]),
        revision=row["revision"],
        user=sys.intern(row["user_name"]),
        precedence=precedence,
        tier=tier,
        priority=shared.one(priority_of(row)),
        order=row["job_id"],
        tasks=tasks,
    )
    request = eligibility_request(row, Outcome.WAITING if dependency is not None else None)
    return Waiting(
        job,
        shared.one(request),
        dependency,
        row["array_max_tasks"] or 0,
        job.user,
        shared.one(row["name"]),
        row["kill_on_invalid_dependency"],
        shared.one((row["reason"], row["error_msg"], row["expected_start_time"])),
        shared.one(Applicant.of(row)),
        age_from(row),
        violation,
        shared.one(owners_of(row)),
        tasks,
        shared.one(Stride(row["array_base"], row["array_step"], row["array_listed"] or b"")),
        row["array_job_id"],
        row["het_job_id"],
        row["het_job_offset"],
        component_count(row["het_job_id_set"]),
        _switches_until(row, max_switch_wait_s),
    )


def component_count(text: str | None) -> int:
    """het_job_id_set 里有几个作业号。"""
    return 1 if text is None else len(parse_array(text, max_tasks=MAX_TASK_ID))


def _switches_until(row: Mapping[str, Any], longest_s: int) -> float | None:
    if row["required_switches"] is None:
        return None
    wait = row["maximum_switch_wait_time"]
    since = max(row["submit_time"], row["begin_time"] or 0)
    return float(since + (longest_s if wait is None else min(wait, longest_s)))
