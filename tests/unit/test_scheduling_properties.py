"""计划器的不变量：随机的小集群与队列，用不看实现的裁判核对。"""

from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1000.0
# 一个作业：任务数、每任务 CPU、每 CPU 内存、每节点 GPU、至少与至多几个节点、独占、时限。
JOB = st.tuples(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([None, 10, 40]),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
    st.sampled_from([10.0, 20.0, 35.0]),
)
NODE = st.tuples(st.integers(1, 6), st.integers(40, 200), st.integers(0, 2))
PLAN_SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow])


def build(nodes: list[tuple[int, int, int]], running: list[tuple[int, int, float]]) -> Cluster:
    cluster = Cluster()
    for number, (cpus, memory, gpus) in enumerate(nodes):
        cluster.upsert_node(NodeFacts(f"n{number}", cpus, memory, {"gpu": gpus} if gpus else {}))
    for number, (node, cpus, left_s) in enumerate(running):
        node %= len(nodes)
        cpus = min(cpus, int(cluster.free[node, 0]))
        if cpus:
            cluster.allocate(RunningJob(10_000 + number, NOW + left_s, (NodeShare(node, cpus, 0),)))
    return cluster


def shape_of(job: tuple[int, int, int | None, int, int, int | None, bool, float]) -> Shape:
    tasks, cpus, memory, gpus, least, most, exclusive, _ = job
    most = most if most is None or most >= least else least
    return Shape(
        tasks=max(tasks, least),
        cpus_per_task=cpus,
        memory_per_cpu=memory,
        gres_per_node=(("gpu", gpus),) if gpus else (),
        minimum_nodes=least,
        maximum_nodes=most,
        exclusive=exclusive and tasks == 1,
    )


def build_queue(jobs: list[tuple[int, int, int | None, int, int, int | None, bool, float]]) -> Queue:
    queue = Queue()
    for number, job in enumerate(jobs, 1):
        queue.upsert(PendingJob(number, shape_of(job), job[-1]))
    return queue


def usage_fits(cluster: Cluster, spans: list[tuple[float, float, tuple[NodeShare, ...]]]) -> bool:
    """裁判：在每个时刻把份额逐个相加，任何节点的任何资源都不超过总量。"""
    for moment in {begin for begin, _, _ in spans}:
        used: dict[tuple[int, str], int] = defaultdict(int)
        for begin, end, shares in spans:
            if begin <= moment < end:
                for share in shares:
                    used[share.node, "cpu"] += share.cpus
                    used[share.node, "memory"] += share.memory
                    for name, count in share.gres:
                        used[share.node, name] += count
        for (node, name), amount in used.items():
            column = {"cpu": 0, "memory": 1}.get(name, cluster.kinds.get(name, -1))
            if amount > int(cluster.total[node, column]):
                return False
    return True


def running_spans(cluster: Cluster) -> list[tuple[float, float, tuple[NodeShare, ...]]]:
    return [(NOW, job.expected_end, job.shares) for job in cluster.running.values()]


def start_spans(decided: Plan) -> list[tuple[float, float, tuple[NodeShare, ...]]]:
    return [(NOW, NOW + start.job.time_limit_s, start.shares) for start in decided.starts]


def reservation_spans(decided: Plan) -> list[tuple[float, float, tuple[NodeShare, ...]]]:
    return [(r.start_time, r.start_time + r.job.time_limit_s, r.shares) for r in decided.reservations]


RUNNING = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.sampled_from([5.0, 15.0, 30.0])), max_size=4)
NODES = st.lists(NODE, min_size=1, max_size=3)
JOBS = st.lists(JOB, min_size=1, max_size=8)
POLICIES = st.sampled_from(
    [Policy(Backfill.NONE), Policy(Backfill.EASY, 1), Policy(Backfill.EASY, 3), Policy(Backfill.CONSERVATIVE, 1000)]
)


@given(NODES, RUNNING, JOBS, POLICIES)
@PLAN_SETTINGS
def test_starts_and_reservations_never_exceed_any_node_at_any_time(nodes, running, jobs, policy):
    cluster = build(nodes, running)
    decided = plan(cluster, build_queue(jobs), NOW, policy)
    assert usage_fits(cluster, running_spans(cluster) + start_spans(decided) + reservation_spans(decided))


