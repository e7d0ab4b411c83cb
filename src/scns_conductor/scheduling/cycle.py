"""一遍计划：各组按组首的次序键排在堆里，作业严格按次序考虑；一组里有一个放不下，整组这一遍都不再试。

没有保留时空闲只增不减，看此刻的空闲就够；有了保留，就看作业要占的整段时间里会不会碰到它们，
于是后面的作业不可能推迟任何一个保留（EASY 的两条规则都在其中）。什么也不改，决定都在 plan 里。
"""

import heapq
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import cast

import numpy as np

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.feasibility import Kind, fits, impossible
from scns_conductor.scheduling.future import Future
from scns_conductor.scheduling.node_search import NodeSearch
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.plan import RESERVED, Plan, PlannedStart, Reservation
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import Group, GroupKey, OrderKey, PendingJob, Queue, backfill_rank
from scns_conductor.scheduling.releases import Releases
from scns_conductor.scheduling.shape import LICENSE, IntArray

# 同组要连着放这么多个，才值得成段地放。
LONG_RUN = 48
BLOCK = 4096
# 还有保留的名额时才轮到的：(组首的次序键, 组, 怎样考虑它)。
Later = tuple[OrderKey, Group, Callable[[], Attempt]]


class Cycle:
    """一遍计划。"""

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
        # 本周期的启动，给 future 用：(节点, 结束, 占去)。
        self._started: list[tuple[int, float, IntArray]] = []
        self._started_pools: list[tuple[Sequence[tuple[str, int]], float]] = []
        self._stopped: set[str] = set()
        # 各个分区里保留了几个。
        self._held: Counter[str] = Counter()
        self._search = NodeSearch(cluster, self.free, policy.placement)

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

    def run(self, attempts: Iterable[Attempt], later: Sequence[Later] = ()) -> None:
        """按次序考虑各组；later 是还有保留的名额时才轮到的。"""
        heap = [(attempt.key, number, attempt) for number, attempt in enumerate(attempts) if attempt.job is not None]
        heapq.heapify(heap)
        candidates = [(key, number, group, make) for number, (key, group, make) in enumerate(later, len(heap))]
        heapq.heapify(candidates)
        plan, most, shortest_first = self.plan, self.policy.most_starts, self.policy.shortest_first
        behind: list[Attempt] = []
        while heap or candidates:
            if not shortest_first and len(plan.reservations) >= self.depth:
                candidates.clear()
            if candidates and (not heap or candidates[0][0] < heap[0][0]):
                _, number, group, make = heapq.heappop(candidates)
                if not shortest_first or not self.full(group):
                    attempt = make()
                    heapq.heappush(heap, (attempt.key, number, attempt))
                continue
            if not heap:
                break
            _, number, attempt = heap[0]
            if shortest_first and self.full(attempt.group):
                behind.append(heapq.heappop(heap)[2])
                continue
            # 下一组的次序键：这一组在它之前的都可以接着看。
            limit = heap[1][0] if len(heap) > 1 else None
            if limit is not None and len(heap) > 2 and heap[2][0] < limit:
                limit = heap[2][0]
            if candidates and (limit is None or candidates[0][0] < limit):
                limit = candidates[0][0]
            keep = True
            while keep and attempt.job is not None and (limit is None or attempt.key <= limit):
                keep = self._step(attempt, limit)
                if len(plan.starts) >= most:
                    plan.exhausted = True
                    return
            if keep and attempt.job is not None:
                heapq.heapreplace(heap, (attempt.key, number, attempt))
            else:
                heapq.heappop(heap)
        if behind:
            self._run_shortest_first(behind)

    def _run_shortest_first(self, attempts: Sequence[Attempt]) -> None:
        """没有名额了的：预测短的先看，一样短的仍按次序；不碰保留，所以谁也不推迟队首。"""
        heap = [(backfill_rank(each.key, each.group), number, each) for number, each in enumerate(attempts)]
        heapq.heapify(heap)
        while heap:
            rank, number, attempt = heap[0]
            following = min(heap[1:3], default=None)
            # 后面的更长，这一组可以看到底。
            limit = following[0][-1] if following is not None and following[0][:-1] == rank[:-1] else None
            keep = True
            while keep and attempt.job is not None and (limit is None or attempt.key <= limit):
                keep = self._step(attempt, limit)
                if len(self.plan.starts) >= self.policy.most_starts:
                    self.plan.exhausted = True
                    return
            if keep and attempt.job is not None:
                heapq.heapreplace(heap, (backfill_rank(attempt.key, attempt.group), number, attempt))
            else:
                heapq.heappop(heap)

    # ---- 一个作业 ----

    def _step(self, attempt: Attempt, limit: OrderKey | None) -> bool:
        """考虑组里当前的作业；返回 False 表示这一组本周期不必再看。"""
        plan, shape = self.plan, attempt.group.shape
        place_key = attempt.group.key
        if shape.partition in self._stopped:
            plan.blocked[place_key] = "Priority"
            return False
        lacking = self.lacking(attempt)
        if lacking is not None:
            if place_key not in plan.blocked and self._impossible(attempt):
                return False
            plan.blocked[place_key] = self.cluster.pool_reasons.get(lacking, "Resources")
            # 上限只是等；许可证同别的资源一样为它保留。
            if not lacking.startswith(LICENSE):
                return False
        elif place_key not in plan.blocked:
            if self._start_some(attempt, limit):
                return True
            if self._impossible(attempt):
                return False
            plan.blocked[place_key] = attempt.known or "Resources"
        if self.policy.backfill is Backfill.NONE:
            self._stopped.add(shape.partition)
            return False
        if not attempt.inside and not self.full(attempt.group):
            return self._reserve(attempt, limit)
        if attempt.inside:
            self.unreserved.add(place_key)
        return False

    def _impossible(self, attempt: Attempt) -> bool:
        """无论等多久都不能启动的记下来；上一遍受阻的已经看过。"""
        message = impossible(self.cluster, attempt.group.shape) if attempt.known is None else None
        if message is not None:
            self.plan.impossible[attempt.group.key] = message
        return message is not None

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

    def settle_reasons(self, queue: Queue) -> None:
        """全部看过之后：缺资源而启动不了的，也许只是有预留。"""
        if not self.cluster.reservations:
            return
        blocked = self.plan.blocked
        for key in [key for key, reason in blocked.items() if reason in ("Resources", RESERVED)]:
            blocked[key] = self._resource_reason(Attempt(self.cluster, queue.groups[key], self.now))

    def _resource_reason(self, attempt: Attempt) -> str:
        nodes = attempt.allowed
        if nodes is attempt.usable:
            return "Resources"
        if attempt.kind is Kind.GENERAL:
            reserved = place(self.cluster, attempt.group.shape, self.free, self.policy.placement) is not None
        else:
            reserved = bool((attempt.usable & ~nodes & fits(self.free, attempt.need)).any())
        return RESERVED if reserved else "Resources"

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
            free = self.free
            if self._future is not None and not attempt.inside:
                free = self._future.window(duration_s)
            return place(self.cluster, shape, free, self.policy.placement, attempt.allowed)
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
            self._started.extend((node, end, need) for node, need in needs)
            self._started_pools.append((pools, end))
        else:
            self._future.start(needs, end)
            self._future.start_pools(pools, end)

    def _take(self, node: int, need: IntArray) -> None:
        self.free[node] -= need
        self.started_nodes.add(node)
        self._search.taken(node)

    # ---- 成串的 ----

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
            self._started.append((node, end, need))
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

    # ---- 较短的时限 ----

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
        shares = place(self.cluster, shape, free, self.policy.placement, allowed)
        if shares is None:
            return False
        limit = attempt.duration
        for share in shares:
            if self._future is not None:
                limit = min(limit, self._future.spell(share.node, self.cluster.share_vector(share)))
            for reservation in self.cluster.reservations.values():
                mask = self.cluster.reserved_nodes(reservation)
                if reservation.name != shape.reservation and reservation.start > self.now and mask[share.node]:
                    limit = min(limit, reservation.start - self.now)
        if not limit >= shortest:
            return False
        self._start(attempt, shares, float(math.floor(limit)) if math.isfinite(limit) else None)
        return True

    # ---- 保留 ----

    def _reserve(self, attempt: Attempt, limit: OrderKey | None) -> bool:
        """为当前的作业（同形的接着排的，一起）保留；返回组里还要不要往下看（只为保留）。"""
        job = attempt.job
        assert job is not None
        if attempt.kind is Kind.PLAIN and not attempt.group.shape.pools and self.future.untouched and attempt.amounts:
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
        shape, future = attempt.group.shape, self.future
        if attempt.kind is Kind.GENERAL:
            placement = self.policy.placement
            return future.earliest_general(shape, attempt.usable, attempt.duration, placement, not_before)
        found = future.earliest(
            attempt.need, attempt.usable, attempt.duration, shape.pools, shape.reservation, not_before
        )
        return None if found is None else (found[0], (self.share_at(attempt, *found),))

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
