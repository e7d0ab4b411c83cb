"""异构作业：各个部分一起启动或都不启动，保留也是整个的；与不看实现的穷举对照。"""

from itertools import permutations, product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape, compound

NOW = 1000.0
POLICIES = [
    Policy(Backfill.NONE),
    Policy(Backfill.EASY, 1),
    Policy(Backfill.EASY, 3),
    Policy(Backfill.CONSERVATIVE, 1000),
]
# 一个部分：任务数、每任务 CPU、每节点 GPU、独占。
PART = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans())
NODES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=3)
JOBS = st.lists(
    st.tuples(st.lists(PART, min_size=1, max_size=3), st.sampled_from([10.0, 20.0, 35.0])), min_size=1, max_size=6
)
RUNNING = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.sampled_from([5.0, 15.0])), max_size=3)


def cluster_of(nodes: list[tuple[int, int]], running: list[tuple[int, int, float]] = ()) -> Cluster:  # type: ignore[assignment]
    cluster = Cluster()
    for number, (cpus, gpus) in enumerate(nodes):
        cluster.upsert_node(NodeFacts(f"n{number}", cpus, 100, {"gpu": gpus} if gpus else {}))
    for number, (node, cpus, left_s) in enumerate(running):
        node %= len(nodes)
        cpus = min(cpus, int(cluster.free[node, 0]))
        if cpus:
            cluster.allocate(RunningJob(10_000 + number, NOW + left_s, (NodeShare(node, cpus, 0),)))
    return cluster


def shape_of(parts: list[tuple[int, int, int, bool]]) -> Shape:
    shapes = [
        Shape(tasks, cpus, gres_per_node=(("gpu", gpus),) if gpus else (), exclusive=exclusive, maximum_nodes=1)
        for tasks, cpus, gpus, exclusive in parts
    ]
    return shapes[0] if len(shapes) == 1 else compound(shapes)


def queue_of(jobs: list[tuple[list[tuple[int, int, int, bool]], float]]) -> Queue:
    queue = Queue()
    for number, (parts, limit) in enumerate(jobs, 1):
        queue.upsert(PendingJob(number, shape_of(parts), limit))
    return queue


def components(shape: Shape) -> tuple[Shape, ...]:
    return shape.components or (shape,)


def whole(decided: Plan) -> bool:
    """每个启动与保留里，各个部分都有，任务一个不少。"""
    for job, shares in [(s.job, s.shares) for s in decided.starts] + [(r.job, r.shares) for r in decided.reservations]:
        for index, part in enumerate(components(job.shape)):
            if sum(share.tasks for share in shares if share.component == index) != part.tasks:
                return False
    return True


def never_exceeded(cluster: Cluster, decided: Plan) -> bool:
    spans = [(NOW, max(job.expected_end, NOW + 1), job.shares) for job in cluster.running.values()]
    spans += [(NOW, NOW + start.limit_s, start.shares) for start in decided.starts]
    spans += [(kept.start_time, kept.start_time + kept.job.time_limit_s, kept.shares) for kept in decided.reservations]
    for moment in {begin for begin, _, _ in spans}:
        left = cluster.total[: cluster.count].copy()
        for begin, end, shares in spans:
            if begin <= moment < end:
                for share in shares:
                    left[share.node] -= cluster.share_vector(share)
        if (left < 0).any():
            return False
    return True


def fits_by_trying(cluster: Cluster, shape: Shape) -> bool:
    """穷举：各个部分放到各个节点的全部办法里，有没有一种放得下（各个部分都是单节点的）。"""
    for nodes in product(range(cluster.count), repeat=len(shape.components)):
        for order in permutations(range(len(nodes))):
            left = cluster.total[: cluster.count].copy()
            for index in order:
                part, node = shape.components[index], nodes[index]
                # 没有一个节点有的通用资源不在矩阵里：看 acceptable。
                if not cluster.acceptable(part)[node] or cluster.capacity_at(part, node, left[node]) < part.tasks:
                    break
                left[node] -= cluster.share_vector(cluster.share(part, node, part.tasks, left[node]))
            else:
                return True
    return False


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(NODES, RUNNING, JOBS, st.sampled_from(POLICIES))
def test_all_parts_start_together_or_none_and_no_node_is_over_allocated(nodes, running, jobs, policy):
    cluster = cluster_of(nodes, running)
    for decided in (
        plan(cluster, queue_of(jobs), NOW, policy),
        Planner(policy).plan(cluster, queue_of(jobs), NOW, complete=False),
    ):
        assert whole(decided)
        assert never_exceeded(cluster, decided)


@given(NODES, st.lists(PART, min_size=2, max_size=3))
def test_called_impossible_only_when_no_arrangement_of_the_empty_nodes_holds_it(nodes, parts):
    cluster, shape = cluster_of(nodes), shape_of(parts)
    verdict = impossible(cluster, shape)
    if verdict is None:
        assert fits_by_trying(cluster, shape)
    elif fits_by_trying(cluster, shape):
        # 逐个部分地放，不是穷举：每个部分单独都放得下的，才可能漏掉。
        assert all(impossible(cluster, part) is None for part in shape.components)


def test_a_hard_part_is_placed_before_an_easy_one_takes_its_node() -> None:
    cluster = cluster_of([(2, 1), (4, 0)])
    easy, hard = Shape(cpus_per_task=2, maximum_nodes=1), Shape(cpus_per_task=2, gres_per_node=(("gpu", 1),))
    queue = Queue()
    queue.upsert(PendingJob(1, compound([easy, hard]), 10.0))
    (start,) = plan(cluster, queue, NOW, Policy()).starts
    assert {share.component: cluster.names[share.node] for share in start.shares} == {0: "n1", 1: "n0"}


def test_the_reservation_of_the_whole_is_not_delayed_by_a_later_job() -> None:
    cluster = cluster_of([(4, 0), (4, 0)], [(0, 4, 15.0)])
    queue = Queue()
    queue.upsert(PendingJob(1, compound([Shape(cpus_per_task=4), Shape(cpus_per_task=4)]), 20.0))
    # 短的在它开始之前做完，长的会推迟它。
    queue.upsert(PendingJob(2, Shape(cpus_per_task=4), 35.0))
    queue.upsert(PendingJob(3, Shape(cpus_per_task=4), 10.0))
    decided = plan(cluster, queue, NOW, Policy(Backfill.EASY, 1))
    assert [start.job.job_id for start in decided.starts] == [3]
    (kept,) = decided.reservations
    assert (kept.job.job_id, kept.start_time, len(kept.shares)) == (1, NOW + 15.0, 2)


def test_each_part_follows_its_own_partition() -> None:
    cluster = cluster_of([(4, 0), (4, 0)])
    cluster.set_partitions([PartitionFacts("a", frozenset({"n0"})), PartitionFacts("b", frozenset({"n1"}))])
    queue = Queue()
    queue.upsert(PendingJob(1, compound([Shape(partition="b"), Shape(partition="a")]), 20.0))
    (start,) = plan(cluster, queue, NOW, Policy()).starts
    assert [cluster.names[share.node] for share in start.shares] == ["n1", "n0"]
