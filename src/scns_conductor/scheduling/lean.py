"""只有一个节点时：按次序走一遍，全用列表，一条时间线，不为每个组造对象。

作业几乎各是各的形状时逐个作业地走（Lean），形状不多时逐组地走（lean_by_group）：重放踪迹（机器是一个处理器池）与笔记本上的
混合队列都是这样。只为队首保留、上一遍之后又没有谁结束的，谁的处境也没有变好：只看新到的（Lean._newcomers）。
决定与 Cycle 相同（tests/unit/test_scheduling_lean.py）。
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from scns_conductor.scheduling.attempt import facts_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.feasibility import Kind
from scns_conductor.scheduling.lane import Amounts, Lane, Release, Shadow, enough
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import BackfillRank, Group, GroupKey, OrderKey, PendingJob, Queue, backfill_rank

# 平均一组不到这么多个作业，逐个作业地走；再多就逐组地走，与队列多长无关。
JOBS_PER_GROUP = 4
MOST_GROUPS = 256
# 保留多到这么多，一条时间线上逐个地找就慢了。
MOST_DEPTH = 128
# 记着这么多组各要多少。
MOST_KNOWN = 10_000

# 走了的攒到这么多个（且占三分之一）才丢。
MOST_STALE = 8


class Lean:
    """排好的队列，计划之间留着；只添新到的，走了的碰到时再丢。"""

    def __init__(self) -> None:
        self._queue: Queue | None = None
        self._version = -1
        self._entries: list[_Entry] = []
        # 各要几个 CPU、多少秒，与 _entries 一一对应：多数时候没有几个放得下，先看它们。
        self._cpus: list[int] = []
        self._limits_s: list[float] = []
        # 按预测排回填的次序时：同样的作业，预测短的在前。
        self._shortest: list[tuple[BackfillRank, PendingJob, _Wanted]] = []
        # 不能这样看的作业：数组、多节点、等池的……还有一个在，就照平常的办法。
        self._odd: dict[int, PendingJob] = {}
        # 各组要多少；版本是上面的。
        self._known: dict[GroupKey, _Wanted | None] = {}
        # 上一遍走完的样子；不能接着走的是 None。它启动了的。
        self._last: _Walk | None = None
        self._begun: list[PendingJob] = []

    def forget(self) -> None:
        """有新到的没有经过这里：下一遍从头排。"""
        self._queue = self._last = None
        self._begun = []

    def plan(self, cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan | None:
        """只决定启动；不能这样看时是 None。"""
        last, self._last = self._last, None
        if not _single(cluster, policy) or len(queue.jobs) > JOBS_PER_GROUP * len(queue.groups):
            self._queue = None
            return None
        self._drop_begun(queue)
        added = self._catch_up(cluster, queue, shortest_first=policy.shortest_first)
        if self._odd:
            self._odd = {job_id: job for job_id, job in self._odd.items() if _waits(queue, job)}
            if self._odd:
                return None
        if last is not None and added is not None and last.goes_on(queue, added, now, policy):
            walk = last
            self._newcomers(walk, queue, added, now, shortest_first=policy.shortest_first)
        else:
            walk = _Walk(cluster, now, policy)
            looked = self._walk(walk, queue, shortest_first=policy.shortest_first)
            if looked is not None and walk.free[0]:
                self._backfill(walk, queue, looked)
        self._begun = walk.begun
        if walk.head is not None and not walk.plan.exhausted:
            self._last = walk
        return walk.plan

    def _newcomers(
        self, walk: "_Walk", queue: Queue, added: "list[_Entry]", now: float, *, shortest_first: bool
    ) -> None:
        """接着上一遍，只看新到的。"""
        walk.go_on(now)
        if len(added) > 1:
            added.sort(key=(lambda entry: _rank_of(queue, entry)) if shortest_first else _key_of)
        for _, job, wanted in added:
            if not walk.free[0] or walk.over:
                break
            walk.consider(job, wanted)

    def _catch_up(self, cluster: Cluster, queue: Queue, *, shortest_first: bool) -> "list[_Entry] | None":
        """排进新到的，返回它们；从头排的是 None。"""
        again = self._queue is not queue or self._version != cluster.version or queue.disordered
        if again:
            self._queue, self._version, self._entries, self._odd = queue, cluster.version, [], {}
            self._cpus, self._limits_s, self._shortest, self._known = [], [], [], {}
            fresh: Iterable[PendingJob] = [job for group in queue.groups.values() for job in group.live()]
        else:
            fresh = queue.fresh.values()
        added = []
        for job in fresh:
            entry = self._add(cluster, queue, job, shortest_first=shortest_first)
            if entry is not None:
                added.append(entry)
        return None if again else added

    def _add(self, cluster: Cluster, queue: Queue, job: PendingJob, *, shortest_first: bool) -> "_Entry | None":
        place = (job.shape, job.time_limit_s)
        if place in self._known:
            wanted = self._known[place]
        else:
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            wanted = self._known[place] = _wanted(cluster, queue.groups[place])
        if wanted is None or job.tasks is not None:
            self._odd[job.job_id] = job
            return None
        if not wanted.usable:
            # 放不下，也说不准何时：不挡着别人。
            return None
        key = job.key
        entries = self._entries
        entry = (key, job, wanted)
        # 先来先服务时总在末尾。
        if not entries or entries[-1][0] < key:
            entries.append(entry)
            self._cpus.append(wanted.shares[0].cpus)
            self._limits_s.append(wanted.limit_s)
        else:
            index = bisect_left(entries, (key,))
            if entries[index][1] is job:
                return entry
            entries.insert(index, entry)
            self._cpus.insert(index, wanted.shares[0].cpus)
            self._limits_s.insert(index, wanted.limit_s)
        if shortest_first:
            insort(self._shortest, (_rank_of(queue, entry), job, wanted), key=itemgetter(0))
        return entry

    def _walk(self, walk: "_Walk", queue: Queue, *, shortest_first: bool) -> OrderKey | tuple[()] | None:
        """按次序走；保留的名额用完、余下的要按预测排时，返回走到了哪里（一个也没有看是空的）。"""
        jobs, entries, stale, looked = queue.jobs, self._entries, 0, 0
        last: OrderKey | tuple[()] = ()
        for key, job, wanted in entries:
            if walk.over or not walk.depth:
                break
            looked, last = looked + 1, key
            if jobs.get(job.job_id) is not job or job.reason is not None:
                stale += 1
                continue
            walk.consider(job, wanted)
        left: OrderKey | tuple[()] | None = None
        if not walk.over and looked < len(entries):
            if shortest_first:
                left = last
            elif walk.free[0]:
                stale += self._walk_small(walk, queue, looked)
        if (stale > MOST_STALE and 3 * stale > len(entries)) or len(entries) > 2 * len(jobs) + MOST_STALE:
            self._drop_gone(queue)
        return left

    def _walk_small(self, walk: "_Walk", queue: Queue, first: int) -> int:
        """不再保留了：第 first 个起，只看此刻的 CPU 够的；返回碰到几个已经走了的。"""
        jobs, entries, free, stale = queue.jobs, self._entries, walk.free, 0
        for index in walk.hopeful(self._cpus, self._limits_s, first):
            _, job, wanted = entries[index]
            if jobs.get(job.job_id) is not job or job.reason is not None:
                stale += 1
            elif enough(free, wanted[0]):
                walk.consider(job, wanted)
                if walk.over or not free[0]:
                    break
        return stale

    def _backfill(self, walk: "_Walk", queue: Queue, last: OrderKey | tuple[()]) -> None:
        """余下的（次序在 last 之后的），预测短的先看。"""
        jobs, free, stale = queue.jobs, walk.free, 0
        for (*_, key), job, wanted in self._shortest:
            if jobs.get(job.job_id) is not job or job.reason is not None:
                stale += 1
            elif key > last and enough(free, wanted[0]):
                walk.consider(job, wanted)
                if walk.over or not free[0]:
                    break
        if stale > MOST_STALE and 3 * stale > len(self._shortest):
            self._shortest = [entry for entry in self._shortest if _waits(queue, entry[1])]
            self._drop_gone(queue)

    def _drop_begun(self, queue: Queue) -> None:
        """上一遍启动了的走了：不等攒多了再丢。"""
        entries = self._entries
        for job in self._begun:
            if queue.jobs.get(job.job_id) is not job:
                # 多半是最前的。
                index = 0 if entries and entries[0][1] is job else bisect_left(entries, (job.key,))
                if index < len(entries) and entries[index][1] is job:
                    del entries[index], self._cpus[index], self._limits_s[index]
        self._begun = []

    def _drop_gone(self, queue: Queue) -> None:
        self._entries = [entry for entry in self._entries if _waits(queue, entry[1])]
        self._cpus = [wanted.shares[0].cpus for _, _, wanted in self._entries]
        self._limits_s = [wanted.limit_s for _, _, wanted in self._entries]


class _Wanted(NamedTuple):
    """一个作业要多少、多久、它的份额；usable 是这个节点能不能用。"""

    amounts: Amounts
    limit_s: float
    shares: tuple[NodeShare, ...]
    usable: bool


# 次序键、作业、要多少。
_Entry = tuple[OrderKey, PendingJob, _Wanted]


def _wanted(cluster: Cluster, group: Group) -> _Wanted | None:
    """这一组要多少；不是一个固定的向量、要等池、能缩短时限的是 None。"""
    need, kind = facts_of(cluster, group)
    shape = group.shape
    if kind is not Kind.PLAIN or shape.pools or shape.time_minimum_s is not None:
        return None
    found = need.tolist()
    amounts = [(dimension, amount) for dimension, amount in enumerate(found) if amount]
    usable = not cluster.confined(shape) and bool(cluster.eligible(shape)[0])
    shares = (NodeShare(0, found[0], found[1], (), shape.tasks),)
    return _Wanted(amounts, group.time_limit_s, shares, usable)


class _Walk:
    """一遍：逐个考虑作业。free 是此刻的空闲，depth 是还能保留几个；over：余下的不必看了。

    head 是最后保留的那个：没有比它更前的还在等、没有谁结束，就可以接着走（goes_on）。
    """

    def __init__(self, cluster: Cluster, now: float, policy: Policy) -> None:
        self.plan = Plan(now, complete=False)
        self.over = False
        self.head: PendingJob | None = None
        self._cluster, self._policy = cluster, policy
        self.free: list[int] = cluster.free[0].tolist()
        self._lane: Lane | Shadow | None = None
        # 启动了的，与各自的时限、要多少。
        self.begun: list[PendingJob] = []
        self._started: list[tuple[float, Amounts]] = []
        self.depth, self._left = policy.depth, policy.most_starts
        self._shifts, self._moved_ends = cluster.shifts, cluster.moved_ends

    def consider(self, job: PendingJob, wanted: _Wanted) -> bool:
        """启动它，或为它保留；都不是则 False：与它同组的也不必再看。"""
        amounts, limit_s, shares, _ = wanted
        lane = self._lane
        if enough(self.free, amounts) and (lane is None or lane.allows(amounts, limit_s)):
            self.plan.starts.add(PlannedStart(job, None, shares))
            for dimension, amount in amounts:
                self.free[dimension] -= amount
            self.begun.append(job)
            self._started.append((limit_s, amounts))
            if lane is not None:
                lane.start(limit_s, amounts)
            self._left -= 1
            if not self._left:
                self.plan.exhausted = self.over = True
            return True
        if not self.depth:
            # 没有空闲的 CPU，也不再保留：余下的不必看。
            self.over = not self.free[0]
            return False
        if lane is None:
            lane = self._lane = self._open()
        if not lane.hold(amounts, limit_s):
            return False
        self.depth -= 1
        self.head = job
        return True

    def goes_on(self, queue: Queue, added: "Sequence[_Entry]", now: float, policy: Policy) -> bool:
        """决定的启动都照着做了，此外谁也没有动，受阻的那个还在等、也还要等：只看新到的就够。"""
        cluster, head, lane, then = self._cluster, self.head, self._lane, self.plan.now
        if (
            head is None
            or not isinstance(lane, Shadow)
            or self._policy is not policy
            or queue.jobs.get(head.job_id) is not head
            or head.reason is not None
            # 该归还的过了时刻还没有归还，受阻的那个就要重新算。
            or not then <= now <= lane.begin - 1.0
            or cluster.shifts != self._shifts + len(self._started)
            or cluster.moved_ends != self._moved_ends
        ):
            return False
        for job, (limit_s, _) in zip(self.begun, self._started, strict=True):
            running = cluster.running.get(job.job_id)
            if running is None or running.expected_end != then + limit_s:
                return False
        return all(entry[0] > head.key for entry in added)

    def go_on(self, now: float) -> None:
        """时间到了 now。"""
        assert isinstance(self._lane, Shadow)
        self.plan = Plan(now, complete=False)
        self.over, self._left = False, self._policy.most_starts
        self.begun, self._started, self._lane.now = [], [], now
        self._shifts = self._cluster.shifts

    def hopeful(self, cpus: Sequence[int], limits_s: Sequence[float], first: int) -> list[int]:
        """不再保留了：第 first 个起，只看 CPU 也许放得下的是第几个。"""
        free = self.free[0]
        if isinstance(self._lane, Shadow):
            return self._lane.hopeful(free, cpus, limits_s, first)
        return [index for index, count in enumerate(cpus[first:], first) if count <= free]

    def _open(self) -> Lane | Shadow:
        cluster, now = self._cluster, self.plan.now
        releases: list[Release] = list(cluster.returns())
        for limit_s, amounts in self._started:
            need = [0] * len(self.free)
            for dimension, amount in amounts:
                need[dimension] = amount
            insort(releases, (now + limit_s, need), key=itemgetter(0))
        if self.depth == 1:
            return Shadow(now, self.free, releases)
        return Lane(now, list(self.free), releases)


def lean_by_group(cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan | None:
    """同一组的作业很多：组首排在堆里，放不下也不再保留的，整组不看。只决定启动；不能这样看时是 None。"""
    if not _single(cluster, policy) or policy.shortest_first or len(queue.groups) > MOST_GROUPS:
        return None
    walk = _Walk(cluster, now, policy)
    heap: list[tuple[OrderKey, int, int, Group, _Wanted]] = []
    for number, group in enumerate(queue.groups.values()):
        wanted = _wanted(cluster, group)
        if wanted is None or group.arrays:
            return None
        if wanted.usable:
            heap.append((group.keys[group.start], number, group.start, group, wanted))
    heapq.heapify(heap)
    while heap and not walk.over:
        _, number, index, group, wanted = heap[0]
        job = group.jobs[index]
        assert job is not None
        if not walk.consider(job, wanted):
            heapq.heappop(heap)
            continue
        index += 1
        while index < len(group.jobs) and group.jobs[index] is None:
            index += 1
        if index < len(group.jobs):
            heapq.heapreplace(heap, (group.keys[index], number, index, group, wanted))
        else:
            heapq.heappop(heap)
    return walk.plan


def _single(cluster: Cluster, policy: Policy) -> bool:
    plain = cluster.count == 1 and not cluster.reservations
    if policy.shortest_first and len(cluster.partitions) > 1:
        # 每个分区的名额各是各的。
        return False
    return plain and policy.backfill is not Backfill.NONE and policy.depth <= MOST_DEPTH


def _key_of(entry: _Entry) -> OrderKey:
    return entry[0]


def _rank_of(queue: Queue, entry: _Entry) -> BackfillRank:
    job = entry[1]
    return backfill_rank(entry[0], queue.groups[job.shape, job.time_limit_s])


def _waits(queue: Queue, job: PendingJob) -> bool:
    return queue.jobs.get(job.job_id) is job and job.startable
