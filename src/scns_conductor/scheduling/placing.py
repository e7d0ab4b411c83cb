"""此刻启动得了的：放到哪里，成串的怎样一起放，较短的时限。计划的中层，见 cycle。"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import takewhile
from typing import cast

import numpy as np

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.feasibility import Kind
from scns_conductor.scheduling.ledger import Ledger
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.plan import PlannedStart
from scns_conductor.scheduling.queue import OrderKey, PendingJob

# 同组要连着放这么多个，才值得成段地放。
LONG_RUN = 48
BLOCK = 4096


class Placing(Ledger):
    """见模块的说明。"""

    def _start_some(self, attempt: Attempt, limit: OrderKey | None, *, single: bool = False) -> bool:
        """启动当前的作业，以及同组里次序不晚于 limit、紧接着也放得下的（single 则不）；一个也放不下是 False。"""
        if attempt.kind is Kind.PLAIN and not attempt.group.shape.pools and not single:
            node = self._search.find(attempt)
            if node >= 0:
                self._start_run(attempt, node, limit)
                return True
        else:
            shares = self._place(attempt, attempt.duration)
            if shares is not None:
                self._start(attempt, shares, None)
                return True
        return attempt.group.shape.time_minimum_s is not None and self._start_shorter(attempt)

    def start_one(self, attempt: Attempt) -> list[int]:
        """启动当前的作业一个（数组则一个任务），返回它的节点；放不下是空的。"""
        if attempt.group.shape.pools and self.lacking(attempt) is not None:
            return []
        if not self._start_some(attempt, attempt.key, single=True):
            return []
        return self.plan.starts.latest_nodes()

    def _place(self, attempt: Attempt, duration_s: float) -> tuple[NodeShare, ...] | None:
        """此刻启动会用到的份额；放不下、或会推迟某个保留时是 None。"""
        shape = attempt.group.shape
        if attempt.kind is Kind.GENERAL:
            free, allowed = self.free, attempt.allowed
            if self._future is not None and not attempt.inside:
                free = self._future.window(duration_s)
                kept = self.kept_from(shape, duration_s)
                allowed = allowed if kept is None else allowed & ~kept
            return place(self.cluster, shape, free, self.policy.placement, allowed)
        node = self._search.find(attempt)
        if node < 0:
            return None
        if attempt.kind is Kind.PLAIN:
            return (self.share_at(attempt, self.now, node),)
        free = self.free[node] if self._future is None else self._future.free_during(node, self.now, duration_s)
        return (self.cluster.share(shape, node, shape.tasks, free),)

    def _start(self, attempt: Attempt, shares: tuple[NodeShare, ...], time_limit_s: float | None) -> None:
        """记下一个启动。"""
        job = attempt.job
        assert job is not None
        task_id = None if job.tasks is None else job.task_ids(attempt.taken, 1)[0]
        self.start(PlannedStart(job, task_id, shares, time_limit_s))
        attempt.taken += 1
        if attempt.taken >= job.available:
            attempt.advance()

    def _start_run(self, attempt: Attempt, node: int, limit: OrderKey | None) -> None:
        """从 node 起，把同组紧接着的作业成串地放下去。"""
        jobs, task_ids = self._run(attempt, limit)
        left = len(jobs)
        if left == 1:
            self._occupy_now(attempt, node, 1)
            self.plan.starts.add_run(jobs, task_ids, (node,), attempt.share)
            self._consume(attempt, jobs, 1)
            return
        nodes: list[int] = []
        while left and node >= 0:
            room = min(left, self._search.room(attempt, node))
            if self._future is not None and self._future.held(node):
                room = 1
            if self.policy.placement is Placement.SPREAD:
                room = 1
            self._occupy_now(attempt, node, room)
            nodes.extend([node] * room)
            left -= room
            if left >= LONG_RUN and self.policy.placement is not Placement.SPREAD:
                left -= self._fill_blocks(attempt, left, nodes)
            if left:
                node = self._search.find(attempt)
        self.plan.starts.add_run(jobs, task_ids, nodes, attempt.share)
        self._consume(attempt, jobs, len(nodes))

    def _run(self, attempt: Attempt, limit: OrderKey | None) -> tuple[Sequence[PendingJob], list[int] | None]:
        """可以接着放的一串：数组的若干任务，或同组次序不晚于 limit 的若干作业。"""
        job, group = attempt.job, attempt.group
        assert job is not None
        most = self.policy.most_starts - len(self.plan.starts)
        if job.tasks is not None:
            count = min(most, job.available - attempt.taken)
            return [job] * count, job.task_ids(attempt.taken, count)
        following = attempt.index + 1
        if most == 1 or following >= len(group.keys) or (limit is not None and group.keys[following] > limit):
            return (job,), None
        upper = len(group.keys) if limit is None else bisect_right(group.keys, limit, following)
        window = group.jobs[attempt.index : min(upper, attempt.index + most)]
        found = [other for other in window if other is not None] if group.dead else cast(list[PendingJob], window)
        if attempt.skipped:
            found = [other for other in found if other.job_id not in attempt.skipped]
        if group.arrays:
            found = list(takewhile(lambda other: other.tasks is None, found))
        return found, None

    def _consume(self, attempt: Attempt, jobs: Sequence[PendingJob], count: int) -> None:
        job = attempt.job
        assert job is not None
        if job.tasks is not None:
            attempt.taken += count
            if attempt.taken >= job.available:
                attempt.advance()
            return
        if count == len(jobs) == 1:
            attempt.advance()
            return
        # 一串可能隔着空位：走到最后放下的那个的下一个。
        attempt.turn_to(jobs[count - 1])
        attempt.advance()

    def _occupy_now(self, attempt: Attempt, node: int, count: int) -> None:
        need = attempt.need if count == 1 else attempt.need * count
        self._take(node, need)
        end = self.now + attempt.duration
        if self._future is None:
            self._started.add(node, end, need)
        else:
            self._future.start([(node, need)], end)

    def _fill_blocks(self, attempt: Attempt, left: int, nodes: list[int]) -> int:
        """成段地放：每个候选放满为止，最后一个放余下的；有保留的节点跳过，留给逐个的找。返回放了几个。"""
        if attempt.candidates is None:
            attempt.candidates = self._search.candidates(attempt)
        placed = 0
        while placed < left and attempt.filled < len(attempt.candidates):
            picked = attempt.candidates[attempt.filled : attempt.filled + BLOCK]
            free = self.free[picked]
            room = np.full(len(picked), left - placed, dtype=np.int64)
            for dimension, amount in attempt.amounts:
                np.minimum(room, free[:, dimension] // amount, out=room)
            np.maximum(room, 0, out=room)
            if self._future is not None:
                room[[self._future.held(node) for node in picked.tolist()]] = 0
            count = np.clip(left - placed - (np.cumsum(room) - room), 0, room)
            used = np.flatnonzero(count)
            for node, some in zip(picked[used].tolist(), count[used].tolist(), strict=True):
                self._occupy_now(attempt, node, some)
            nodes.extend(np.repeat(picked[used], count[used]).tolist())
            placed += int(count.sum())
            if placed < left:
                attempt.filled += len(picked)
        return placed

    def _start_shorter(self, attempt: Attempt) -> bool:
        """--time-min：整个时限会推迟别人的保留，就在不短于 time_minimum_s 的时限里取最长的（sbatch(1)）。"""
        shape, shortest = attempt.group.shape, attempt.group.shape.time_minimum_s
        if self._future is None and not self.cluster.reservations:
            return False
        assert shortest is not None
        free = self.free if self._future is None else self._future.window(shortest)
        allowed = self.cluster.usable(shape, self.now, shortest)
        if attempt.within is not None:
            allowed = allowed & attempt.within
        kept = self.kept_from(shape, attempt.duration)
        allowed = allowed if kept is None else allowed & ~kept
        shares = place(self.cluster, shape, free, self.policy.placement, allowed)
        if shares is None:
            return False
        limit = attempt.duration
        for share in shares:
            if self._future is not None:
                limit = min(limit, self._future.spell(share.node, self.cluster.share_vector(share)))
            for reservation in self.cluster.reservations.values():
                mask = self.cluster.reserved_nodes(reservation)
                if (
                    reservation.name != shape.reservation
                    and not reservation.cores
                    and reservation.start > self.now
                    and mask[share.node]
                ):
                    limit = min(limit, reservation.start - self.now)
        if not limit >= shortest:
            return False
        self._start(attempt, shares, float(math.floor(limit)) if math.isfinite(limit) else None)
        return True
