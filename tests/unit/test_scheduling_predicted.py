"""预测短的先回填：次序照预测，保留照时限——谁也不推迟队首。"""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.run_times import RunTimes
from scns_conductor.scheduling.shape import Shape

PREDICTED = Policy(Backfill.EASY, 1, shortest_first=True)
# 一个作业：到达的间隔、CPU、至少几个节点、时限、真的跑时限的几成、预测是时限的几成。
JOB = st.tuples(
    st.sampled_from([0, 0, 1, 5]),
    st.integers(1, 4),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([4, 10, 25]),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from([0.1, 0.5, 1.0]),
)
NODES = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def waiting(number: int, cpus: int, limit_s: float, predicted_s: float | None = None, **more: object) -> PendingJob:
    shape = Shape(cpus_per_task=cpus, maximum_nodes=1, predicted_s=predicted_s)
    return PendingJob(number, replace(shape, **more), limit_s)


def one_node(cpus: int, *running: tuple[int, float]) -> Cluster:
    cluster = Cluster()
    cluster.upsert_node(NodeFacts("n0", cpus, 1000))
    for number, (used, end) in enumerate(running):
        cluster.allocate(RunningJob(1000 + number, end, (NodeShare(0, used, 0),)))
    return cluster


def queue_of(*jobs: PendingJob) -> Queue:
    queue = Queue()
    for job in jobs:
        queue.upsert(job)
    return queue


def started(cluster: Cluster, queue: Queue, policy: Policy = PREDICTED) -> list[int]:
    return [start.job.job_id for start in plan(cluster, queue, 0.0, policy).starts]


@given(NODES, st.lists(JOB, min_size=2, max_size=12))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_head_starts_later_than_the_date_its_guard_gave(nodes, jobs):
    """走到队首时由时限推出的时刻，是它真正开始的上界：预测得多错、谁插到前面回填都一样。"""
    cluster, queue, planner = Cluster(), Queue(), Planner(PREDICTED)
    for number, cpus in enumerate(nodes):
        cluster.upsert_node(NodeFacts(f"n{number}", cpus, 1000))
    now, arrivals = 0.0, []
    for number, (gap_s, cpus, least, limit_s, part, guess) in enumerate(jobs, 1):
        now += gap_s
        least = min(least, len(nodes))
        shape = Shape(tasks=least, cpus_per_task=min(cpus, sorted(nodes)[-least]), minimum_nodes=least)
        job = PendingJob(number, replace(shape, predicted_s=limit_s * guess), float(limit_s))
        arrivals.append((now, job, float(max(1, round(limit_s * part)))))
    promised: dict[int, float] = {}
    runs: dict[int, float] = {}
    ends: list[tuple[float, int]] = []
    while arrivals or ends:
        now = min([each[0] for each in arrivals] + [each[0] for each in ends])
        for end, number in [each for each in ends if each[0] <= now]:
            cluster.release(number)
            ends.remove((end, number))
        for arrival in [each for each in arrivals if each[0] <= now]:
            queue.upsert(arrival[1])
            runs[arrival[1].job_id] = arrival[2]
            arrivals.remove(arrival)
        decided = planner.plan(cluster, queue, now)
        for start in decided.starts:
            job = start.job
            assert now <= promised.get(job.job_id, now) + 1e-6
            queue.remove(job.job_id)
            cluster.allocate(RunningJob(job.job_id, now + job.time_limit_s, start.shares))
            ends.append((now + runs[job.job_id], job.job_id))
        if decided.reservations:
            head = decided.reservations[0]
            assert head.job is min(queue.jobs.values(), key=lambda each: each.key)
            assert head.start_time <= promised.get(head.job.job_id, head.start_time) + 1e-6
            promised[head.job.job_id] = head.start_time


def test_the_job_predicted_to_be_short_is_backfilled_first() -> None:
    cluster = one_node(4, (2, 100.0))
    head, long, short = waiting(1, 4, 50.0), waiting(2, 2, 90.0, 80.0), waiting(3, 2, 90.0, 5.0)
    assert started(cluster, queue_of(head, long, short), Policy()) == [2]
    assert started(cluster, queue_of(head, long, short)) == [3]


def test_a_prediction_never_lets_a_job_run_into_the_reservation_of_the_head() -> None:
    cluster = one_node(4, (2, 100.0))
    assert started(cluster, queue_of(waiting(1, 4, 50.0), waiting(2, 2, 101.0, 1.0))) == []


def test_the_higher_tier_comes_first_whatever_is_predicted() -> None:
    cluster = one_node(4, (2, 100.0))
    urgent = replace(waiting(2, 2, 90.0, 80.0), tier=2)
    head = replace(waiting(1, 4, 50.0), tier=3)
    assert started(cluster, queue_of(head, urgent, waiting(3, 2, 90.0, 5.0))) == [2]


def test_the_head_of_each_partition_has_a_reservation_of_its_own() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.upsert_node(NodeFacts(name, 4, 1000))
    cluster.set_partitions([PartitionFacts(name, frozenset({name})) for name in ("a", "b")])
    for node in (0, 1):
        cluster.allocate(RunningJob(100 + node, 50.0, (NodeShare(node, 2, 0),)))
    heads = [waiting(1, 4, 10.0, partition="a"), waiting(2, 4, 10.0, partition="b")]
    small = [waiting(3, 2, 60.0, 1.0, partition="a"), waiting(4, 2, 60.0, 1.0, partition="b")]
    decided = plan(cluster, queue_of(*heads, *small), 0.0, PREDICTED)
    assert [kept.job.job_id for kept in decided.reservations] == [1, 2]
    assert not len(decided.starts)


def test_only_the_guarded_head_is_told_a_firm_date() -> None:
    cluster = one_node(4, (4, 100.0))
    head, second, third = (waiting(number, 4, 50.0) for number in (1, 2, 3))
    queue = queue_of(head, second, third)
    assert not Outlook(cluster, queue, head, 0.0, PREDICTED).incomplete
    behind = Outlook(cluster, queue, third, 0.0, PREDICTED)
    assert behind.incomplete
    assert behind.earliest(third.shape, 50.0) is not None
    assert behind.earliest(third.shape, 50.0)[0] == 200.0


def test_the_mean_of_the_last_two_alike_comes_before_the_users_others() -> None:
    times = RunTimes()
    assert times.predict("ann", "x", 100.0) == 100.0
    times.learn("ann", "y", 64.0)
    assert times.predict("ann", "x", 100.0) == 64.0
    for run_s in (1000.0, 8.0, 8.0):
        times.learn("ann", "x", run_s)
    assert times.predict("ann", "x", 100.0) == 8.0
    assert times.predict("bob", "x", 100.0) == 100.0
    times.learn("ann", "y", 5000.0)
    assert times.predict("ann", "y", 100.0) == 100.0


def test_without_any_reservation_the_jobs_still_start() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.upsert_node(NodeFacts(name, 4, 1000))
    policy = Policy(depth=0)
    decided = Planner(policy).plan(cluster, queue_of(waiting(1, 4, 10.0)), 0.0, complete=False)
    assert [start.job.job_id for start in decided.starts] == [1]
