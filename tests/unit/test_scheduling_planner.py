"""计划器：数组、放置方式、许可证、多节点、不可能的作业、成组填满。"""

import pytest

from scns_conductor.core.array_spec import TaskRange
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.placement import Placement
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1000.0
FOREVER = float("inf")


def cluster_of(*nodes: NodeFacts) -> Cluster:
    cluster = Cluster()
    for facts in nodes:
        cluster.upsert_node(facts)
    return cluster


def queue_of(*jobs: PendingJob) -> Queue:
    queue = Queue()
    for job in jobs:
        queue.upsert(job)
    return queue


def where(decided) -> dict[int, list[int]]:
    return {start.job.job_id: [share.node for share in start.shares] for start in decided.starts}


def test_array_tasks_start_in_order_up_to_the_throttle():
    array = PendingJob(1, Shape(), 60.0, tasks=[TaskRange(0, 2), TaskRange(5, 100)], available=4)
    decided = plan(cluster_of(NodeFacts("n1", 64, 1000)), queue_of(array), NOW, Policy())
    assert [start.task_id for start in decided.starts] == [0, 1, 5, 6]


def test_a_node_is_filled_exactly_and_the_next_group_uses_the_rest():
    cluster = cluster_of(NodeFacts("n1", 8, 1000), NodeFacts("n2", 8, 1000))
    small = [PendingJob(number, Shape(memory_per_node=300), 60.0) for number in range(1, 8)]
    decided = plan(cluster, queue_of(*small, PendingJob(8, Shape(cpus_per_task=5), 60.0)), NOW, Policy())
    nodes = where(decided)
    assert [sum(nodes.get(number) == [node] for number in range(1, 8)) for node in (0, 1)] == [3, 3]
    assert 7 not in nodes
    assert nodes[8] in ([0], [1])


def test_most_starts_ends_the_cycle():
    jobs = [PendingJob(number, Shape(), 60.0) for number in range(1, 50)]
    decided = plan(cluster_of(NodeFacts("n1", 64, 0)), queue_of(*jobs), NOW, Policy(most_starts=10))
    assert [start.job.job_id for start in decided.starts] == list(range(1, 11))
    assert decided.exhausted


@pytest.mark.parametrize(
    ("placement", "expected"),
    [(Placement.BEST_FIT, [1, 1]), (Placement.SPREAD, [0, 2]), (Placement.WEIGHT, [0, 0])],
)
def test_placement_chooses_the_node(placement, expected):
    cluster = cluster_of(*(NodeFacts(f"n{number}", cpus, 0) for number, cpus in enumerate((8, 2, 8))))
    jobs = queue_of(PendingJob(1, Shape(), 60.0), PendingJob(2, Shape(), 60.0))
    assert [nodes[0] for nodes in where(plan(cluster, jobs, NOW, Policy(placement=placement))).values()] == expected


def test_lower_weight_nodes_come_first():
    cluster = cluster_of(NodeFacts("big", 8, 0, weight=5), NodeFacts("cheap", 8, 0, weight=1))
    assert where(plan(cluster, queue_of(PendingJob(1, Shape(), 60.0)), NOW, Policy())) == {1: [1]}


def test_licenses_limit_starts():
    cluster = cluster_of(NodeFacts("n1", 8, 0))
    cluster.set_pool("license:matlab", 3, "Licenses")
    jobs = [PendingJob(number, Shape(pools=(("license:matlab", 2),)), 60.0) for number in (1, 2)]
    decided = plan(cluster, queue_of(*jobs), NOW, Policy())
    assert list(where(decided)) == [1]
    assert list(decided.blocked.values()) == ["Licenses"]


def test_a_license_taken_in_the_same_cycle_is_not_promised_again():
    cluster = cluster_of(NodeFacts("n1", 8, 0))
    cluster.set_pool("license:matlab", 1, "Licenses")
    shape = Shape(pools=(("license:matlab", 1),))
    jobs = [PendingJob(1, shape, 50.0), PendingJob(2, shape, 30.0), PendingJob(3, shape, FOREVER)]
    decided = plan(cluster, queue_of(*jobs), NOW, Policy(depth=3))
    assert list(where(decided)) == [1]
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(2, NOW + 50), (3, NOW + 80)]


def test_multi_node_job_gets_distinct_nodes_under_one_switch():
    cluster = cluster_of(
        *(NodeFacts(f"n{number}", 4, 0, switch=switch) for number, switch in enumerate(("s1", "s2", "s1", "s2", "s2")))
    )
    job = PendingJob(1, Shape(tasks=12, minimum_nodes=3, maximum_nodes=3), 60.0)
    decided = plan(cluster, queue_of(job), NOW, Policy(placement=Placement.TOPOLOGY))
    assert where(decided) == {1: [1, 3, 4]}
    assert [share.tasks for share in decided.starts[0].shares] == [4, 4, 4]


