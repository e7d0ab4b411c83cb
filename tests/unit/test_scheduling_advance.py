"""预留在计划里：不该进的不进，该进的进得去，别的照旧。"""

from hypothesis import given, settings
from hypothesis import strategies as st

from scns_conductor.scheduling.advance import AdvanceReservation, boundaries, refusal
from scns_conductor.scheduling.cluster import Cluster, NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1000.0
JOBS = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([10.0, 40.0, 90.0]), st.sampled_from([None, None, "r0", "r1"])),
    min_size=1,
    max_size=10,
)
RESERVATIONS = st.lists(
    st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.integers(-20, 60), st.integers(1, 80)), max_size=2
)
RUNNING = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from([5.0, 30.0, 70.0])), max_size=3)


def build(reservations: list[AdvanceReservation], running: list[tuple[int, int, float]] = ()) -> Cluster:  # type: ignore[assignment]
    cluster = Cluster()
    for name in "abc":
        cluster.upsert_node(NodeFacts(name, 4, 100))
    cluster.set_reservations(reservations)
    for number, (node, cpus, left_s) in enumerate(running):
        cpus = min(cpus, int(cluster.free[node, 0]))
        if cpus:
            cluster.allocate(RunningJob(900 + number, NOW + left_s, (NodeShare(node, cpus, 0),)))
    return cluster


@settings(max_examples=300, deadline=None)
@given(RESERVATIONS, RUNNING, JOBS, st.sampled_from(list(Backfill)))
def test_no_start_and_no_plan_touches_somebody_elses_reservation(
    spans: list[tuple[set[str], int, int]],
    running: list[tuple[int, int, float]],
    jobs: list[tuple[int, float, str | None]],
    backfill: Backfill,
) -> None:
    reservations = [
        AdvanceReservation(f"r{number}", NOW + start, NOW + start + length, frozenset(nodes), frozenset({"u"}))
        for number, (nodes, start, length) in enumerate(spans)
    ]
    names = {each.name: each for each in reservations}
    cluster, queue = build(reservations, running), Queue()
    for number, (tasks, limit, name) in enumerate(jobs, 1):
        job = PendingJob(number, Shape(tasks=tasks, reservation=name), limit)
        if name is not None:
            refused = refusal(names, name, "u", None, limit, NOW)
            job.reason = None if refused is None else "Reservation"
        queue.upsert(job)
    decided = plan(cluster, queue, NOW, Policy(backfill, depth=5))
    free = cluster.free[: cluster.count].copy()
    for start in decided.starts:
        own, until = start.job.shape.reservation, NOW + start.job.time_limit_s
        for share in start.shares:
            node = cluster.names[share.node]
            free[share.node] -= cluster.share_vector(share)
            for each in reservations:
                if each.name == own:
                    assert node in (each.nodes or ())
                else:
                    assert not (node in (each.nodes or ()) and each.overlaps(NOW, until))
    assert (free >= 0).all()
    for kept in decided.reservations:
        span = (kept.start_time, kept.start_time + kept.job.time_limit_s)
        for share in kept.shares:
            assert not any(
                cluster.names[share.node] in (each.nodes or ()) and each.overlaps(*span) for each in reservations
            )


def test_a_short_job_runs_before_the_maintenance_and_a_long_one_after_it() -> None:
    maintenance = AdvanceReservation("m", NOW + 60, NOW + 100)
    queue = Queue()
    queue.upsert(PendingJob(1, Shape(tasks=4, maximum_nodes=1), 3600.0))
    queue.upsert(PendingJob(2, Shape(tasks=4, maximum_nodes=1), 60.0))
    decided = plan(build([maintenance]), queue, NOW, Policy())
    assert [start.job.job_id for start in decided.starts] == [2]
    assert decided.blocked[queue.jobs[1].shape, 3600.0] == RESERVED
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(1, NOW + 100)]


def test_who_may_use_it_and_when() -> None:
    both = AdvanceReservation("x", 10, 20, None, frozenset({"alice"}), frozenset({"lab"}))
    assert both.allows("alice", "lab")
    assert not both.allows("alice", None)
    assert not AdvanceReservation("m", 10, 20).allows("root", None)
    known = {"x": both}
    assert refusal(known, "x", "alice", "lab", 5, 12) is None
    early = refusal(known, "x", "alice", "lab", 5, 8)
    assert early is not None
    assert early.wake_at == 10
    for name, user, limit, now in (
        ("y", "alice", 5, 12),
        ("x", "bob", 5, 12),
        ("x", "alice", 9, 12),
        ("x", "alice", 1, 20),
    ):
        assert refusal(known, name, user, "lab", limit, now) is not None
    assert refusal(known, "x", "alice", "lab", None, 12) is not None
    assert boundaries([both, AdvanceReservation("m", 5, 20)], 8) == [10, 20]
