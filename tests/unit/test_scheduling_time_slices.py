"""时间片：换谁上。随机的作业一片一片地走：从不超分，谁都轮得到，一个 CPU 上至多那么多个。"""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.preemption import holds
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, MEMORY, Shape
from scns_conductor.scheduling.time_slices import Turn, next_turn, waits_for_turn
from scns_conductor.scheduling.turn_forecast import Change, Schedule, forecast

SLICE, LIMIT_S = 30.0, 1e6


class Yard:
    """两个四核的节点；作业不结束，一片一片地换。"""

    def __init__(self, *partitions: PartitionFacts) -> None:
        self.cluster, self.queue, self.policy = Cluster(), Queue(), Policy()
        self.cluster.set_partitions(partitions or (PartitionFacts("shared", share_most=2),))
        for name in ("a", "b"):
            self.cluster.upsert_node(NodeFacts(name, 4, 100))
        self.now, self.since = 1000.0, dict[int, float]()
        self.turns = Counter[int]()

    def submit(self, job_id: int, tasks: int = 4, partition: str = "shared", **shape: object) -> None:
        tier = self.cluster.partitions[partition].tier
        wanted = Shape(tasks=tasks, partition=partition, **shape)  # type: ignore[arg-type]
        self.queue.upsert(PendingJob(job_id, wanted, LIMIT_S, tier=tier))

    def start(self, job: PendingJob, shares: tuple[NodeShare, ...]) -> None:
        self.queue.remove(job.job_id)
        self.cluster.allocate(
            RunningJob(
                job.job_id, self.now + LIMIT_S, shares, job.shape.partition, start_time=self.now,
                oversubscribe=job.shape.oversubscribe,
            )
        )  # fmt: skip
        self.since[job.job_id] = self.now

    def move(self) -> Turn:
        """一个时间片：计划、启动、换。"""
        self.now += SLICE
        # 空出来的先攒给停着的，同调度器（worker/scheduler/occupancy.py）：不给后来的。
        saved = holds(self.cluster, self.queue, None)
        for hold in saved:
            self.cluster.allocate(hold)
        decided = plan(self.cluster, self.queue, self.now, self.policy)
        for job in self.queue.jobs:
            self.since.setdefault(job, self.now)
        turn = next_turn(self.cluster, self.queue, decided, self.policy, self.since)
        for hold in saved:
            self.cluster.release(hold.job_id)
        for start in decided.starts:
            self.start(start.job, start.shares)
        for running in turn.suspend:
            lent = tuple((share.node, share.cpus) for share in running.shares)
            shares = tuple(replace(share, cpus=0) for share in running.shares)
            self.cluster.allocate(replace(running, shares=shares, lent=lent, suspended=True))
            self.since[running.job_id] = self.now
        for parked in turn.resume:
            cpus = dict(parked.lent)
            shares = tuple(replace(share, cpus=cpus[share.node]) for share in parked.shares)
            self.cluster.allocate(replace(parked, shares=shares, lent=(), suspended=False))
            self.since[parked.job_id] = self.now
        for start in turn.starts:
            self.start(start.job, start.shares)
        free = self.cluster.free[: self.cluster.count]
        assert (free[:, [CPU, MEMORY]] >= 0).all()
        for each in self.cluster.running.values():
            self.turns[each.job_id] += not each.lent
        return turn

    def foretold(self, job_id: int) -> Change | None:
        at = Schedule(self.now, self.now + SLICE, SLICE, self.since)
        return forecast(self.cluster, self.queue, self.policy, None, at, job_id)

    def walking(self) -> set[int]:
        return {job.job_id for job in self.cluster.running.values() if not job.lent}

    def parked(self) -> set[int]:
        return {job.job_id for job in self.cluster.running.values() if job.lent}


def test_two_jobs_take_turns_and_a_third_waits_for_one_to_end() -> None:
    yard = Yard()
    for job_id in (1, 2, 3, 4, 5):
        yard.submit(job_id)
    yard.move()
    assert yard.walking() == {1, 2}
    assert [job.job_id for job in yard.move().suspend] == [1, 2]
    assert (yard.walking(), yard.parked()) == ({3, 4}, {1, 2})
    yard.move()
    assert (yard.walking(), yard.parked()) == ({1, 2}, {3, 4})
    # FORCE:2：每个 CPU 已经分给了两个，第五个要等。
    yard.move()
    assert set(yard.queue.jobs) == {5}
    yard.cluster.release(3)
    yard.move()
    assert 5 in yard.walking() | yard.parked()


def test_a_job_on_two_nodes_stops_and_goes_as_one() -> None:
    yard = Yard()
    yard.submit(1, 8, minimum_nodes=2, maximum_nodes=2)
    yard.move()
    yard.submit(2, 4)
    yard.move()
    assert (yard.walking(), yard.parked()) == ({2}, {1})
    yard.move()
    assert (yard.walking(), yard.parked()) == ({1}, {2})


