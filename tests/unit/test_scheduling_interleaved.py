"""许多形状交错时的快路（Cycle._start_interleaved、Releases.soonest）与逐步的、走过全部的结果相同。"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scheduling_properties import NODES, NOW, RUNNING, build

from scns_conductor.scheduling import releases
from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cycle import Cycle
from scns_conductor.scheduling.placement import Placement
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.releases import Releases
from scns_conductor.scheduling.shape import Shape

SAME = settings(suppress_health_check=[HealthCheck.too_slow])
# 一个向量就说得清的，中间夹着独占的、多节点的、放不下的。
SHAPES = [
    Shape(),
    Shape(cpus_per_task=2, memory_per_cpu=10),
    Shape(memory_per_cpu=40),
    Shape(cpus_per_task=3),
    Shape(cpus_per_task=4, memory_per_cpu=10),
    Shape(exclusive=True),
    Shape(tasks=2, minimum_nodes=2),
    Shape(cpus_per_task=9),
]
JOB = st.tuples(st.integers(0, len(SHAPES) - 1), st.sampled_from([10.0, 20.0, 35.0]), st.integers(0, 2))


class OneByOne(Cycle):
    """不走快路。"""

    def _start_interleaved(self, heap) -> None:
        return


@pytest.mark.parametrize("placement", list(Placement))
@given(
    nodes=NODES,
    running=RUNNING,
    jobs=st.lists(JOB, min_size=1, max_size=24),
    policy=st.sampled_from([(Backfill.NONE, 1, 1000), (Backfill.EASY, 1, 1000), (Backfill.EASY, 3, 5)]),
)
@SAME
def test_interleaved_shapes_start_as_one_by_one(placement, nodes, running, jobs, policy) -> None:
    backfill, depth, most = policy
    wanted = Policy(backfill, depth, placement, most_starts=most)
    found = []
    for kind in (Cycle, OneByOne):
        cluster, queue = build(nodes, running), Queue()
        for number, (shape, limit_s, priority) in enumerate(jobs, 1):
            queue.upsert(PendingJob(number, SHAPES[shape], limit_s, priority=float(priority)))
        cycle = kind(cluster, NOW, wanted)
        cycle.run([Attempt(cluster, group, NOW) for group in queue.groups.values()])
        plan = cycle.plan
        starts = [(start.job.job_id, start.shares) for start in plan.starts]
        held = [(kept.job.job_id, kept.start_time, kept.shares) for kept in plan.reservations]
        found.append((starts, held, plan.blocked, plan.impossible, plan.exhausted, cycle.free.tolist()))
    assert found[0] == found[1]


def test_most_jobs_of_an_interleaved_queue_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = []
    step = Cycle._step

    def counted(self: Cycle, attempt: Any, limit: Any) -> Any:
        slow.append(attempt)
        return step(self, attempt, limit)

    monkeypatch.setattr(Cycle, "_step", counted)
    cluster, queue = build([(6, 200, 0)] * 3, []), Queue()
    for number in range(1, 13):
        queue.upsert(PendingJob(number, SHAPES[number % 2], 10.0))
    cycle = Cycle(cluster, NOW, Policy())
    cycle.run([Attempt(cluster, group, NOW) for group in queue.groups.values()])
    assert len(cycle.plan.starts) == 12
    assert len(slow) <= 2


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1.0, 2.0, 2.0, 5.0, 9.0, 1e15]), st.integers(0, 3))),
    free=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    need=st.integers(0, 6),
    stale=st.sets(st.integers(0, 5)),
    least=st.sampled_from([0.0, 2.0, 3.0]),
    block=st.integers(1, 4),
)
@SAME
def test_the_soonest_are_the_first_of_the_earliest(rows, free, need, stale, least, block) -> None:
    nodes, ends, needs = ([row[column] for row in rows] for column in range(3))
    found = Releases(6, np.array(nodes, dtype=np.int64), np.array(ends), np.array(needs, dtype=np.int64).reshape(-1, 1))
    found.stale[list(stale)] = True
    allowed = np.array([True, True, True, True, True, False])
    asked = (np.array([need]), np.array(free).reshape(-1, 1), allowed, least)
    everywhere, moments = found.earliest(*asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "FIRST_BLOCK", block)
        soonest, first = found.soonest(*asked)
    best = moments.min(initial=np.inf)
    assert sorted(everywhere[moments == best].tolist()) == soonest.tolist()
    assert set(first.tolist()) <= {best}
