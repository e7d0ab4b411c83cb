"""照用掉的要会少等多久：重放两遍，改了的与别人的分开说。"""

from typing import Any

import pytest

from scns_conductor.core.efficiency import Fit, Usage, fitting, hints
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.priority import Weights
from scns_conductor.simulator.live import REQUIREMENTS, LiveSystem
from scns_conductor.simulator.right_size import saving
from scns_conductor.simulator.workload import TraceJob


def row(**columns: Any) -> dict[str, Any]:
    base = {**dict.fromkeys(REQUIREMENTS), "tasks": 1, "cpus_per_task": 4, "minimum_nodes": 1, "partition": "main"}
    return {**base, "exclusive": False, "contiguous": False, "nice": 0, "allocated_nodes": 1, **columns}


def system(rows: dict[str, dict[str, Any]]) -> LiveSystem:
    return LiveSystem(
        nodes=[NodeFacts("n1", 4, 1000)], partitions=[PartitionFacts("main")], licenses={}, policy=Policy(),
        defaults=Defaults(0), multifactor=False, weights=Weights(), half_life_s=1.0, calc_period_s=300.0, accounts=[],
        shares={}, qos_priority={}, rows=rows,
    )  # fmt: skip


def test_smaller_requests_let_the_jobs_and_others_start_at_once() -> None:
    jobs = [TraceJob(str(number), 0, 100, 600, 4) for number in (1, 2, 3)]
    found = saving(system({job.job_id: row() for job in jobs}), jobs, {"1": Fit(cpus=1), "2": Fit(cpus=1)})
    assert found.replayed == 3
    # 原来一个接一个：0、100、200；改了的两个一起跑，第三个只等 100。
    assert (found.changed.jobs, found.changed.before_s, found.changed.after_s) == (2, 50.0, 0.0)
    assert (found.others.jobs, found.others.before_s, found.others.after_s) == (1, 200.0, 100.0)


def test_memory_and_the_time_limit_count_as_well() -> None:
    jobs = [TraceJob(str(number), 0, 100, 6000, 1, memory_mb=600) for number in (1, 2)]
    rows = {job.job_id: row(cpus_per_task=1, memory_per_node=600) for job in jobs}
    found = saving(system(rows), jobs, {"2": Fit(memory_mb=300)})
    assert (found.changed.before_s, found.changed.after_s) == (100.0, 0.0)
    # 队首要整个节点：时限长的插不进去，短的插得进去。
    wide = [TraceJob("1", 0, 100, 100, 2), TraceJob("2", 1, 50, 50, 4), TraceJob("3", 2, 20, 6000, 2)]
    rows = {job.job_id: row(cpus_per_task=job.cpus) for job in wide}
    assert saving(system(rows), wide, {"3": Fit(limit_s=60.0)}).changed.after_s == 0.0
    assert saving(system(rows), wide, {"3": Fit(limit_s=60.0)}).changed.before_s == pytest.approx(148.0)


def test_a_job_that_cannot_be_resized_without_guessing_is_left_alone() -> None:
    jobs = [TraceJob(str(number), 0, 100, 600, 4) for number in (1, 2)]
    rows = {job.job_id: row(tasks=2, cpus_per_task=2) for job in jobs}
    found = saving(system(rows), jobs, {"2": Fit(cpus=1)})
    assert found.changed.before_s == found.changed.after_s == 100.0


def test_the_hints_say_what_fits() -> None:
    usage = Usage(4, 100.0, 40.0, 2048, 100, 3600.0)
    assert fitting(usage) == Fit(1, 128, 180.0)
    assert len(hints(usage)) == 3
    assert not fitting(Usage(4, 0.5, 0.0, 2048, 10, 3600.0)).changed
