"""重放线上系统时的时间片：到了时候换谁用 CPU。换谁、何时换与线上同一套（scheduling.time_slices）。"""

from collections.abc import Collection

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import Queue
from scns_conductor.scheduling.time_slices import Turn, TurnClock, shares, turns_in
from scns_conductor.simulator.live_clock import EVERYONE, Clock, Kind


class Turns:
    """见模块的说明。slice_s 为 None 是不轮流。"""

    def __init__(self, slice_s: float | None, cluster: Cluster, queue: Queue, policy: Policy, clock: Clock) -> None:
        self._cluster, self._queue, self._policy, self._clock = cluster, queue, policy, clock
        self.taken = slice_s is not None and turns_in(cluster.partitions.values())
        self._turns = TurnClock(slice_s or 0.0)
        # 说好了要来看的时刻。
        self._due_s = 0.0

    def taken_by(self, partition: str, asked: bool) -> bool:
        """这个分区里，要了（asked）或没有要 --oversubscribe 的作业轮流用 CPU。"""
        return self.taken and shares(self._cluster, partition, asked)

    def look(self, plan: Plan, now: float) -> Turn:
        """此刻换谁；有谁在等着换的，到时再来看。"""
        if not self.taken:
            return Turn()
        self._turns.turn_at = None
        turn = self._turns.look(self._cluster, self._queue, plan, self._policy, now)
        moment = self._turns.turn_at
        if moment is not None and moment != self._due_s:
            self._due_s = moment
            self._clock.push(moment, Kind.LOOK, EVERYONE)
        return turn or Turn()

    def moved(self, numbers: Collection[int], now: float) -> None:
        """这些此刻停了、走了、启动了。"""
        if self.taken:
            self._turns.moved(numbers, now)
