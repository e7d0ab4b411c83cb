"""--exclusive=user、mcs：节点上只许同一个主人的作业。随机的作业一遍一遍地排，从不混在一起，谁都排得到。"""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts, RunningJob
from scns_conductor.scheduling.explain import Explanation, explain
from scns_conductor.scheduling.explain_text import Names, render
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

LIMIT_S = 60.0
STEP_S = 30.0
JOBS = st.lists(
    st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(1, 4), st.sampled_from([STEP_S, LIMIT_S, 90.0])),
    min_size=1,
    max_size=8,
)


class Yard:
    """两个四核的节点。"""

    def __init__(self, backfill: Backfill = Backfill.EASY, depth: int = 2) -> None:
        self.cluster, self.queue, self.planner, self.now = Cluster(), Queue(), Planner(Policy(backfill, depth)), 0.0
        self.cluster.set_partitions([PartitionFacts("main")])
        for name in ("n1", "n2"):
            self.cluster.upsert_node(NodeFacts(name, 4, 100))
        self.users: dict[int, str] = {}

    def submit(
        self, job_id: int, user: str, tasks: int = 1, limit_s: float = LIMIT_S, *, alone: bool = False, **shape: object
    ) -> None:
        owner = f"user:{user}"
        if alone:
            self.cluster.scopes.add(owner)
        wanted = Shape(tasks=tasks, maximum_nodes=1, partition="main", **shape)  # type: ignore[arg-type]
        self.users[job_id] = owner
        self.queue.upsert(PendingJob(job_id, replace(wanted, exclusive_to=owner if alone else None), limit_s))
        # 与调度器一样：有人要隔开的主人才写进形状。
        for job in list(self.queue.jobs.values()):
            owners = tuple(name for name in (self.users[job.job_id],) if name in self.cluster.scopes)
            if job.shape.owners != owners:
                self.queue.upsert(replace(job, shape=replace(job.shape, owners=owners)))

    def plan(self) -> set[int]:
        """排到不再有启动；返回启动了的。"""
        started: set[int] = set()
        for _ in range(100):
            decided = self.planner.plan(self.cluster, self.queue, self.now, complete=False)
            for start in decided.starts:
                job = start.job
                self.queue.remove(job.job_id)
                self.cluster.allocate(
                    RunningJob(
                        job.job_id, self.now + start.limit_s, start.shares, "main", start_time=self.now,
                        owners=(self.users[job.job_id],), exclusive_to=job.shape.exclusive_to,
                    )
                )  # fmt: skip
                started.add(job.job_id)
            self.check()
            if not decided.starts and not decided.exhausted:
                return started
        raise AssertionError("没完没了")

    def check(self) -> None:
        for node in range(2):
            here = [job for job in self.cluster.running.values() if any(share.node == node for share in job.shares)]
            for job in here:
                assert job.exclusive_to is None or all(job.exclusive_to in other.owners for other in here)

    def outlook(self, job_id: int) -> Outlook:
        return Outlook(self.cluster, self.queue, self.queue.jobs[job_id], self.now, self.planner.policy)

    def why(self, job_id: int) -> tuple[Explanation, str]:
        found = explain(self.outlook(job_id), self.queue, self.queue.jobs[job_id])
        return found, render(found, Names({}, {}, self.now))

    def where(self, job_id: int) -> set[str]:
        return {self.cluster.names[share.node] for share in self.cluster.running[job_id].shares}


def test_a_node_is_kept_from_others_and_shared_with_its_own() -> None:
    yard = Yard()
    yard.submit(1, "a", alone=True)
    yard.submit(2, "b")
    yard.submit(3, "a")
    yard.submit(4, "a", alone=True)
    assert yard.plan() == {1, 2, 3, 4}
    assert yard.where(2).isdisjoint(yard.where(1))
    assert yard.where(4).isdisjoint(yard.where(2))


