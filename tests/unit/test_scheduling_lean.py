"""一个节点上逐个作业地走（lean）与整套的计划启动的一样；列表的时间线与矩阵的一样。"""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_scheduling_incremental import EVENTS, LIMITS, POLICIES, SHAPES, World

from scns_conductor.scheduling.lane import Lane
from scns_conductor.scheduling.lean import Lean, lean_by_group
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.timelines import Timelines

NOW = 1000.0
SAME = settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# 一个向量就说得清的，与永远放不下的。
PLAIN = [
    Shape(maximum_nodes=1),
    Shape(cpus_per_task=2, memory_per_node=30, maximum_nodes=1),
    Shape(cpus_per_task=3, maximum_nodes=1),
    Shape(cpus_per_task=4, memory_per_cpu=10, maximum_nodes=1),
    Shape(cpus_per_task=9, maximum_nodes=1),
]
MOMENTS = st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0, 7.0, 7.5, 20.0, 1e15])
VECTORS = st.tuples(st.integers(0, 4), st.integers(0, 30))


@pytest.mark.parametrize(
    "policy",
    [
        *POLICIES[:2],
        Policy(Backfill.CONSERVATIVE, 100),
        Policy(most_starts=2),
        Policy(shortest_first=True),
        Policy(depth=0, shortest_first=True),
        Policy(depth=2, shortest_first=True, most_starts=3),
    ],
)
@given(events=EVENTS, odd=st.booleans())
@SAME
def test_the_same_jobs_start(policy: Policy, events: list[tuple[str, int, int, int]], odd: bool) -> None:
    world, planner = (
        World(1, PLAIN + (SHAPES[5:8] if odd else []), LIMITS, predicted=policy.shortest_first),
        Planner(policy),
    )
    for event in events:
        world.apply(event)
        fresh = plan(world.cluster, world.queue, world.now, policy)
        quick = planner.plan(world.cluster, world.queue, world.now, complete=False)
        assert list(quick.starts) == list(fresh.starts)
        assert quick.exhausted == fresh.exhausted
        world.commit(quick)


@pytest.mark.parametrize("policy", [*POLICIES[:2], Policy(Backfill.CONSERVATIVE, 100), Policy(most_starts=2)])
@given(events=EVENTS)
@SAME
def test_group_by_group_the_same_jobs_start(policy: Policy, events: list[tuple[str, int, int, int]]) -> None:
    world = World(1, PLAIN, LIMITS)
    for event in events:
        world.apply(event)
        fresh = plan(world.cluster, world.queue, world.now, policy)
        quick = lean_by_group(world.cluster, world.queue, world.now, policy)
        if any(group.arrays for group in world.queue.groups.values()):
            assert quick is None
        else:
            assert quick is not None
            assert list(quick.starts) == list(fresh.starts)
            assert quick.exhausted == fresh.exhausted
        world.commit(fresh)


def test_a_queue_of_plain_jobs_on_one_node_is_walked_lean() -> None:
    world, lean = World(1, PLAIN, LIMITS), Lean()
    for number in range(5):
        world.apply(("submit", number, number, 1))
    assert lean.plan(world.cluster, world.queue, world.now, Policy()) is not None


@given(
    free=VECTORS,
    releases=st.lists(st.tuples(MOMENTS, VECTORS), max_size=8),
    occupied=st.lists(st.tuples(MOMENTS, st.sampled_from([1.0, 6.5, 1e15]), VECTORS), max_size=4),
    need=VECTORS,
    duration_s=st.sampled_from([0.5, 1.0, 6.5, 30.0, float("inf")]),
)
@example(free=(0, 0), releases=[(7.0, (2, 0)), (7.0, (2, 0))], occupied=[], need=(3, 0), duration_s=1.0)
@SAME
def test_a_lane_is_a_timeline(free, releases, occupied, need, duration_s) -> None:
    timelines = Timelines(NOW, 2)
    ends = np.array([NOW + after for after, _ in releases])
    needs = np.array([vector for _, vector in releases], dtype=np.int64).reshape(-1, 2)
    timelines.open(0, np.array(free), ends, needs)
    lane = Lane(NOW, list(free), sorted((NOW + after, vector) for after, vector in releases))
    for begin, length, vector in occupied:
        begin = NOW + max(0.0, min(begin, 100.0))
        timelines.occupy(0, begin, begin + length, np.array(vector))
        lane.occupy(begin, begin + length, [item for item in enumerate(vector) if item[1]])
    amounts = [(dimension, amount) for dimension, amount in enumerate(need) if amount]
    expected = float(timelines.earliest(np.array(need), duration_s, NOW)[0])
    found = lane.earliest(amounts, duration_s)
    assert (float("inf") if found is None else found) == expected
    assert lane.allows(amounts, duration_s) == timelines.allows(0, np.array(need), duration_s)


def test_a_complete_plan_in_between_hides_nothing_from_the_lean_one() -> None:
    world, planner = World(1, PLAIN, LIMITS), Planner(Policy())
    world.apply(("submit", 3, 1, 1))
    world.commit(planner.plan(world.cluster, world.queue, world.now, complete=False))
    world.apply(("submit", 3, 1, 1))
    assert not len(planner.plan(world.cluster, world.queue, world.now).starts)
    world.apply(("end", 0, 1, 0))
    assert [
        start.job.job_id for start in planner.plan(world.cluster, world.queue, world.now, complete=False).starts
    ] == [2]
