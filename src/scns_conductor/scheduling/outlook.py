"""前景：排在一个作业前面的都计划好之后，还剩什么。解释与试排用它一问一答，不改任何东西，也不重新计划。"""

from bisect import bisect_left
from dataclasses import replace

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cluster import Cluster, NodeShare
from scns_conductor.scheduling.cycle import Cycle
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import Group, PendingJob, Queue
from scns_conductor.scheduling.shape import BoolArray, Shape

# 前面受阻的至少给这么多个做保留，才说得准预计的时刻。
LEAST_DEPTH = 100
_EVERYTHING = 2**31


class Outlook:
    """轮到 job 时的情形：前面的（次序键更小的）要启动的都启动了，受阻的都保留了。"""

    def __init__(self, cluster: Cluster, queue: Queue, job: PendingJob, now: float, policy: Policy) -> None:
        self.cluster = cluster
        self.now = now
        self._policy = replace(policy, depth=max(policy.depth, LEAST_DEPTH), most_starts=_EVERYTHING)
        self._cycle = Cycle(cluster, now, self._policy)
        ahead = [found for group in queue.groups.values() if (found := _before(group, job)) is not None]
        self._cycle.run([Attempt(cluster, group, now) for group in ahead])
        self.plan = self._cycle.plan
        # 前面受阻的多到没有都保留：预计的时刻偏早。
        self.incomplete = len(self.plan.reservations) >= self._policy.depth

    def lacking(self, shape: Shape, limit_s: float) -> list[str]:
        """不够的池（上限与许可证）；别人的预留在 limit_s 秒之内占着的不能用。"""
        return [name for name, count in shape.pools if self.left(name, shape.reservation, limit_s) < count]

    def left(self, pool: str, own: str | None, limit_s: float) -> int:
        """一个池还剩多少给用预留 own 的作业用 limit_s 秒，可为负。"""
        return self._cycle.pools.get(pool, 0) - self.cluster.reserved_pool(pool, own, self.now, self.now + limit_s)

    def fits_now(self, shape: Shape, limit_s: float) -> bool:
        """现在就能启动而不推迟前面的，也不碰预留。"""
        if self._cycle.lacking(self._attempt(shape, limit_s)) is not None:
            return False
        return self._fits(shape, limit_s, self.cluster.usable(shape, self.now, limit_s))

    def only_reserved(self, shape: Shape, limit_s: float) -> bool:
        """若没有预留，现在就有节点能启动。"""
        return self._fits(shape, limit_s, self.cluster.eligible(shape))

    def _fits(self, shape: Shape, limit_s: float, nodes: BoolArray) -> bool:
        free = self._cycle.free if self.cluster.confined(shape) else self._cycle.future.window(limit_s)
        return place(self.cluster, shape, free, self._policy.placement, nodes) is not None

    def earliest(self, shape: Shape, limit_s: float) -> tuple[float, tuple[NodeShare, ...]] | None:
        """最早能启动的 (时刻, 份额)，许可证也等到；上限不看。占着的没有时限时可能说不准，是 None。"""
        if self.cluster.confined(shape):
            return None
        return self._cycle.earliest(self._attempt(shape, limit_s))

    def _attempt(self, shape: Shape, limit_s: float) -> Attempt:
        return Attempt(self.cluster, Group(shape, limit_s), self.now)


def _before(group: Group, job: PendingJob) -> Group | None:
    """组里次序在 job 之前的；一个也没有是 None。"""
    count = bisect_left(group.keys, job.key)
    if count <= group.start:
        return None
    found = Group(group.shape, group.time_limit_s)
    found.keys, found.jobs, found.start = group.keys[:count], group.jobs[:count], group.start
    return found
