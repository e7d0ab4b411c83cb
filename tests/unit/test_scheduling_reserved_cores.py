"""按核留的预留：里面的至多用留的，外面的至多用其余的；一步一步地排，哪一刻也不多给。"""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.explain import explain
from scns_conductor.scheduling.explain_text import Names, render
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.placement import Placement
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.preemption import holds, resumable
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, Shape

CPUS = 4
STEP_S = 10.0
# 窗口：从第 2 步到第 6 步。
OPENS, CLOSES = 20.0, 60.0
JOBS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["in", "out", "out", "roams"]),
        st.integers(1, 5),
        st.integers(1, 5),
        st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


class Yard:
    """两个四核的节点；cores 是各留几个。"""

    def __init__(self, cores: dict[str, int], policy: Policy | None = None, **reservation: object) -> None:
        self.cluster, self.queue, self.now = Cluster(), Queue(), 0.0
        self.policy = policy or Policy()
        self.planner = Planner(self.policy)
        self.cluster.set_partitions([PartitionFacts("main")])
        for name in ("n1", "n2"):
            self.cluster.upsert_node(NodeFacts(name, CPUS, 100))
        self.reservation = AdvanceReservation(
            "rc",
            OPENS,
            CLOSES,
            frozenset(cores),
            frozenset({"u"}),
            cores=tuple(cores.items()),
            **reservation,  # type: ignore[arg-type]
        )
        self.cluster.set_reservations([self.reservation])
        self.cluster.turn_reservations(self.now)
        self.ends: dict[int, float] = {}

    def shape(self, where: str, tasks: int = 1, **more: object) -> Shape:
        shape = Shape(tasks=tasks, maximum_nodes=1, partition="main", **more)  # type: ignore[arg-type]
        if where == "out":
            return shape
        return replace(shape, reservation="rc", roams=where == "roams", by_reserved_cores=True)

    def submit(self, job_id: int, where: str, tasks: int = 1, limit_s: float = STEP_S, **shape: object) -> None:
        self.queue.upsert(PendingJob(job_id, self.shape(where, tasks, **shape), limit_s))

    def run(self, job_id: int, node: int, cpus: int, end: float, reservation: str | None = None) -> None:
        self.cluster.allocate(RunningJob(job_id, end, (NodeShare(node, cpus, 0),), reservation=reservation))

    def plan(self, *, actual: dict[int, float] | None = None) -> set[int]:
        """排到不再有启动；返回启动了的。actual 是真的跑多久（秒），缺省跑满。"""
        started: set[int] = set()
        for _ in range(100):
            decided = self.planner.plan(self.cluster, self.queue, self.now, complete=False)
            anew = plan(self.cluster, self.queue, self.now, self.policy)
            assert {start.job.job_id for start in decided.starts} == {start.job.job_id for start in anew.starts}
            for start in decided.starts:
                job = start.job
                self.queue.remove(job.job_id)
                end = self.now + start.limit_s
                self.cluster.allocate(
                    RunningJob(job.job_id, end, start.shares, "main", reservation=job.shape.reservation)
                )
                self.ends[job.job_id] = self.now + (actual or {}).get(job.job_id, start.limit_s)
                started.add(job.job_id)
            if not decided.starts:
                break
        return started

    def to(self, moment: float) -> None:
        """到 moment：该结束的结束，窗口该开的开。"""
        self.now = moment
        for job_id in [job_id for job_id, end in self.ends.items() if end <= moment]:
            self.cluster.release(job_id)
            del self.ends[job_id]
        self.cluster.set_reservations([self.reservation] if moment < CLOSES else [])
        self.cluster.turn_reservations(moment)

    def used(self, node: int) -> tuple[int, int]:
        """里面的、外面的各占几个 CPU。"""
        found = [0, 0]
        for job in self.cluster.running.values():
            for share in job.shares:
                if share.node == node:
                    found[job.reservation is None] += share.cpus
        return found[0], found[1]

    def why(self, job_id: int) -> str:
        job = self.queue.jobs[job_id]
        found = explain(Outlook(self.cluster, self.queue, job, self.now, self.policy), self.queue, job)
        return render(found, Names({}, {}, self.now))


