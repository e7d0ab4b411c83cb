"""后继的单子与计划器的次序一样：随机的事件之后，份额相同的作业一个个结束，从头计划启动的正是单子上的下一个。"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scheduling_incremental import EVENTS, LIMITS, POLICIES, SHAPES, World

from scns_conductor.core.array_spec import TaskRange, count_tasks
from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.succession import Succession, heads_of, slots, succession

SAME = settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# 向量说得清的多些：单子才长。
OFTEN_PLAIN = [Shape(maximum_nodes=1)] * 6 + [Shape(cpus_per_task=2, memory_per_node=30, maximum_nodes=1)] * 3 + SHAPES


def heirs_of(world: World, node: int, most: int = 8) -> Succession | None:
    return succession(
        world.cluster,
        heads_of(world.cluster, world.queue),
        node,
        most=lambda _share: most,
        tasks_left=lambda job: count_tasks(job.tasks or ()),
        barred=lambda _job: False,
    )


def holders(world: World, node: int, share: tuple[int, int, int]) -> list[int]:
    """node 上恰好占着这样一份的作业。"""
    alone = [job for job in world.cluster.running.values() if len(job.shares) == 1 and job.shares[0].node == node]
    return [
        job.job_id
        for job in alone
        if (job.shares[0].cpus, job.shares[0].memory, job.shares[0].gres) == (*share[:2], ())
    ]


def settle(world: World, policy: Policy) -> None:
    """启动此刻放得下的，直到没有。"""
    while True:
        decided = plan(world.cluster, world.queue, world.now, policy)
        if not decided.starts:
            return
        world.commit(decided)


@pytest.mark.parametrize("policy", [*POLICIES, Policy()])
@given(events=EVENTS, which=st.integers(0, 9), shuffled=st.booleans())
@SAME
def test_whoever_ends_the_next_on_the_list_is_who_the_planner_starts(
    policy: Policy, events: list[tuple[str, int, int, int]], which: int, shuffled: bool
) -> None:
    world = World(2, OFTEN_PLAIN if shuffled else OFTEN_PLAIN[:9], LIMITS)
    for event in events:
        world.apply(event)
        settle(world, policy)
        for node in range(2):
            heirs = heirs_of(world, node)
            held = [] if heirs is None else holders(world, node, heirs.share)
            if heirs is None or not held or event[0] != "end":
                continue
            assert slots(world.cluster, node, heirs.share[:2]) == len(held)
            assert (world.cluster.free[node] >= 0).all()
            for job, task_id in heirs.jobs:
                held = holders(world, node, heirs.share)
                if not held:
                    break
                world.cluster.release(held[which % len(held)])
                decided = plan(world.cluster, world.queue, world.now, policy)
                first = min(decided.starts, key=lambda start: start.job.key)
                assert (first.job.job_id, first.task_id) == (job.job_id, task_id)
                assert [(each.node, each.cpus, each.memory, each.tasks) for each in first.shares] == [
                    (node, *heirs.share)
                ]
                world.commit(decided)
            settle(world, policy)


def full_node(*waiting: PendingJob) -> World:
    """一个四核的节点，四个一核的作业在跑，waiting 排着。"""
    world = World(1, [Shape(maximum_nodes=1)], LIMITS)
    for _ in range(4):
        world.apply(("submit", 0, 0, 1))
    settle(world, Policy())
    assert len(world.cluster.running) == 4
    for job in waiting:
        world.queue.upsert(job)
    return world


ONE = Shape(maximum_nodes=1)


def told(world: World, most: int = 8) -> list[tuple[int, int | None]]:
    heirs = heirs_of(world, 0, most)
    return [] if heirs is None else [(job.job_id, task_id) for job, task_id in heirs.jobs]


def test_the_list_is_in_the_order_of_the_queue_whatever_the_time_limits() -> None:
    jobs = [PendingJob(50 + number, ONE, LIMITS[number % 3], priority=float(number == 4)) for number in range(5)]
    assert told(full_node(*jobs)) == [(54, None), (50, None), (51, None), (52, None), (53, None)]
    assert told(full_node(*jobs), most=2) == [(54, None), (50, None)]
    assert told(full_node(*jobs), most=0) == []


@pytest.mark.parametrize(
    "shape",
    [
        Shape(cpus_per_task=2, maximum_nodes=1),
        Shape(memory_per_node=10, maximum_nodes=1),
        Shape(exclusive=True),
        Shape(maximum_nodes=1, pools=(("qos:jobs", 1),)),
        Shape(maximum_nodes=1, time_minimum_s=5.0),
        Shape(maximum_nodes=1, reservation="mine"),
        Shape(maximum_nodes=1, gres_per_node=(("gpu", 1),)),
    ],
)
def test_nobody_is_passed_over(shape: Shape) -> None:
    """中间有一个要的不同、说不准的：单子到它为止，它后面的不越过它。"""
    world = full_node(PendingJob(50, ONE, 10.0), PendingJob(51, shape, 10.0), PendingJob(52, ONE, 10.0))
    assert told(world) == [(50, None)]


def test_who_cannot_use_the_node_does_not_matter() -> None:
    elsewhere = replace(ONE, excluded_nodes=("n0",))
    assert told(full_node(PendingJob(50, elsewhere, 10.0), PendingJob(51, ONE, 10.0))) == [(51, None)]


def test_an_array_keeps_its_last_task() -> None:
    array = PendingJob(50, ONE, 10.0, tasks=[TaskRange(3, 6)], available=3)
    assert told(full_node(array, PendingJob(51, ONE, 10.0))) == [(50, 3), (50, 4)]
    assert told(full_node(PendingJob(49, ONE, 10.0), array)) == [(49, None)]


def test_a_reservation_of_the_administrator_ends_it() -> None:
    world = full_node(PendingJob(50, ONE, 10.0))
    world.cluster.set_reservations([AdvanceReservation("later", world.now + 5, world.now + 50)])
    assert told(world) == []


def test_slots_are_of_exactly_this_share() -> None:
    world = full_node()
    assert slots(world.cluster, 0, (1, 0)) == 4
    assert slots(world.cluster, 0, (2, 0)) == 0
    assert np.array_equal(world.cluster.free[0][:2], [0, 100])
