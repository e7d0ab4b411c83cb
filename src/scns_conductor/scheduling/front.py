"""只看队首：放不下的作业之后谁也放不下时，保留影响不了这一遍的启动，就不算它们。

每个真的节点都这样：几个核、几个作业占满，后面的排着队。预计开始只是给人看的，一秒才写一次（Planner.outlook）。
还有谁放得下，才要照整套的办法算保留，看它会不会推迟别人。
"""

from scns_conductor.scheduling.attempt import Attempt, facts_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cycle import Cycle, Waiting
from scns_conductor.scheduling.feasibility import Kind, fits
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import Group, OrderKey, Queue
from scns_conductor.scheduling.shape import LICENSE

# 组数乘节点数多于它的，增量的计划更省。
MOST_CELLS = 4096


class _SomebodyFits(Exception):
    """队首受阻，后面却有也许放得下的。"""


class _Front(Cycle):
    """走到第一个要保留的作业为止。"""

    def __init__(self, cluster: Cluster, queue: Queue, now: float, policy: Policy) -> None:
        super().__init__(cluster, now, policy)
        self.plan.complete = False
        self._queue = queue
        self._over = False

    def attempt(self, group: Group) -> Attempt:
        """考虑一组。"""
        return Attempt(self.cluster, group, self.now)

    def _start_interleaved(self, heap: list[Waiting]) -> None:
        if not self._over:
            super()._start_interleaved(heap)

    def _step(self, attempt: Attempt, limit: OrderKey | None) -> bool:
        return not self._over and super()._step(attempt, limit)

    def _reserve(self, attempt: Attempt, limit: OrderKey | None) -> bool:
        most = self.free.max(axis=0).tolist()
        if any(self._matters(group, most) for group in self._queue.groups.values() if group is not attempt.group):
            raise _SomebodyFits
        # 名额没有了：没有考虑过的组也不必再看。
        self._over, self.depth = True, 0
        return False

    def _lacks_limit(self, group: Group) -> bool:
        return any(self.pools.get(name, 0) < count for name, count in group.shape.pools)

    def _matters(self, group: Group, most: list[int]) -> bool:
        """为别人的保留也许影响它：上限不缺，此刻有节点放得下（多节点的看一个任务），或等许可证。

        most 是各维此刻最空闲的节点的空闲。
        """
        shape, cluster = group.shape, self.cluster
        if shape.components or shape.spreads:
            return True
        if shape.pools and any(name.startswith(LICENSE) for name, _ in shape.pools):
            return True
        need, kind = facts_of(cluster, group)
        if kind is Kind.GENERAL:
            need = shape.per_node(cluster.kinds, cluster.width) + shape.per_task(cluster.kinds, cluster.width)
        if any(amount > room for amount, room in zip(need.tolist(), most, strict=True) if amount):
            return False
        return not self._lacks_limit(group) and bool((cluster.eligible(shape) & fits(self.free, need)).any())


def front(cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan | None:
    """从头计划，只决定启动；保留影响得了启动时是 None。"""
    if (
        policy.backfill is Backfill.NONE
        or not policy.depth
        or cluster.reservations
        or len(queue.groups) * cluster.count > MOST_CELLS
    ):
        return None
    cycle = _Front(cluster, queue, now, policy)
    try:
        cycle.run([], [(group.keys[group.start], group) for group in queue.groups.values()], cycle.attempt)
    except _SomebodyFits:
        return None
    return cycle.plan