@given(
    JOBS,
    st.dictionaries(st.sampled_from(["n1", "n2"]), st.integers(1, CPUS), min_size=1),
    st.sampled_from([Backfill.EASY, Backfill.CONSERVATIVE]),
    st.sampled_from([Placement.BEST_FIT, Placement.SPREAD]),
)
def test_neither_side_ever_gets_more_than_its_own(
    jobs: list[tuple[int, str, int, int, bool]], cores: dict[str, int], backfill: Backfill, placement: Placement
) -> None:
    yard = Yard(cores, Policy(backfill, placement=placement))
    actual = {number: STEP_S for number, job in enumerate(jobs) if job[4]}
    for step in range(10):
        yard.to(step * STEP_S)
        for number, (when, where, tasks, steps, _) in enumerate(jobs):
            # 里面的要窗口开了才有资格，做不完的没有（eligibility）；在里在外都行的什么时候都行。
            due = max(when, 2) if where == "in" else when
            if due == step and (where != "in" or yard.now + steps * STEP_S <= CLOSES):
                yard.submit(number, where, tasks, steps * STEP_S)
        yard.plan(actual=actual)
        for node, name in enumerate(yard.cluster.names):
            inside, outside = yard.used(node)
            assert inside + outside <= CPUS
            if OPENS <= yard.now < CLOSES and name in cores:
                assert outside <= CPUS - cores[name]
                if all(where != "roams" for _, where, _, _, _ in jobs):
                    assert inside <= cores[name]
    # 谁也没有少还：外面的都排得到。
    for moment in range(200, 200 + len(jobs) * 60, 60):
        yard.to(float(moment))
        assert not yard.cluster.running
        yard.plan()
    assert {number for number in yard.queue.jobs if yard.queue.jobs[number].shape.tasks <= CPUS} <= {
        number for number, job in enumerate(jobs) if job[1] != "out"
    }


def test_outsiders_use_the_rest_and_insiders_exactly_the_reserved_cores() -> None:
    yard = Yard({"n1": 2, "n2": 4})
    yard.to(OPENS)
    for number in range(4):
        yard.submit(number, "out")
    for number in range(10, 18):
        yard.submit(number, "in")
    assert yard.plan() == {0, 1, *range(10, 16)}
    assert [yard.used(node) for node in range(2)] == [(2, 2), (4, 0)]
    # 里面的走了一个，只有里面的用得上。
    yard.cluster.release(10)
    assert yard.plan() == {16}


def test_a_job_that_would_run_into_the_window_waits_and_a_short_one_does_not() -> None:
    yard = Yard({"n1": 3, "n2": 3})
    yard.submit(1, "out", 2, OPENS + 1)
    yard.submit(2, "out", 4, OPENS)
    yard.submit(3, "out", 1, 10 * CLOSES)
    assert yard.plan() == {2, 3}
    # 等到窗口过去；里面的排得到的仍然排得到。
    yard.to(OPENS)
    yard.submit(4, "in", 3)
    assert yard.plan() == {4}
    decided = plan(yard.cluster, yard.queue, yard.now, yard.policy)
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(1, CLOSES)]


def test_insiders_are_planned_within_the_window_only() -> None:
    yard = Yard({"n1": 2})
    yard.to(OPENS)
    yard.submit(1, "in", 2, STEP_S)
    yard.submit(2, "in", 2, STEP_S)
    yard.submit(3, "in", 2, 30.0)
    assert yard.plan() == {1}
    decided = plan(yard.cluster, yard.queue, yard.now, yard.policy)
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(2, OPENS + STEP_S)]
    assert "CPU@rc" in yard.why(3)