def test_the_parked_keep_their_memory() -> None:
    yard = Yard()
    for job_id in (1, 2):
        yard.submit(job_id, memory_per_node=60)
    yard.move()
    yard.submit(3, memory_per_node=60)
    assert not yard.move()
    yard.submit(4, memory_per_node=40)
    yard.move()
    assert 4 in yard.walking()
    assert len(yard.parked()) == 1


def test_other_partitions_are_left_alone() -> None:
    shared = PartitionFacts("shared", share_most=2)
    yard = Yard(shared, PartitionFacts("plain"), PartitionFacts("asked", share_most=2, share_asked=True))
    yard.submit(1, partition="plain")
    yard.submit(2, partition="asked")
    yard.move()
    for job_id in (3, 4):
        yard.submit(job_id)
    assert not yard.move()
    assert yard.walking() == {1, 2}
    # YES：要了 --oversubscribe 的才轮流，而不肯的一个也不停。
    yard.submit(5, partition="asked", oversubscribe=True)
    assert not yard.move()
    assert not waits_for_turn(yard.cluster, Queue(), plan(yard.cluster, Queue(), yard.now, yard.policy))


def test_another_tier_is_not_stopped() -> None:
    yard = Yard(PartitionFacts("low", share_most=2), PartitionFacts("high", tier=2, share_most=2))
    for job_id in (1, 2):
        yard.submit(job_id, partition="low")
    yard.move()
    yard.submit(3, partition="high")
    assert not yard.move()
    assert yard.walking() == {1, 2}


def test_a_reserved_place_in_front_is_not_taken() -> None:
    """排在前面的、不轮流的作业已经保留了节点：后来的轮流的作业不去推迟它。"""
    yard = Yard(PartitionFacts("shared", share_most=4), PartitionFacts("plain"))
    yard.submit(1, 4)
    yard.submit(2, 4)
    yard.move()
    yard.submit(3, 8, "plain", minimum_nodes=2, maximum_nodes=2)
    yard.submit(4, 4)
    assert not yard.move()
    yard.queue.remove(3)
    yard.move()
    assert 4 in yard.walking()


JOBS = st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.integers(0, 30)), min_size=2, max_size=8)


@given(JOBS, st.integers(2, 4))
def test_everybody_gets_a_turn(jobs: list[tuple[int, bool, int]], most: int) -> None:
    yard = Yard(PartitionFacts("shared", share_most=most))
    for number, (cpus, wide, memory) in enumerate(jobs, start=1):
        nodes = 2 if wide else 1
        yard.submit(number, cpus * nodes, minimum_nodes=nodes, maximum_nodes=nodes, memory_per_node=memory)
    for _ in range(6 * len(jobs)):
        yard.move()
        for node in range(2):
            given_out = sum(
                share.cpus + dict(job.lent).get(node, 0)
                for job in yard.cluster.running.values()
                for share in job.shares
                if share.node == node
            )
            assert given_out <= 4 * most
    started = set(yard.cluster.running)
    least = min(yard.turns[job_id] for job_id in started)
    # 在走的次数：谁也不会只走第一次就再也轮不到。
    assert least >= 2


def test_a_turn_is_foretold() -> None:
    yard = Yard()
    for job_id in (1, 2, 3):
        yard.submit(job_id, 8, minimum_nodes=2, maximum_nodes=2)
    yard.move()
    yard.move()
    assert (yard.walking(), yard.parked()) == ({2}, {1})
    # 停着的下一次上来，在走的下一次停下；一个 CPU 至多分给两个，第三个看不到头。
    for job_id in (1, 2):
        change = yard.foretold(job_id)
        assert change is not None
        assert (change.moment, change.turn) == (yard.now + SLICE, 0)
    assert yard.foretold(3) is None
    # 有一个要完了：还要走两片，其间停一片。
    ending = yard.cluster.running[1]
    yard.cluster.release(1)
    yard.cluster.allocate(replace(ending, expected_end=yard.since[1] + 1.5 * SLICE))
    change = yard.foretold(3)
    assert change is not None
    assert change.turn == 3
    for _ in range(3):
        yard.move()
    assert yard.walking() == {1}
    yard.cluster.release(1)
    yard.move()
    assert 3 in yard.walking()


@given(JOBS, st.integers(2, 4), st.integers(1, 4))
def test_what_is_foretold_comes_true(jobs: list[tuple[int, bool, int]], most: int, moves: int) -> None:
    yard = Yard(PartitionFacts("shared", share_most=most))
    for number, (cpus, wide, memory) in enumerate(jobs, start=1):
        nodes = 2 if wide else 1
        yard.submit(number, cpus * nodes, minimum_nodes=nodes, maximum_nodes=nodes, memory_per_node=memory)
    for _ in range(moves):
        yard.move()
    foretold = {job_id: yard.foretold(job_id) for job_id in range(1, len(jobs) + 1)}
    seen: dict[int, float] = {}
    for _ in range(12):
        before = yard.walking()
        yard.move()
        for job_id in before ^ yard.walking():
            seen.setdefault(job_id, yard.now)
    for job_id, change in foretold.items():
        if job_id in seen:
            assert change is not None
            assert change.moment == seen[job_id]
        else:
            assert change is None or change.turn >= 12
