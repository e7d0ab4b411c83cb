"""照用掉的要，会少等多久：同一段历史重放两遍，一遍照原来要的，一遍照建议要的；两遍用同样的规矩，差的就是它。"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scns_conductor.core.efficiency import Fit
from scns_conductor.core.replay_words import LIVE
from scns_conductor.simulator.live import LiveSystem
from scns_conductor.simulator.live_replay import replay_live
from scns_conductor.simulator.policy_choice import PolicyChoice
from scns_conductor.simulator.workload import TraceJob

_LIVE = PolicyChoice(LIVE, LIVE, LIVE)


@dataclass(frozen=True, slots=True)
class Waits:
    """平均等待（秒）：照原来要的，照建议要的；jobs 是几个作业，没有的是 0。"""

    jobs: int
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class Saving:
    """changed 是改了要求的作业，others 是其余的；replayed 是一共重放了几个。"""

    changed: Waits
    others: Waits
    replayed: int


def saving(system: LiveSystem, jobs: Sequence[TraceJob], fits: Mapping[str, Fit]) -> Saving:
    """重放两遍；fits 是作业号 -> 下次怎样要，不在重放之中的不管。假定要得少也跑一样久。"""
    resized = [_job(job, fits.get(job.job_id), system.rows.get(job.job_id, {})) for job in jobs]
    rows = dict(system.rows)
    for job in jobs:
        fit, row = fits.get(job.job_id), system.rows.get(job.job_id)
        if fit is not None and row is not None:
            rows[job.job_id] = {**row, **_columns(fit, row)}
    before = replay_live(system, jobs, _LIVE).starts
    after = replay_live(replace(system, rows=rows), resized, _LIVE).starts
    moved = [job.job_id in fits for job in jobs]
    return Saving(_waits(jobs, before, after, moved, True), _waits(jobs, before, after, moved, False), len(jobs))


def _waits(
    jobs: Sequence[TraceJob],
    before: Sequence[float | None],
    after: Sequence[float | None],
    moved: Sequence[bool],
    wanted: bool,
) -> Waits:
    """两遍都启动了的才比。"""
    pairs = [
        (one - job.submit_s, other - job.submit_s)
        for job, one, other, own in zip(jobs, before, after, moved, strict=True)
        if own is wanted and one is not None and other is not None
    ]
    if not pairs:
        return Waits(0, 0.0, 0.0)
    return Waits(len(pairs), sum(one for one, _ in pairs) / len(pairs), sum(two for _, two in pairs) / len(pairs))


def _columns(fit: Fit, row: Mapping[str, Any]) -> dict[str, Any]:
    """要改的列；任务与每任务 CPU 都多于一个的，不猜该减哪一样。"""
    found: dict[str, Any] = {}
    tasks, each = int(row.get("tasks") or 1), int(row.get("cpus_per_task") or 1)
    if fit.cpus is not None and tasks == 1:
        found |= {"cpus_per_task": fit.cpus, "minimum_cpus_per_node": None}
    elif fit.cpus is not None and each == 1 and int(row.get("minimum_nodes") or 1) <= 1:
        found |= {"tasks": fit.cpus, "minimum_cpus_per_node": None}
    if fit.memory_mb is not None:
        nodes = max(1, int(row.get("allocated_nodes") or 1))
        found |= {
            "memory_per_node": math.ceil(fit.memory_mb / nodes), "memory_per_cpu": None, "memory_per_gpu": None,
        }  # fmt: skip
    return found


def _job(job: TraceJob, fit: Fit | None, row: Mapping[str, Any]) -> TraceJob:
    if fit is None:
        return job
    limit_s = job.limit_s if fit.limit_s is None else max(job.run_s, math.ceil(fit.limit_s))
    columns = _columns(fit, row)
    resized = fit.cpus is not None and ("cpus_per_task" in columns or "tasks" in columns)
    return job._replace(limit_s=limit_s, cpus=fit.cpus if resized and fit.cpus is not None else job.cpus)