def test_an_exclusive_job_waits_for_the_window_to_close_and_never_runs_inside() -> None:
    yard = Yard({"n1": 1, "n2": 1})
    yard.submit(1, "out", 1, OPENS, exclusive=True)
    assert yard.plan() == {1}
    yard.submit(2, "out", 1, OPENS + 1, exclusive=True)
    yard.submit(3, "in", 1, exclusive=True)
    assert yard.plan() == set()
    decided = plan(yard.cluster, yard.queue, yard.now, yard.policy)
    assert [(kept.job.job_id, kept.start_time) for kept in decided.reservations] == [(2, CLOSES)]
    assert ["只留了节点的一部分" in text for text in decided.impossible.values()] == [True]


def test_outsiders_that_were_already_there_shrink_what_the_insiders_get() -> None:
    """IGNORE_JOBS：到时还占着的照跑，里面的只用真的空着的。"""
    yard = Yard({"n1": 3})
    yard.run(90, 0, 3, 40.0)
    yard.run(91, 1, 4, 400.0)
    yard.ends[90] = 40.0
    yard.to(OPENS)
    for number in range(4):
        yard.submit(number, "in", 1, STEP_S)
    yard.submit(10, "out")
    assert len(yard.plan()) == 1
    assert yard.used(0) == (1, 3)
    yard.to(40.0)
    assert len(yard.plan()) == 3 + 1
    assert yard.used(0) == (3, 1)


def test_who_still_runs_when_the_window_closes_is_an_ordinary_job() -> None:
    yard = Yard({"n1": 4, "n2": 4}, flex=True)
    yard.to(OPENS)
    yard.submit(1, "roams", 3, 100.0)
    yard.submit(2, "out", 1, STEP_S)
    assert yard.plan() == set() or yard.used(0)[0] + yard.used(1)[0] == 3
    yard.to(CLOSES)
    yard.submit(3, "out", 4, STEP_S)
    yard.submit(4, "out", 4, STEP_S)
    yard.plan()
    assert all(sum(yard.used(node)) <= CPUS for node in range(2))
    yard.to(400.0)
    assert (yard.cluster.free[:2, CPU] == CPUS).all()


def test_a_suspended_insider_gets_its_own_cores_back_and_nobody_elses() -> None:
    yard = Yard({"n1": 2})
    yard.to(OPENS)
    yard.run(91, 1, 4, 400.0)
    for job_id, reservation in ((1, "rc"), (2, None)):
        yard.cluster.allocate(
            RunningJob(job_id, 400.0, (NodeShare(0, 0, 0),), lent=((0, 2),), suspended=True, reservation=reservation)
        )
    yard.run(90, 0, 2, 400.0)
    # 留的两个空着、别的都用着：里面的能接着跑，外面的不能。
    assert [job.job_id for job in resumable(yard.cluster, Plan(yard.now), None)] == [1]
    assert [job.job_id for job in holds(yard.cluster, yard.queue, None)] == [-1]
    # 里面的用着留的、别的空着：反过来。
    yard.cluster.release(90)
    yard.run(92, 0, 2, 400.0, "rc")
    assert [job.job_id for job in resumable(yard.cluster, Plan(yard.now), None)] == [2]


def test_two_reservations_share_a_node() -> None:
    yard = Yard({"n1": 2})
    other = replace(yard.reservation, name="rd", cores=(("n1", 1),))
    yard.cluster.set_reservations([yard.reservation, other])
    yard.cluster.turn_reservations(OPENS)
    yard.now = OPENS
    yard.run(91, 1, 4, 400.0)
    for number in range(3):
        yard.submit(number, "in")
        yard.submit(10 + number, "out")
        yard.queue.upsert(PendingJob(20 + number, replace(yard.shape("in"), reservation="rd"), STEP_S))
    assert yard.plan() == {0, 1, 10, 20}


def test_explaining_names_the_reservation_that_holds_the_cores() -> None:
    yard = Yard({"n1": 4, "n2": 4})
    yard.to(OPENS)
    yard.submit(1, "out", 2)
    assert yard.plan() == set()
    assert "rc" in yard.why(1)
