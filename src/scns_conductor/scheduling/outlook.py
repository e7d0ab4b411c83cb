"""前景：排在一个作业前面的都计划好之后，还剩什么。解释与试排用它一问一答，不改任何东西，也不重新计划。"""

import math
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.cycle import Cycle
from scns_conductor.scheduling.future import Future
from scns_conductor.scheduling.ledger import soonest
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import Group, PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, BoolArray, Shape

# 前面受阻的至少给这么多个做保留，才说得准预计的时刻。
LEAST_DEPTH = 100
_EVERYTHING = 2**31
# 能一直用下去的时长就说到这么久（秒）。
LONGEST_S = 7 * 86400.0


class Outlook:
    """轮到 job 时的情形：前面的（次序键更小的）要启动的都启动了，受阻的都保留了。"""

    def __init__(self, cluster: Cluster, queue: Queue, job: PendingJob, now: float, policy: Policy) -> None:
        self.cluster = cluster
        self.now = now
        self.queue, self.job = queue, job
        ahead = [found for group in queue.groups.values() if (found := _before(group, job)) is not None]
        own = Group(job.shape, job.time_limit_s)
        self._policy = replace(policy, most_starts=_EVERYTHING)
        if not policy.shortest_first:
            self._policy = replace(self._policy, depth=max(policy.depth, LEAST_DEPTH))
        self._cycle = self._planned(ahead)
        # 前面受阻的多到没有都保留：预计的时刻偏早；预测短的先回填时，后来的也许先启动。
        self.incomplete = self._cycle.full(own)
        # 真的会为它保留。
        self.promised = (
            not self.incomplete if policy.shortest_first else len(self._cycle.plan.reservations) < policy.depth
        )
        if self.incomplete and policy.shortest_first:
            # 说个大概：都照次序。
            self._policy = replace(self._policy, depth=LEAST_DEPTH, shortest_first=False)
            self._cycle = self._planned(ahead)
        self.plan = self._cycle.plan
        # 前面说不准何时、所以没有保留的组。
        self.undated = self._cycle.unreserved

    @cached_property
    def coming(self) -> list[PendingJob]:
        """排在前面、前景里没有（全）算的：此刻还不能启动的，数组余下的任务。队列很长，一个前景只看一遍。"""
        key, own = self.job.key, self.job.job_id
        return [
            other
            for other in self.queue.jobs.values()
            if not (other.startable and _last_one(other)) and other.key < key and other.job_id != own
        ]

    def _planned(self, ahead: list[Group]) -> Cycle:
        cycle = Cycle(self.cluster, self.now, self._policy)
        cycle.run([Attempt(self.cluster, group, self.now) for group in ahead])
        return cycle

    def lacking(self, shape: Shape, limit_s: float) -> list[str]:
        """不够的池（上限与许可证）；别人的预留在 limit_s 秒之内占着的不能用。"""
        return [name for name, count in shape.pools if self.left(name, shape.reservation, limit_s) < count]

    def lacking_licenses_only(self, shape: Shape, limit_s: float) -> bool:
        """不够的都是许可证：它们也会为它留着。"""
        return all(name.startswith(LICENSE) for name in self.lacking(shape, limit_s))

    def left(self, pool: str, own: str | None, limit_s: float) -> int:
        """一个池还剩多少给用预留 own 的作业用 limit_s 秒，可为负。"""
        return self._cycle.pools.get(pool, 0) - self.cluster.reserved_pool(pool, own, self.now, self.now + limit_s)

    def scarce(self, pool: str) -> bool:
        """前面的作业里有在等这个池的。"""
        return any(
            reason == self.cluster.pool_reasons.get(pool) and any(name == pool for name, _ in key[0].pools)
            for key, reason in self.plan.blocked.items()
        )

    def blocked_in(self, partition: str) -> bool:
        """这个分区里前面有受阻的。"""
        return any(key[0].partition == partition for key in self.plan.blocked)

    def fits_now(self, shape: Shape, limit_s: float) -> bool:
        """现在就能启动而不推迟前面的，也不碰预留。"""
        if self._cycle.lacking(self._attempt(shape, limit_s)) is not None:
            return False
        nodes, kept = self.cluster.usable(shape, self.now, limit_s), self._cycle.kept_from(shape, limit_s)
        return self._fits(shape, limit_s, nodes if kept is None else nodes & ~kept)

    def spare_s(self, shape: Shape, limit_s: float) -> float:
        """现在就能启动的，晚多少秒启动也还行：时限再长这么多也放得下。没有尽头是 inf。"""
        if self.fits_now(shape, limit_s + LONGEST_S):
            return math.inf
        low, high = 0.0, LONGEST_S
        while high - low > 1.0:
            middle = (low + high) / 2
            low, high = (middle, high) if self.fits_now(shape, limit_s + middle) else (low, middle)
        return low

    def only_reserved(self, shape: Shape, limit_s: float) -> bool:
        """若没有预留，现在就有节点能启动。"""
        return self._fits(shape, limit_s, self.cluster.open_to(shape))

    def _fits(self, shape: Shape, limit_s: float, nodes: BoolArray) -> bool:
        free = self._cycle.free if self.cluster.secluded(shape) else self._cycle.future.window(limit_s)
        return place(self.cluster, shape, free, self._policy.placement, nodes) is not None

    def earliest(
        self, shape: Shape, limit_s: float, not_before: float | None = None
    ) -> tuple[float, tuple[NodeShare, ...]] | None:
        """最早（不早于 not_before）能启动的 (时刻, 份额)，许可证也等到；上限不看。说不准的是 None。

        占着的没有时限、挂起了，都可能说不准。在预留里面的只看里面在跑的。
        """
        attempt = self._attempt(shape, limit_s)
        if not attempt.inside:
            return self._cycle.earliest(attempt, not_before)
        if shape.reservation not in self.cluster.reservations:
            return None
        return self._regardless((shape.reservation,), shape, limit_s, not_before)

    def unreserved(self, shape: Shape, limit_s: float) -> float | None:
        """假如没有预留，也没有为别的作业保留，最早何时放得下；说不准是 None。"""
        found = self._regardless(self.cluster.reservations.keys(), shape, limit_s, None)
        return None if found is None else found[0]

    def _regardless(
        self, ignored: Collection[str], shape: Shape, limit_s: float, not_before: float | None
    ) -> tuple[float, tuple[NodeShare, ...]] | None:
        """不管 ignored 这些预留，也不管为别的作业的保留。"""
        future = Future(self.cluster, self.now, self._cycle.free, ignored=ignored)

        def among(nodes: BoolArray, least: float | None) -> tuple[float, tuple[NodeShare, ...]] | None:
            return future.earliest_general(shape, nodes, limit_s, self._policy.placement, least)

        return soonest(self.cluster, shape, self.cluster.open_to(shape), not_before, among)

    def _attempt(self, shape: Shape, limit_s: float) -> Attempt:
        return Attempt(self.cluster, Group(shape, limit_s), self.now)


def _last_one(job: PendingJob) -> bool:
    """不是数组，或只剩一个任务。"""
    return job.tasks is None or sum(span.upper - span.lower for span in job.tasks) == 1


def _before(group: Group, job: PendingJob) -> Group | None:
    """组里次序在 job 之前的；一个也没有是 None。"""
    count = bisect_left(group.keys, job.key)
    if count <= group.start:
        return None
    found = Group(group.shape, group.time_limit_s)
    found.keys, found.jobs, found.start = group.keys[:count], group.jobs[:count], group.start
    return found
