"""重放线上系统时因抢占、时间片而挂起的：借出 CPU，攒着空出来的，凑够了接着跑。规矩见 scheduling.preemption。"""

from dataclasses import replace

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import RunningJob
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.preemption import Rules, holds, resumable
from scns_conductor.scheduling.queue import Queue


class Lending:
    """见模块的说明。时刻是 Unix 秒。"""

    def __init__(self, cluster: Cluster, queue: Queue, rules: Rules | None) -> None:
        self._cluster, self._queue, self._rules = cluster, queue, rules
        # 挂起的作业 -> （还要跑多久，何时挂起）。
        self._left: dict[int, tuple[float, float]] = {}

    @property
    def any(self) -> bool:
        """有没有挂起的。"""
        return bool(self._left)

    def suspend(self, victim: RunningJob, left_s: float, now: float) -> None:
        """它还要跑 left_s 秒，从现在起停下。"""
        self._left[victim.job_id] = (left_s, now)
        lent = tuple((share.node, share.cpus) for share in victim.shares)
        shares = tuple(replace(share, cpus=0) for share in victim.shares)
        self._cluster.allocate(replace(victim, suspended=True, lent=lent, shares=shares))

    def collect(self) -> None:
        """攒着空出来的；每遍计划之前重来。"""
        if not self._left:
            return
        for number in self._left:
            self._cluster.release(-number)
        for hold in holds(self._cluster, self._queue, self._rules):
            self._cluster.allocate(hold)

    def resume(self, plan: Plan, now: float) -> list[tuple[int, float]]:
        """凑够了的接着跑：（作业，何时结束）。有一个，这一遍的计划就不作数。"""
        if not self._left:
            return []
        return [self.back(victim, now) for victim in resumable(self._cluster, plan, self._rules)]

    def back(self, victim: RunningJob, now: float) -> tuple[int, float]:
        """接着跑：（作业，何时结束）。"""
        left_s, since = self._left[victim.job_id]
        self.forget(victim.job_id)
        cpus = dict(victim.lent)
        shares = tuple(replace(share, cpus=cpus[share.node]) for share in victim.shares)
        end = victim.expected_end + now - since
        self._cluster.allocate(replace(victim, suspended=False, lent=(), shares=shares, expected_end=end))
        return victim.job_id, now + left_s

    def forget(self, number: int) -> None:
        """不再替它攒：接着跑了，或就此走了。"""
        if self._left.pop(number, None) is not None:
            self._cluster.release(-number)
