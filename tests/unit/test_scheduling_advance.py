"""预留在计划里：不该进的不进，该进的进得去，别的照旧。"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.scheduling.advance import AdvanceReservation, boundaries, refusal
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.explain import explain
from scns_conductor.scheduling.explain_text import Names, render
from scns_conductor.scheduling.feasibility import fit_somewhere, fits
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.planner import Planner, plan
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
    st.tuples(
        st.sets(st.sampled_from("abc"), min_size=1), st.integers(-20, 60), st.integers(1, 80), st.integers(0, 50)
    ),
    max_size=2,
)
LICENSED_JOBS = st.lists(
    st.tuples(
        st.integers(1, 4), st.sampled_from([10.0, 40.0, 90.0]), st.integers(0, 2), st.sampled_from([None, None, "r0"])
    ),
    min_size=1,
    max_size=10,
)
LICENSES = st.lists(st.tuples(st.integers(0, 3), st.integers(-20, 60), st.integers(1, 80)), min_size=1, max_size=2)
HOLDERS = st.lists(st.tuples(st.sampled_from([5.0, 30.0, 70.0]), st.sampled_from([None, "r0", "r1"])), max_size=3)
TOTAL = 3
MATLAB = "license:matlab"
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


@given(RESERVATIONS, RUNNING, JOBS, st.sampled_from(list(Backfill)))
def test_no_start_and_no_plan_touches_somebody_elses_reservation(
    spans: list[tuple[set[str], int, int, int]],
    running: list[tuple[int, int, float]],
    jobs: list[tuple[int, float, str | None]],
    backfill: Backfill,
) -> None:
    reservations = [
        AdvanceReservation(
            f"r{number}",
            NOW + start,
            NOW + start + length,
            frozenset(nodes),
            frozenset({"u"}),
            # 间隔 gap 秒再来两次；0 是不重复。
            later=tuple((NOW + start + k * (length + gap), NOW + start + k * (length + gap) + length) for k in (1, 2))
            if gap
            else (),
        )
        for number, (nodes, start, length, gap) in enumerate(spans)
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
    for (shape, limit), reason in decided.blocked.items():
        if reason not in ("Resources", RESERVED) or shape.reservation is not None:
            continue
        # 只因为有预留：连别人的节点也用，此刻就放得下（一个任务的在那里面放，几个任务的可以分在几个节点上）。
        theirs = {node for each in reservations if each.overlaps(NOW, NOW + limit) for node in each.nodes or ()}
        room = free[[cluster.index[node] for node in theirs], 0] if shape.tasks == 1 else free[:, 0]
        assert (reason == RESERVED) == (bool(theirs) and int(room.sum()) >= shape.tasks)


def test_a_short_job_runs_before_the_maintenance_and_a_long_one_after_it() -> None:
    maintenance = AdvanceReservation("m", NOW + 60, NOW + 100)
    queue = Queue()
    queue.upsert(PendingJob(1, Shape(tasks=4, maximum_nodes=1), 3600.0))
    queue.upsert(PendingJob(2, Shape(tasks=4, maximum_nodes=1), 60.0))
    decided = plan(build([maintenance]), queue, NOW, Policy())
    assert [start.job.job_id for start in decided.starts] == [2]
    assert decided.blocked[queue.jobs[1].shape, 3600.0] == RESERVED
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(1, NOW + 100)]


@given(
    st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 4)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 15)), min_size=1, max_size=5),
)
def test_asked_together_is_as_asked_one_by_one(free: list[tuple[int, int]], asked: list[tuple[int, int, int]]) -> None:
    """不要的那一维不看：总量改小了的，空闲是负的。"""
    rows, needs = np.array(free), np.array([each[:2] for each in asked])
    usable = np.array([[bool(bits >> row & 1) for row in range(len(free))] for *_, bits in asked])
    one_by_one = [bool((mask & fits(rows, need)).any()) for need, mask in zip(needs, usable, strict=True)]
    assert fit_somewhere(rows, needs, usable).tolist() == one_by_one


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


@given(LICENSES, HOLDERS, LICENSED_JOBS, st.sampled_from(list(Backfill)))
def test_reserved_licenses_are_left_to_those_inside(
    spans: list[tuple[int, int, int]],
    holders: list[tuple[float, str | None]],
    jobs: list[tuple[int, float, int, str | None]],
    backfill: Backfill,
) -> None:
    """没有用预留的作业，启动与保留加在一起，任何时刻都不碰预留的许可证。"""
    reservations = [
        AdvanceReservation(
            f"r{number}", NOW + start, NOW + start + length, frozenset(), frozenset({"u"}), licenses=((MATLAB, count),)
        )
        for number, (count, start, length) in enumerate(spans)
    ]
    cluster, queue = build(reservations), Queue()
    cluster.set_pool(MATLAB, TOTAL, "Licenses")
    names = {each.name: each for each in reservations}
    for number, (left_s, name) in enumerate(holders):
        if name in names and not names[name].overlaps(NOW, NOW + left_s):
            name = None
        cluster.allocate(RunningJob(900 + number, NOW + left_s, (), pools=((MATLAB, 1),), reservation=name))
    for number, (tasks, limit, count, name) in enumerate(jobs, 1):
        pools = ((MATLAB, count),) if count else ()
        job = PendingJob(number, Shape(tasks=tasks, reservation=name, pools=pools), limit)
        if name is not None:
            job.reason = None if refusal(names, name, "u", None, limit, NOW) is None else "Reservation"
        queue.upsert(job)
    decided = plan(cluster, queue, NOW, Policy(backfill, depth=5))
    taken = [(start.job, NOW) for start in decided.starts] + [
        (kept.job, kept.start_time) for kept in decided.reservations
    ]
    running = [(job.expected_end, job.reservation) for job in cluster.running.values()]
    mine = [(begin, begin + job.time_limit_s, count, job.shape.reservation)
            for job, begin in taken for _, count in job.shape.pools]  # fmt: skip
    moments = {begin for begin, _, _, _ in mine} | {each.start for each in reservations if each.start > NOW}
    for moment in moments:
        used = [(count, name) for begin, end, count, name in mine if begin <= moment < end]
        used += [(1, name) for end, name in running if max(end, NOW + 1) > moment]
        left_to_others = sum(
            max(0, count - sum(amount for amount, name in used if name == each.name))
            for each in reservations
            if each.start <= moment < each.end
            for _, count in each.licenses
        )
        outside = [count for begin, end, count, name in mine if name is None and begin <= moment < end]
        if outside:
            assert sum(amount for amount, _ in used) + left_to_others <= TOTAL


def licensed(name: str | None, count: int, limit: float) -> PendingJob:
    return PendingJob(1, Shape(reservation=name, pools=((MATLAB, count),)), limit, user="u")


def test_the_reserved_licenses_and_the_common_ones() -> None:
    """三个许可证、预留了两个：外面的用得到一个，里面的三个都行，节点不限；预留过后外面的才用得到两个。"""
    reservation = AdvanceReservation("r", NOW - 10, NOW + 50, frozenset(), frozenset({"u"}), licenses=((MATLAB, 2),))
    for job, starts, later in (
        (licensed(None, 1, 100.0), 1, None),
        (licensed("r", 3, 50.0), 1, None),
        (licensed(None, 2, 10.0), 0, NOW + 50),
    ):
        cluster, queue = build([reservation]), Queue()
        cluster.set_pool(MATLAB, TOTAL, "Licenses")
        queue.upsert(job)
        decided = plan(cluster, queue, NOW, Policy())
        assert len(decided.starts) == starts
        assert [kept.start_time for kept in decided.reservations] == ([] if later is None else [later])
        if later is not None:
            assert decided.blocked == {(job.shape, job.time_limit_s): "Licenses"}


def test_why_names_the_reservation() -> None:
    maintenance = AdvanceReservation("maint", NOW + 60, NOW + 100, later=((NOW + 160, float("inf")),))
    cluster, queue, job = build([maintenance]), Queue(), PendingJob(1, Shape(tasks=4), 70.0)
    queue.upsert(job)
    found = explain(Outlook(cluster, queue, job, NOW, Policy()), queue, job)
    assert (found.reason, found.reserved) == (RESERVED, [("maint", NOW + 60, NOW + 100)])
    text = render(found, Names({}, {}, NOW))
    assert "maint（00:01:00 之后开始，00:01:40 之后结束）" in text
    assert "推迟" not in text
    # 比两次之间的空隙长：什么时候也不行，不说一个做不到的时刻。
    assert found.expected_start is None


def test_what_starts_inside_is_not_counted_twice_in_the_next_plan() -> None:
    """里面的作业先启动：这一遍它用着的与预留占着的都算，外面的要多等；下一遍就按实情。"""
    reservation = AdvanceReservation("r", NOW - 10, NOW + 500, frozenset(), frozenset({"u"}), licenses=((MATLAB, 1),))
    cluster, queue, planner = build([reservation]), Queue(), Planner(Policy())
    cluster.set_pool(MATLAB, 2, "Licenses")
    cluster.allocate(RunningJob(900, NOW + 25, (), pools=((MATLAB, 1),)))
    inside = PendingJob(1, Shape(reservation="r", pools=((MATLAB, 1),)), 100.0)
    outside = PendingJob(2, Shape(pools=((MATLAB, 1),)), 1000.0)
    queue.upsert(inside)
    queue.upsert(outside)
    (start,) = planner.plan(cluster, queue, NOW).starts
    assert start.job is inside
    queue.remove(1)
    pools = inside.shape.pools
    cluster.allocate(RunningJob(1, NOW + 100, start.shares, pools=pools, reservation="r"))
    decided = planner.plan(cluster, queue, NOW)
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(2, NOW + 25)]


def test_a_node_freed_inside_a_reservation_is_seen_at_once() -> None:
    """里面的作业等着里面的节点：空出来的那一遍就启动，不等从头计划。"""
    reservation = AdvanceReservation("r", NOW - 10, NOW + 500, frozenset("a"), frozenset({"u"}))
    cluster, queue, planner = build([reservation], [(0, 4, 100.0)]), Queue(), Planner(Policy())
    for number, name in ((1, "r"), (2, None)):
        queue.upsert(PendingJob(number, Shape(tasks=4, required_nodes=("a",), reservation=name), 60.0))
    queue.upsert(PendingJob(3, Shape(reservation="r"), 60.0))
    assert len(planner.plan(cluster, queue, NOW).starts) == 0
    cluster.release(900)
    assert [start.job.job_id for start in planner.plan(cluster, queue, NOW + 1).starts] == [1]
    cluster.allocate(RunningJob(1, NOW + 60, (NodeShare(0, 4, 0),), reservation="r"))
    queue.remove(1)
    assert len(planner.plan(cluster, queue, NOW + 2).starts) == 0
    cluster.release(1)
    assert [start.job.job_id for start in planner.plan(cluster, queue, NOW + 3).starts] == [3]
