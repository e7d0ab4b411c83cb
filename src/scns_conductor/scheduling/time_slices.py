"""时间片（Slurm 的 gang scheduling）：许与别的作业轮流用 CPU 的分区里，到了时候换谁上。纯函数。

暂停的把 CPU 借出去，内存与通用资源留给自己，所以怎样换也不超分；一个作业在它的全部节点上一起停、一起走。
等得最久的先上，上不了的看下一个；余下的 CPU 留给这一轮最晚上来的，别的让出来。同一个层级的分区才轮流。
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import PartitionFacts, RunningJob
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import Group, PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, LICENSE, BoolArray, IntArray


@dataclass(slots=True)
class Turn:
    """换一次：这些暂停，这些接着走，这些启动。"""

    suspend: list[RunningJob] = field(default_factory=list)
    resume: list[RunningJob] = field(default_factory=list)
    starts: list[PlannedStart] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.suspend or self.resume or self.starts)


@dataclass(slots=True)
class TurnClock:
    """何时换：每片几秒，上一次、下一次何时（没有谁在等着换是 None），谁从何时起（见 next_turn 的 since）。"""

    slice_s: float = 30.0
    turned_at: float = 0.0
    turn_at: float | None = None
    since: dict[int, float] = field(default_factory=dict)

    def look(
        self,
        cluster: Cluster,
        queue: Queue,
        plan: Plan,
        policy: Policy,
        now: float,
        barred: Collection[int] = frozenset(),
    ) -> Turn | None:
        """到了时候就说换谁；没有谁在等着换、还没有到时候是 None（那时 turn_at 是何时）。"""
        if not waits_for_turn(cluster, queue, plan):
            return None
        for job_id in waiting_heads(cluster, queue, plan):
            self.since.setdefault(job_id, now)
        self.turn_at = max(now, self.turned_at + self.slice_s)
        if now < self.turn_at:
            return None
        self.turned_at, self.turn_at = now, now + self.slice_s
        return next_turn(cluster, queue, plan, policy, self.since, barred)

    def moved(self, job_ids: Collection[int], now: float) -> None:
        """这些作业此刻停了、走了、启动了。"""
        self.since.update(dict.fromkeys(job_ids, now))

    def keep(self, job_ids: Collection[int]) -> None:
        """别的都不在了。"""
        self.since = {job_id: moment for job_id, moment in self.since.items() if job_id in job_ids}


def turns_in(partitions: Iterable[PartitionFacts]) -> bool:
    """有没有分区许作业轮流用 CPU。"""
    return any(each.share_most > 1 for each in partitions)


def sharers(cluster: Cluster) -> list[RunningJob]:
    """与别的作业轮流用 CPU 的；在按核留的预留里的不轮流。"""
    return [
        job
        for job in cluster.running.values()
        if job.job_id > 0
        and shares(cluster, job.partition, job.oversubscribe)
        and all(cluster.cpu_column_at(job.reservation, share.node) == CPU for share in job.shares)
    ]


def shares(cluster: Cluster, partition: str, asked: bool) -> bool:
    """这个分区里，要了（asked）或没有要 --oversubscribe 的作业轮流用 CPU。"""
    found = cluster.partitions.get(partition)
    return found is not None and found.shares(asked)


def waits_for_turn(cluster: Cluster, queue: Queue, plan: Plan) -> bool:
    """有作业要等到换的时候：暂停着的，或缺 CPU 而在轮流的分区里排队的。"""
    if any(job.lent and job.resuming and not job.ending for job in sharers(cluster)):
        return True
    return any(True for _ in _waiting_groups(cluster, queue, plan)) and bool(sharers(cluster))


def waiting_heads(cluster: Cluster, queue: Queue, plan: Plan) -> list[int]:
    """在等第一次的：各组的第一个作业。"""
    return [next(group.live()).job_id for group in _waiting_groups(cluster, queue, plan)]


def next_turn(
    cluster: Cluster,
    queue: Queue,
    plan: Plan,
    policy: Policy,
    since: Mapping[int, float],
    barred: Collection[int] = frozenset(),
) -> Turn:
    """此刻换谁。since 是作业 -> 从何时起（Unix 秒）在走、在停，或在等第一次；没有的当作最久。barred 的此刻不动。

    plan.starts 的照旧启动：它们先占。同一遍里暂停的不会又接着走。
    """
    turn = Turn()
    if cluster.scopes and plan.starts:
        # 能用哪些节点，要等这一遍的启动成了才知道。
        return turn
    mine = [job for job in sharers(cluster) if not job.ending and job.job_id not in barred]
    free = cluster.free[: cluster.count].copy()
    for start in plan.starts:
        for share in start.shares:
            free[share.node] -= cluster.share_vector(share)
    parked = [job for job in mine if job.lent and job.resuming]
    for job in parked:
        # 替它攒着的，也拿出来一起分。
        hold = cluster.running.get(-job.job_id)
        for share in hold.shares if hold is not None else ():
            free[share.node, CPU] += share.cpus
    active = [job for job in mine if not job.suspended and not job.lent]
    groups = list(_waiting_groups(cluster, queue, plan))
    for tier in sorted(
        {*(_tier(cluster, job) for job in mine), *(group_tier(group) for group in groups)}, reverse=True
    ):
        rows = _Rows(cluster, queue, plan, policy, since, turn, free)
        rows.turn(
            [job for job in active if _tier(cluster, job) == tier],
            [job for job in parked if _tier(cluster, job) == tier],
            [group for group in groups if group_tier(group) == tier],
        )
    return turn


def group_tier(group: Group) -> int:
    """组里作业的层级。"""
    return next(group.live()).tier


@dataclass(slots=True)
class _Rows:
    """一个层级的一次；free 是几个层级共用的，用掉的从里面减。"""

    cluster: Cluster
    queue: Queue
    plan: Plan
    policy: Policy
    since: Mapping[int, float]
    result: Turn
    free: IntArray
    load: IntArray = field(init=False)
    pools: dict[str, int] = field(init=False)

    def turn(self, active: list[RunningJob], parked: list[RunningJob], groups: list[Group]) -> None:
        """等得久的先上，占 active 让得出来的；余下的给 active。"""
        for job in active:
            for share in job.shares:
                self.free[share.node, CPU] += share.cpus
        self.load = load_of(self.cluster, [*active, *parked])
        self.pools = dict(self.cluster.pools)
        for start in [*self.plan.starts, *self.result.starts]:
            for name, count in start.job.shape.pools:
                self.pools[name] = self.pools.get(name, 0) - count
        waiting: list[tuple[float, int, Callable[[], None]]] = [
            (self.since.get(job.job_id, 0.0), job.job_id, lambda job=job: self._resume(job))  # type: ignore[misc]
            for job in parked
        ]
        for group in groups:
            head = next(group.live())
            waiting.append(
                (self.since.get(head.job_id, 0.0), head.job_id, lambda group=group: self._start(group))  # type: ignore[misc]
            )
        for _, _, act in sorted(waiting, key=lambda each: each[:2]):
            act()
        # 刚上来的接着用；走得最久的让出来。
        for job in sorted(active, key=lambda each: (-self.since.get(each.job_id, 0.0), each.job_id)):
            if all(self.free[share.node, CPU] >= share.cpus for share in job.shares):
                for share in job.shares:
                    self.free[share.node, CPU] -= share.cpus
            else:
                self.result.suspend.append(job)

    def _resume(self, job: RunningJob) -> None:
        if all(self.free[node, CPU] >= cpus for node, cpus in job.lent):
            self.result.resume.append(job)
            for node, cpus in job.lent:
                self.free[node, CPU] -= cpus

    def _start(self, group: Group) -> None:
        """按次序启动组里的，到放不下为止。"""
        cluster, shape = self.cluster, group.shape
        usable = cluster.usable(shape, self.plan.now, group.time_limit_s)
        most = cluster.partitions[shape.partition].share_most * cluster.total[: cluster.count, CPU]
        for job, task_id in _tasks(group, self.plan, self.policy.most_starts - len(self.result.starts)):
            if any(self.pools.get(name, 0) < count for name, count in shape.pools):
                return
            room = self.free.copy()
            room[:, CPU] = np.clip(np.minimum(room[:, CPU], most - self.load), 0, None)
            found = place(cluster, shape, room, self.policy.placement, usable & ~self._kept(job))
            if found is None:
                return
            self.result.starts.append(PlannedStart(job, task_id, found))
            for share in found:
                self.free[share.node] -= cluster.share_vector(share)
                self.load[share.node] += share.cpus
            for name, count in shape.pools:
                self.pools[name] = self.pools.get(name, 0) - count

    def _kept(self, job: PendingJob) -> BoolArray:
        """排在它前面、不轮流的作业保留着的节点：不去推迟它们。"""
        mask: BoolArray = np.zeros(self.cluster.count, dtype=np.bool_)
        for kept in self.plan.reservations:
            shape = kept.job.shape
            if kept.job.key < job.key and not shares(self.cluster, shape.partition, shape.oversubscribe):
                mask[[share.node for share in kept.shares]] = True
        return mask


def load_of(cluster: Cluster, jobs: list[RunningJob]) -> IntArray:
    """各节点的 CPU 分给了轮流的作业共多少，停着的也算。"""
    found: IntArray = np.zeros(cluster.count, dtype=np.int64)
    for job in jobs:
        for share in job.shares:
            found[share.node] += share.cpus
        for node, cpus in job.lent:
            found[node] += cpus
    return found


def _waiting_groups(cluster: Cluster, queue: Queue, plan: Plan) -> Iterator[Group]:
    """轮流的分区里缺资源的组。列了几个分区的、异构的不在其中：它们等空出来的。"""
    for key, reason in plan.blocked.items():
        group, shape = queue.groups.get(key), key[0]
        if group is None or reason != "Resources" or not len(group) or shape.components or shape.exclusive_to:
            continue
        if shape.by_reserved_cores:
            continue
        if cluster.reservations and any(name.startswith(LICENSE) for name, _ in shape.pools):
            continue
        if shares(cluster, shape.partition, shape.oversubscribe):
            yield group


def _tasks(group: Group, plan: Plan, most: int) -> Iterator[tuple[PendingJob, int | None]]:
    """组里还没有启动的作业（数组是一个个任务），按次序，至多 most 个。"""
    begun = Counter(start.job.job_id for start in plan.starts)
    for job in group.live():
        taken = begun[job.job_id]
        if job.tasks is None:
            if taken or most <= 0:
                continue
            most -= 1
            yield job, None
            continue
        count = min(most, job.available - taken)
        for task_id in job.task_ids(taken, count) if count > 0 else ():
            most -= 1
            yield job, task_id


def _tier(cluster: Cluster, job: RunningJob) -> int:
    return cluster.partitions[job.partition].tier
