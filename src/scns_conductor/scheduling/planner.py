"""计划：集群 + 队列 + 现在 + 策略 -> 启动、保留、谁为什么在等。

plan 从头计划一遍，什么也不记。Planner 记着上一遍的结果，下一遍只看变了的：空出来的节点、新到的作业；
前提是受阻的作业在没有变化的节点上仍然受阻，保留在没有变化的节点上仍然是最早的（见 resumption）。
"""

from dataclasses import dataclass

import numpy as np

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cycle import Cycle
from scns_conductor.scheduling.front import front
from scns_conductor.scheduling.lean import Lean, lean_by_group
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import GroupKey, Queue
from scns_conductor.scheduling.releases import Releases
from scns_conductor.scheduling.resumption import Resumption
from scns_conductor.scheduling.shape import IntArray

# 变了的节点多到这么多（且多于集群的四分之一），不如从头计划。
MOST_CHANGED = 64


def plan(cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan:
    """从头计划一个周期；now 是 Unix 秒。什么也不改。"""
    return _from_scratch(cluster, queue, now, policy).plan


def _from_scratch(cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Cycle:
    cycle = Cycle(cluster, now, policy)
    cycle.run([Attempt(cluster, group, now) for group in queue.groups.values()])
    cycle.settle_reasons(queue)
    return cycle


def _uses_reserved_licenses(cluster: Cluster, found: Plan) -> bool:
    names = {each.name for each in cluster.reservations.values() if each.licenses}
    return bool(names) and any(start.job.shape.reservation in names for start in found.starts)


def _looked(cluster: Cluster, queue: Queue) -> None:
    """“变了的”都看过了。"""
    queue.fresh.clear()
    queue.disordered = False
    cluster.touched.clear()
    cluster.freed_until.clear()


@dataclass(slots=True)
class _Memory:
    """上一遍留下的。free 与 pools 是那时认为启动都成立之后的空闲：与现在不同的，就是变了的。"""

    cluster: Cluster
    queue: Queue
    version: int
    moved_ends: int
    plan: Plan
    free: IntArray
    pools: dict[str, int]
    started_nodes: set[int]
    unreserved: set[GroupKey]
    releases: Releases | None


class Planner:
    """带着记忆的计划器，一个领导者一个。"""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._memory: _Memory | None = None
        self._lean = Lean()

    def plan(self, cluster: Cluster, queue: Queue, now: float, *, complete: bool = True) -> Plan:
        """计划一个周期。队列与集群里“变了的”记号看过就清掉。

        complete 为假：只要启动，影响不了启动的保留与谁为什么在等可以不算（Plan.complete）。
        """
        if not complete and not cluster.scopes:
            whole = (cluster, queue, now, self.policy)
            quick = self._lean.plan(*whole) or front(*whole) or lean_by_group(*whole)
            if quick is not None:
                self.forget()
                _looked(cluster, queue)
                return quick
        else:
            self._lean.forget()
        memory = self._memory
        resumed = None if memory is None else self._resume(memory, cluster, queue, now)
        cycle = _from_scratch(cluster, queue, now, self.policy) if resumed is None else resumed
        future = cycle.future if cycle.plan.reservations else None
        self._memory = _Memory(
            cluster,
            queue,
            cluster.version,
            cluster.moved_ends,
            cycle.plan,
            cycle.free,
            cycle.pools,
            cycle.started_nodes,
            cycle.unreserved,
            None if future is None else future.releases,
        )
        if _uses_reserved_licenses(cluster, cycle.plan):
            # 这一遍里它用着的与预留还占着的重复算了，下一遍从头。
            self.forget()
        _looked(cluster, queue)
        return cycle.plan

    def outlook(self, cluster: Cluster, queue: Queue, now: float) -> Plan:
        """带着全部保留的计划，给人看预计开始；什么也不改，启动不作数。"""
        return plan(cluster, queue, now, self.policy)

    def forget(self) -> None:
        """下一遍从头计划。"""
        self._memory = None

    def _resume(self, memory: _Memory, cluster: Cluster, queue: Queue, now: float) -> Cycle | None:
        """只看变了的；不能这样做时是 None。"""
        if (
            self.policy.backfill is Backfill.NONE
            or cluster.scopes
            or memory.cluster is not cluster
            or memory.queue is not queue
            or memory.version != cluster.version
            or memory.moved_ends != cluster.moved_ends
            or memory.free.shape != (cluster.count, cluster.width)
            or queue.disordered
            or memory.plan.exhausted
        ):
            return None
        reservations = memory.plan.reservations
        raised = {name for name, left in cluster.pools.items() if left > memory.pools.get(name, 0)}
        if raised and any(name in raised for kept in reservations for name, _ in kept.job.shape.pools):
            return None
        looked = np.array(sorted(cluster.touched | memory.started_nodes), dtype=np.int64)
        changed = looked[(cluster.free[looked] != memory.free[looked]).any(axis=1)] if looked.size else looked
        if len(changed) > MOST_CHANGED and len(changed) * 4 > cluster.count:
            return None
        if memory.releases is not None and looked.size:
            memory.releases.stale[looked] = True
        cycle = Cycle(cluster, now, self.policy, memory.releases)
        cycle.unreserved = {key for key in memory.unreserved if key in queue.groups}
        freed_until = None
        if (cluster.free[changed] >= memory.free[changed]).all():
            # 已过预计结束的，上一遍当作马上结束。
            least = memory.plan.now + 1.0
            freed_until = {node: max(least, cluster.freed_until.get(node, np.inf)) for node in changed.tolist()}
        return cycle if Resumption(cycle, memory.plan, queue, changed, raised, freed_until).run() else None
