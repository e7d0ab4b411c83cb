"""--exclusive=user、mcs：节点上只许同一个主人的作业。随机的作业一遍一遍地排，从不混在一起，谁都排得到。"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts, RunningJob
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

LIMIT_S = 60.0
JOBS = st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(1, 4)), min_size=1, max_size=8)


class Yard:
    """两个四核的节点。"""

    def __init__(self, backfill: Backfill = Backfill.EASY) -> None:
        self.cluster, self.queue, self.planner, self.now = Cluster(), Queue(), Planner(Policy(backfill, 2)), 0.0
        self.cluster.set_partitions([PartitionFacts("main")])
        for name in ("n1", "n2"):
            self.cluster.upsert_node(NodeFacts(name, 4, 100))
        self.users: dict[int, str] = {}

    def submit(self, job_id: int, user: str, tasks: int = 1, *, alone: bool = False, **shape: object) -> None:
        owner = f"user:{user}"
        if alone:
            self.cluster.scopes.add(owner)
        wanted = Shape(tasks=tasks, maximum_nodes=1, partition="main", **shape)  # type: ignore[arg-type]
        self.users[job_id] = owner
        self.queue.upsert(PendingJob(job_id, replace(wanted, exclusive_to=owner if alone else None), LIMIT_S))
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
                        job.job_id, self.now + LIMIT_S, start.shares, "main", start_time=self.now,
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


@settings(max_examples=80, deadline=None)
@given(JOBS, st.sampled_from([Backfill.EASY, Backfill.CONSERVATIVE, Backfill.NONE]))
def test_never_together_and_everybody_starts(jobs: list[tuple[str, bool, int]], backfill: Backfill) -> None:
    yard = Yard(backfill)
    for number, (user, alone, tasks) in enumerate(jobs, start=1):
        yard.submit(number, user, tasks, alone=alone)
    for _ in range(3 * len(jobs) + 3):
        yard.plan()
        yard.now += LIMIT_S
        for job_id in [job.job_id for job in yard.cluster.running.values() if job.expected_end <= yard.now]:
            yard.cluster.release(job_id)
    assert not yard.queue.jobs
