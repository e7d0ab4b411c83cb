"""同形的保留算成一条链，与逐个地在时间线上找最早的一段相同；影响不了启动的保留不算，启动也相同。"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scheduling_incremental import EVENTS, LIMITS, POLICIES, SHAPES, World

from function_calls import calls
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.future import Future
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1000.0
SAME = settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@given(
    nodes=st.lists(st.tuples(st.integers(1, 6), st.integers(20, 100)), min_size=1, max_size=4),
    # (节点, CPU, 内存, 还剩几秒)；负的是已过预计结束，inf 是不限时。
    running=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(1, 4),
            st.integers(0, 40),
            st.sampled_from([-3.0, 0.5, 5.0, 20.0, 1e15]),
        ),
        max_size=12,
    ),
    need=st.tuples(st.integers(1, 3), st.integers(0, 30)),
    duration_s=st.sampled_from([1.0, 7.0, 20.0, float("inf")]),
    usable=st.lists(st.booleans(), min_size=4, max_size=4),
    count=st.integers(1, 12),
)
@SAME
def test_a_chain_is_what_one_by_one_gives(nodes, running, need, duration_s, usable, count):
    cluster = Cluster()
    for number, (cpus, memory) in enumerate(nodes):
        cluster.upsert_node(NodeFacts(f"n{number}", cpus, memory, weight=1 + number % 2))
    for number, (node, cpus, memory, left_s) in enumerate(running):
        node %= len(nodes)
        if cpus <= cluster.free[node, 0] and memory <= cluster.free[node, 1]:
            cluster.allocate(RunningJob(number, NOW + left_s, (NodeShare(node, cpus, memory),)))
    vector, allowed = np.array(need), np.array(usable[: len(nodes)])

    def future() -> Future:
        return Future(cluster, NOW, cluster.free[: cluster.count].copy())

    expected, slow = [], future()
    while len(expected) < count:
        found = slow.earliest(vector, allowed, duration_s)
        if found is None:
            break
        slow.occupy(found[0], found[0] + duration_s, (NodeShare(found[1], *need),), ())
        expected.append(found)
    assert future().occupy_chain(vector, allowed, duration_s, count) == expected


@pytest.mark.parametrize("policy", POLICIES)
@given(events=EVENTS, nodes=st.integers(1, 4))
@SAME
def test_leaving_out_reservations_changes_no_start(policy, events, nodes):
    world, planner = World(nodes, SHAPES[:5] + SHAPES[5:8] + SHAPES[9:10], LIMITS), Planner(policy)
    for event in events:
        world.apply(event)
        fresh = plan(world.cluster, world.queue, world.now, policy)
        quick = planner.plan(world.cluster, world.queue, world.now, complete=False)
        if not quick.complete:
            assert list(quick.starts) == list(fresh.starts)
            assert planner.outlook(world.cluster, world.queue, world.now) == fresh
        world.commit(quick)


def _one_end(cpus: int, waiting: int, shapes: int, *, complete: bool) -> int:
    """占满的一个节点上，一个作业结束的那个周期的函数调用次数。"""
    cluster, queue, planner = Cluster(), Queue(), Planner(Policy(depth=100))
    cluster.upsert_node(NodeFacts("n1", cpus, 64_000))
    for number in range(1, waiting + 1):
        queue.upsert(PendingJob(number, Shape(memory_per_node=10 + number % shapes), 300.0))
    counted = 0
    # 头几遍另有一次性的花费。
    for turn in range(4):
        if turn:
            cluster.release(turn)
        before = len(cluster.running)
        decided = None

        def cycle(now: float = NOW + turn) -> None:
            nonlocal decided
            decided = planner.plan(cluster, queue, now, complete=complete)

        counted = calls(cycle)
        assert decided is not None
        for start in decided.starts:
            queue.remove(start.job.job_id)
            cluster.allocate(RunningJob(start.job.job_id, NOW + turn + 300.0, start.shares))
        assert len(cluster.running) == cpus >= before
    return counted


def test_jobs_waiting_behind_one_another_cost_no_timeline_each():
    """原来每个周期把一百个保留重新占一遍：一万多次函数调用。"""
    assert _one_end(2, 1000, 1, complete=False) < 320
    assert _one_end(2, 1000, 5, complete=False) < 400
    # 保留要算的时候，一百个同形的是一条链，每个几次。
    assert _one_end(2, 1000, 1, complete=True) < 3500


def test_a_full_node_costs_the_same_however_many_wait():
    assert _one_end(2, 10_000, 1, complete=False) <= 1.1 * _one_end(2, 1000, 1, complete=False)