@given(NODES, RUNNING, JOBS, POLICIES)
@PLAN_SETTINGS
def test_each_start_gives_what_the_job_asked_for(nodes, running, jobs, policy):
    cluster = build(nodes, running)
    decided = plan(cluster, build_queue(jobs), NOW, policy)
    assert len({start.job.job_id for start in decided.starts}) == len(decided.starts)
    for start in decided.starts:
        shape, shares = start.job.shape, start.shares
        assert len({share.node for share in shares}) == len(shares)
        assert shape.minimum_nodes <= len(shares) <= (shape.maximum_nodes or len(nodes))
        assert sum(share.tasks for share in shares) == shape.tasks
        for share in shares:
            assert share.cpus >= share.tasks * shape.cpus_per_task
            assert share.memory >= share.tasks * shape.cpus_per_task * (shape.memory_per_cpu or 0)
            assert sum(count for _, count in share.gres) >= sum(count for _, count in shape.gres_per_node)


@given(NODES, RUNNING, JOBS, POLICIES)
@PLAN_SETTINGS
def test_planning_is_deterministic_and_changes_nothing(nodes, running, jobs, policy):
    cluster, queue = build(nodes, running), build_queue(jobs)
    before = cluster.free.copy()
    first, second = plan(cluster, queue, NOW, policy), plan(cluster, queue, NOW, policy)
    assert first == second
    assert (cluster.free == before).all()
    assert len(queue) == len(jobs)


@given(NODES, RUNNING, JOBS)
@PLAN_SETTINGS
def test_backfilled_jobs_never_delay_the_first_blocked_job(nodes, running, jobs):
    """队首受阻时的保留，与只有它和它之前的作业时算出的一样早。"""
    cluster = build(nodes, running)
    decided = plan(cluster, build_queue(jobs), NOW, Policy(Backfill.EASY, 1))
    if not decided.reservations:
        return
    first = decided.reservations[0]
    alone = plan(cluster, build_queue(jobs[: first.job.job_id]), NOW, Policy(Backfill.EASY, 1))
    assert [r.start_time for r in alone.reservations] == [first.start_time]


@given(NODES, RUNNING, JOBS)
@PLAN_SETTINGS
def test_fifo_starts_nothing_behind_a_blocked_job(nodes, running, jobs):
    decided = plan(build(nodes, running), build_queue(jobs), NOW, Policy(Backfill.NONE))
    blocked_at = min(
        (
            number
            for number, job in enumerate(jobs, 1)
            if number not in {s.job.job_id for s in decided.starts}
            and (shape_of(job), job[-1]) not in decided.impossible
        ),
        default=None,
    )
    if blocked_at is not None:
        assert all(start.job.job_id < blocked_at for start in decided.starts)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(10, 100)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 60), st.sampled_from([7.0, 20.0])), min_size=1, max_size=6),
    RUNNING,
)
@PLAN_SETTINGS
def test_head_reservation_is_the_earliest_possible(nodes, jobs, running):
    """穷举裁判：单节点的队首受阻时，没有更早的时刻、更好的节点。"""
    cluster = build([(cpus, memory, 0) for cpus, memory in nodes], running)
    queue = Queue()
    for number, (cpus, memory, limit_s) in enumerate(jobs, 1):
        shape = Shape(cpus_per_task=cpus, memory_per_node=memory or None, maximum_nodes=1)
        queue.upsert(PendingJob(number, shape, limit_s))
    decided = plan(cluster, queue, NOW, Policy(Backfill.EASY, 1))
    for reservation in decided.reservations:
        ahead = [
            span
            for s, span in zip(decided.starts, start_spans(decided), strict=True)
            if s.job.job_id < reservation.job.job_id
        ]
        base = running_spans(cluster) + ahead
        need = reservation.job.shape
        for moment in sorted({NOW, *(end for _, end, _ in base)}):
            if moment >= reservation.start_time:
                break
            for node in range(len(nodes)):
                share = NodeShare(node, need.cpus_per_task, need.memory_per_node or 0)
                trial = (moment, moment + reservation.job.time_limit_s, (share,))
                assert not usage_fits(cluster, [*base, trial]), (moment, node)