def test_gpu_of_any_model_becomes_a_concrete_model():
    cluster = cluster_of(NodeFacts("n1", 8, 0, {"gpu:a100": 2}))
    decided = plan(cluster, queue_of(PendingJob(1, Shape(gres_per_node=(("gpu", 1),)), 60.0)), NOW, Policy())
    assert decided.starts[0].shares == (NodeShare(0, 1, 0, (("gpu:a100", 1),), 1),)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(cpus_per_task=9), "CPU"),
        (Shape(memory_per_node=5000), "内存"),
        (Shape(gres_per_node=(("gpu", 1),)), "gpu"),
        (Shape(constraints="nvme"), "nvme"),
        (Shape(minimum_nodes=3, tasks=3), "3"),
        (Shape(required_nodes=("n9",)), "n9"),
    ],
)
def test_a_job_that_can_never_run_is_told_and_blocks_nobody(shape, message):
    cluster = cluster_of(NodeFacts("n1", 8, 1000), NodeFacts("n2", 8, 1000))
    decided = plan(cluster, queue_of(PendingJob(1, shape, 60.0), PendingJob(2, Shape(), 60.0)), NOW, Policy())
    assert list(where(decided)) == [2]
    assert message in next(iter(decided.impossible.values()))


def test_backfill_lets_only_short_jobs_pass_the_reservation():
    cluster = cluster_of(NodeFacts("n1", 4, 0))
    cluster.allocate(RunningJob(100, NOW + 50, (NodeShare(0, 3, 0),)))
    whole = PendingJob(1, Shape(cpus_per_task=4), 100.0)
    long, short = PendingJob(2, Shape(), 60.0), PendingJob(3, Shape(), 50.0)
    decided = plan(cluster, queue_of(whole, long, short), NOW, Policy(Backfill.EASY))
    assert list(where(decided)) == [3]
    assert [(held.job.job_id, held.start_time) for held in decided.reservations] == [(1, NOW + 50)]


def test_unlimited_jobs_leave_no_expected_start():
    cluster = cluster_of(NodeFacts("n1", 4, 0))
    cluster.allocate(RunningJob(100, 1e15, (NodeShare(0, 4, 0),)))
    decided = plan(cluster, queue_of(PendingJob(1, Shape(), FOREVER)), NOW, Policy())
    assert not decided.starts
    assert not decided.reservations


def test_partition_nodes_bound_the_placement():
    cluster = cluster_of(NodeFacts("n1", 4, 0), NodeFacts("n2", 4, 0))
    cluster.set_partitions([PartitionFacts("gpu", nodes=frozenset({"n2"}))])
    decided = plan(cluster, queue_of(PendingJob(1, Shape(partition="gpu"), 60.0)), NOW, Policy())
    assert where(decided) == {1: [1]}


def test_feature_expressions_choose_nodes():
    cluster = cluster_of(
        NodeFacts("n1", 4, 0, features=frozenset({"amd"})), NodeFacts("n2", 4, 0, features=frozenset({"intel", "ib"}))
    )
    decided = plan(cluster, queue_of(PendingJob(1, Shape(constraints="(amd|intel)&ib"), 60.0)), NOW, Policy())
    assert where(decided) == {1: [1]}


def test_releasing_gives_back_exactly_what_was_taken():
    cluster = cluster_of(NodeFacts("n1", 4, 100, {"gpu": 2}))
    before = cluster.free.copy()
    cluster.allocate(RunningJob(1, NOW, (NodeShare(0, 2, 50, (("gpu", 1),)),)))
    assert (cluster.free != before).any()
    cluster.release(1)
    cluster.release(1)
    assert (cluster.free == before).all()


def test_jobs_of_any_gpu_model_share_a_node_of_two_models():
    """同一周期的两个作业不能都落到同一块卡上：那会越过节点的计数，整批提交作废。"""
    cluster = cluster_of(NodeFacts("n1", 4, 0, {"gpu:h100": 1, "gpu:a100": 1}))
    jobs = [PendingJob(number, Shape(gres_per_node=(("gpu", 1),)), 60.0) for number in (1, 2, 3)]
    decided = plan(cluster, queue_of(*jobs), NOW, Policy())
    assert sorted(start.shares[0].gres for start in decided.starts) == [(("gpu:a100", 1),), (("gpu:h100", 1),)]