def test_it_waits_for_the_others_to_leave_and_keeps_its_place() -> None:
    yard = Yard()
    yard.submit(1, "b")
    yard.submit(2, "b", 4)
    yard.plan()
    yard.submit(3, "a", alone=True)
    yard.now = 1.0
    # 替它保留着一个空下来的节点；会推迟它的不启动。
    yard.submit(4, "b", 3)
    assert yard.plan() == set()
    yard.cluster.release(2)
    assert yard.plan() == {3, 4}
    assert (yard.where(3), yard.where(4)) == ({"n2"}, {"n1"})


def test_a_label_is_an_owner_too() -> None:
    yard = Yard()
    yard.cluster.scopes.add("mcs:secret")
    yard.cluster.allocate(RunningJob(1, 60.0, (), owners=("user:a", "mcs:secret"), exclusive_to="mcs:secret"))
    yard.submit(2, "a")
    assert yard.plan() == {2}


def test_why_names_whose_node_it_is_and_when_it_opens() -> None:
    yard = Yard()
    yard.submit(1, "a", alone=True, required_nodes=("n1",))
    yard.submit(2, "c", 4, required_nodes=("n2",))
    yard.plan()
    yard.submit(3, "b")
    yard.submit(4, "b", required_nodes=("n1",))
    yard.now = 1.0
    assert yard.plan() == set()
    for job_id in (3, 4):
        found, text = yard.why(job_id)
        assert "n1（只许用户 a 的作业）" in text
        assert "推迟" not in text
        assert found.expected_start == LIMIT_S
    assert {holder.job_id for holder in yard.why(4)[0].holders} == {1}


def test_why_says_what_one_that_must_be_alone_waits_for() -> None:
    yard = Yard()
    yard.submit(1, "b", required_nodes=("n1",))
    yard.submit(2, "b", required_nodes=("n2",))
    yard.plan()
    yard.submit(3, "a", alone=True)
    assert yard.plan() == set()
    found, text = yard.why(3)
    assert "它的节点只许用户 a 的作业，而 2 个合用的节点里 2 个上有别的作业：n1、n2" in text
    assert found.expected_start == LIMIT_S


def test_one_that_must_be_alone_does_not_put_off_who_is_before_it() -> None:
    yard = Yard()
    yard.submit(1, "a", alone=True, required_nodes=("n1",))
    yard.plan()
    yard.submit(2, "b", required_nodes=("n1",))
    yard.now = 30.0
    # 占得下，可是会把 2 挡到它自己结束。
    yard.submit(3, "a", alone=True, required_nodes=("n1",))
    assert yard.plan() == set()
    assert not yard.outlook(3).fits_now(yard.queue.jobs[3].shape, LIMIT_S)
    yard.now = LIMIT_S
    yard.cluster.release(1)
    assert yard.plan() == {2}


@given(JOBS, st.sampled_from([Backfill.EASY, Backfill.CONSERVATIVE, Backfill.NONE]))
def test_never_together_and_everybody_starts(jobs: list[tuple[str, bool, int, float]], backfill: Backfill) -> None:
    yard = Yard(backfill, depth=100)
    for number, (user, alone, tasks, limit_s) in enumerate(jobs, start=1):
        yard.submit(number, user, tasks, limit_s, alone=alone)
    promised: dict[int, float] = {}
    for _ in range(5 * len(jobs) + 5):
        for job_id in yard.plan():
            assert yard.now <= promised.get(job_id, yard.now), f"{job_id} 说好了 {promised[job_id]}"
        for job_id in yard.queue.jobs if backfill is not Backfill.NONE else ():
            found, _ = yard.why(job_id)
            assert found.expected_start is not None
            if found.firm:
                promised.setdefault(job_id, found.expected_start)
        yard.now += STEP_S
        for job_id in [job.job_id for job in yard.cluster.running.values() if job.expected_end <= yard.now]:
            yard.cluster.release(job_id)
    assert not yard.queue.jobs
