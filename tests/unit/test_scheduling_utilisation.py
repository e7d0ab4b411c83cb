"""什么压着利用率：一样一样地去掉再计划；原来的样子不变。"""

import pytest

from scns_conductor.scheduling import utilisation
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.utilisation import Scene, use_of

HOUR_S = 3600.0


def scene(*jobs: PendingJob, drained: bool = False) -> Scene:
    cluster = Cluster()
    cluster.upsert_node(NodeFacts("a", 4, 100))
    cluster.upsert_node(NodeFacts("b", 4, 100, schedulable=not drained))
    cluster.allocate(RunningJob(900, HOUR_S / 2, (NodeShare(0, 3, 0),)))
    return Scene(cluster, list(jobs), 0.0, Policy(), HOUR_S)


def job(number: int, cpus: int, limit_s: float = HOUR_S, reason: str | None = None) -> PendingJob:
    return PendingJob(number, Shape(cpus_per_task=cpus, maximum_nodes=1), limit_s, reason=reason)


def test_the_busy_time_is_what_runs_starts_and_is_planned() -> None:
    # 在跑的 3 × 半小时；一个当场在 b 启动；一个等到半小时之后在 a。
    found = use_of(scene(job(1, 4), job(2, 4)))
    assert found.busy_cpu_s == pytest.approx((1.5 + 4 + 2) * HOUR_S)
    assert found.starts == 1


def test_what_is_taken_away_gives_its_worth_and_nothing_is_changed() -> None:
    before = scene(job(1, 4), job(2, 2, reason="JobHeldUser"), drained=True)
    base = use_of(before)
    back = use_of(before, utilisation.restoring(["b"]))
    assert back.busy_cpu_s - base.busy_cpu_s == pytest.approx(2 * HOUR_S)
    released = use_of(before, utilisation.allowing(frozenset({"JobHeldUser"}), frozenset({2})))
    assert released.busy_cpu_s == base.busy_cpu_s
    assert use_of(before) == base
    assert before.jobs[1].reason == "JobHeldUser"
    assert not before.cluster.schedulable[1]


def test_fragments_are_only_what_several_nodes_have_together() -> None:
    whole = scene(job(1, 5))
    whole.cluster.allocate(RunningJob(901, HOUR_S, (NodeShare(1, 1, 0),)))
    assert utilisation.fragmented(whole) == ([], [0, 1])
    split = scene(job(1, 4))
    split.cluster.allocate(RunningJob(901, HOUR_S, (NodeShare(1, 1, 0),)))
    jobs, nodes = utilisation.fragmented(split)
    assert (jobs, nodes) == ([1], [0, 1])
    assert use_of(split, utilisation.merged(nodes)).starts == 1


def test_a_node_whose_memory_ran_out_first() -> None:
    tight = scene(PendingJob(1, Shape(cpus_per_task=1, memory_per_node=60, maximum_nodes=1), HOUR_S))
    for node in (0, 1):
        tight.cluster.allocate(RunningJob(910 + node, 2 * HOUR_S, (NodeShare(node, 0, 50),)))
    assert utilisation.starved_of_memory(tight) == [0, 1]
    assert use_of(tight, utilisation.with_memory([0, 1])).starts == 1
