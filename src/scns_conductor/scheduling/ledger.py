"""一遍计划的账：此刻的空闲、池、占去了什么、保留了什么。计划的下层，见 cycle。"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.feasibility import Kind
from scns_conductor.scheduling.future import Future
from scns_conductor.scheduling.node_search import NodeSearch
from scns_conductor.scheduling.plan import Plan, PlannedStart, Reservation
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import Group, GroupKey, OrderKey, PendingJob
from scns_conductor.scheduling.releases import Releases, Started
from scns_conductor.scheduling.shape import LICENSE, BoolArray, IntArray, Shape

# (能用的节点, 不早于) -> 最早能启动的 (时刻, 份额)，放不下是 None。
Among = Callable[[BoolArray, float | None], tuple[float, tuple[NodeShare, ...]] | None]


def soonest(
    cluster: Cluster, shape: Shape, usable: BoolArray, not_before: float | None, among: Among
) -> tuple[float, tuple[NodeShare, ...]] | None:
    """usable 之外，别人独占着的节点到让出来的时候也算上，最早何时放得下。"""
    found = among(usable, not_before)
    for moment, nodes in cluster.openings(shape):
        if found is not None and found[0] < moment:
            break
        later = among(usable | nodes, moment if not_before is None else max(moment, not_before))
        # 同样早的照全部节点的次序挑：让出来之后再看，挑的还是它。
        if later is not None and (found is None or later[0] <= found[0]):
            found = later
    return found


class Ledger:
    """见模块的说明。"""

    def __init__(self, cluster: Cluster, now: float, policy: Policy, releases: Releases | None = None) -> None:
        self.cluster = cluster
        self.policy = policy
        self.now = now
        self.plan = Plan(now)
        self.free: IntArray = cluster.free[: cluster.count].copy()
        self.pools = dict(cluster.pools)
        self.depth = policy.depth if policy.backfill is not Backfill.NONE else 0
        self.started_nodes: set[int] = set()
        # 说不准何时、所以没有保留的组。
        self.unreserved: set[GroupKey] = set()
        self._future: Future | None = None
        self._releases = releases
        # 还没有 future 时的启动，造它时给它。
        self._started = Started()
        self._started_pools: list[tuple[Sequence[tuple[str, int]], float]] = []
        self._stopped: set[str] = set()
        # 各个分区里保留了几个。
        self._held: Counter[str] = Counter()
        # 这一遍启动了的都只许与谁的作业在一起（None 是不管）。
        self._scopes: set[str | None] = set()
        self._search = NodeSearch(cluster, self.free, policy.placement)
        if any(True for _ in cluster.core_holds):
            # 按核留的到时要从此刻空着的里面占去：一开始就看今后。
            self._search.future = self.future

    @property
    def future(self) -> Future:
        """今后的空闲；第一次有作业受阻时才造。"""
        if self._future is None:
            self._future = Future(self.cluster, self.now, self.free, self._started, self._releases)
            for pools, end in self._started_pools:
                self._future.start_pools(pools, end)
            self._search.future = self._future
        return self._future

    def full(self, group: Group) -> bool:
        """保留的名额用完了。预测短的先回填时，每个分区的队首各有各的名额：哪个分区的大作业都等得到。"""
        if self.policy.shortest_first:
            return self._held[group.shape.partition] >= self.depth
        return len(self.plan.reservations) >= self.depth

    def lacking(self, attempt: Attempt) -> str | None:
        """不够的池，上限在许可证之前（上限只是等，许可证会为它保留）；都够是 None。"""
        shape = attempt.group.shape
        pools = shape.pools
        if not pools:
            return None
        lacking = None
        for name, count in pools:
            if self.pools.get(name, 0) - self._reserved(name, attempt) < count:
                if not name.startswith(LICENSE):
                    return name
                lacking = lacking or name
        if lacking is not None:
            return lacking
        if self._future is not None and not self._future.pools_allow(pools, shape.reservation, attempt.duration):
            return next(name for name, _ in pools if name.startswith(LICENSE))
        return None

    def _reserved(self, name: str, attempt: Attempt) -> int:
        """别人的预留在作业的时限之内占着几个许可证。"""
        if not self.cluster.reservations:
            return 0
        return self.cluster.reserved_pool(name, attempt.group.shape.reservation, self.now, self.now + attempt.duration)

    def start(self, start: PlannedStart) -> None:
        """记下一个启动，占去它的资源。"""
        self.plan.starts.add(start)
        needs = [(share.node, self.cluster.share_vector(share)) for share in start.shares]
        for node, need in needs:
            self._take(node, need)
        end = self.now + start.limit_s
        pools = start.job.shape.pools
        for name, count in pools:
            self.pools[name] -= count
        if self._future is None:
            for node, need in needs:
                self._started.add(node, end, need)
            self._started_pools.append((pools, end))
        else:
            self._future.start(needs, end)
            self._future.start_pools(pools, end)

    def _take(self, node: int, need: IntArray) -> None:
        self.free[node] -= need
        self.started_nodes.add(node)
        self._search.taken(node)

    def _reserve(self, attempt: Attempt, limit: OrderKey | None) -> bool:
        """为当前的作业（同形的接着排的，一起）保留；返回组里还要不要往下看（只为保留）。"""
        job = attempt.job
        assert job is not None
        chained = attempt.kind is Kind.PLAIN and not attempt.group.shape.pools and attempt.amounts
        if chained and self.future.untouched and not self.cluster.scopes:
            return self._reserve_chain(attempt, limit)
        found = self.earliest(attempt)
        if found is None:
            self.unreserved.add(attempt.group.key)
            return False
        self.unreserved.discard(attempt.group.key)
        self.hold(Reservation(job, *found))
        attempt.advance()
        return attempt.job is not None

    def _reserve_chain(self, attempt: Attempt, limit: OrderKey | None) -> bool:
        """谁的保留也没有时：同组次序不晚于 limit 的，保留是一条链。"""
        waiting: list[PendingJob] = []
        group = attempt.group
        most = self.depth - (
            self._held[group.shape.partition] if self.policy.shortest_first else len(self.plan.reservations)
        )
        while len(waiting) < most and attempt.job is not None and (limit is None or attempt.key <= limit):
            waiting.append(attempt.job)
            attempt.advance()
        found = self.future.occupy_chain(attempt.need, attempt.usable, attempt.duration, len(waiting))
        cpus, memory, tasks = attempt.share
        shares: dict[int, tuple[NodeShare, ...]] = {}
        for job, (moment, node) in zip(waiting, found, strict=False):
            held = shares.get(node) or shares.setdefault(node, (NodeShare(node, cpus, memory, (), tasks),))
            self._keep(Reservation(job, moment, held))
        if len(found) < len(waiting):
            self.unreserved.add(attempt.group.key)
            return False
        self.unreserved.discard(attempt.group.key)
        return attempt.job is not None

    def earliest(self, attempt: Attempt, not_before: float | None = None) -> tuple[float, tuple[NodeShare, ...]] | None:
        """最早（不早于 not_before）能连续放下组里一个作业的 (时刻, 份额)；已知的结束都等到了也放不下则为 None。"""
        shape = attempt.group.shape
        if shape.exclusive_to is not None:
            # 别人的何时都走，只有整个空下来才说得准。
            alone = replace(shape, exclusive=True, exclusive_to=None)
            return self.future.earliest_general(
                alone, self.cluster.eligible(alone), attempt.duration, self.policy.placement, not_before
            )

        def among(nodes: BoolArray, least: float | None) -> tuple[float, tuple[NodeShare, ...]] | None:
            return self._earliest_among(attempt, nodes, least)

        return soonest(self.cluster, shape, attempt.usable, not_before, among)

    def _earliest_among(
        self, attempt: Attempt, nodes: BoolArray, not_before: float | None
    ) -> tuple[float, tuple[NodeShare, ...]] | None:
        shape, future = attempt.group.shape, self.future
        if attempt.kind is Kind.GENERAL:
            return future.earliest_general(shape, nodes, attempt.duration, self.policy.placement, not_before)
        found = future.earliest(attempt.need, nodes, attempt.duration, shape.pools, shape.reservation, not_before)
        return None if found is None else (found[0], (self.share_at(attempt, *found),))

    def kept_from(self, shape: Shape, duration_s: float) -> BoolArray | None:
        """要与别人隔开的，占了就会推迟别人的保留的节点；没有是 None。"""
        if shape.exclusive_to is None:
            return None
        nodes = [
            share.node
            for kept in self.plan.reservations
            if shape.exclusive_to not in kept.job.shape.owners and kept.start_time < self.now + duration_s
            for share in kept.shares
        ]
        if not nodes:
            return None
        mask: BoolArray = np.zeros(self.cluster.count, dtype=np.bool_)
        mask[nodes] = True
        return mask

    def share_at(self, attempt: Attempt, begin: float, node: int) -> NodeShare:
        """从 begin 起在 node 上的份额。"""
        shape = attempt.group.shape
        if attempt.kind is Kind.PLAIN:
            cpus, memory, tasks = attempt.share
            return NodeShare(node, cpus, memory, (), tasks)
        free = self.future.free_during(node, begin, attempt.duration)
        return self.cluster.share(shape, node, shape.tasks, free)

    def hold(self, reservation: Reservation) -> None:
        """占下一个保留。"""
        job = reservation.job
        end = reservation.start_time + job.time_limit_s
        self.future.occupy(reservation.start_time, end, reservation.shares, job.shape.pools)
        self._keep(reservation)

    def _keep(self, reservation: Reservation) -> None:
        self.plan.reservations.append(reservation)
        self._held[reservation.job.shape.partition] += 1
