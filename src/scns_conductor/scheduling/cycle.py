"""一遍计划：各组按组首的次序键排在堆里，作业严格按次序考虑；一组里有一个放不下，整组这一遍都不再试。

没有保留时空闲只增不减，看此刻的空闲就够；有了保留，就看作业要占的整段时间里会不会碰到它们，
于是后面的作业不可能推迟任何一个保留（EASY 的两条规则都在其中）。什么也不改，决定都在 plan 里。
三层：账在 ledger，此刻启动在 placing，次序在这里。
"""

import heapq
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from scns_conductor.scheduling.attempt import Attempt, facts_of
from scns_conductor.scheduling.feasibility import Kind, fit_somewhere, impossible
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.placing import Placing
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.policy import Backfill
from scns_conductor.scheduling.queue import Group, GroupKey, OrderKey, Queue, backfill_rank
from scns_conductor.scheduling.shape import LICENSE, BoolArray, IntArray

# 说是不是只因为有预留时，一次看这么多（组 × 节点）。
MOST_AT_ONCE = 1_000_000
# 还有保留的名额时才轮到的：(组首的次序键, 组)。
Later = tuple[OrderKey, Group]
# 排着的一组：(组首的次序键, 第几个, 它的进度；还没有造的是组)。
Waiting = tuple[OrderKey, int, Attempt | Group]


class Cycle(Placing):
    """一遍计划。"""

    def run(
        self,
        attempts: Iterable[Attempt],
        later: Sequence[Later] = (),
        make: Callable[[Group], Attempt] | None = None,
        maybe: Sequence[Later] = (),
        still: Callable[[Group], bool] | None = None,
    ) -> None:
        """按次序考虑各组；later 是还有保留的名额时才轮到的，轮到了由 make 造。

        maybe 是没有名额了、也许此刻能启动的：轮到时 still 说还放得下才造。
        """
        heap: list[Waiting] = [
            (attempt.key, number, attempt) for number, attempt in enumerate(attempts) if attempt.job is not None
        ]
        heap += [(key, number, group) for number, (key, group) in enumerate(maybe, len(heap))]
        heapq.heapify(heap)
        candidates = [(key, number, group) for number, (key, group) in enumerate(later, len(heap))]
        heapq.heapify(candidates)
        plan, most, shortest_first = self.plan, self.policy.most_starts, self.policy.shortest_first
        behind: list[Attempt] = []
        while heap or candidates:
            if not shortest_first and len(plan.reservations) >= self.depth:
                candidates.clear()
            if candidates and (not heap or candidates[0][0] < heap[0][0]):
                _, number, group = heapq.heappop(candidates)
                assert make is not None
                if not shortest_first or not self.full(group):
                    attempt = make(group)
                    heapq.heappush(heap, (attempt.key, number, attempt))
                continue
            if not heap:
                break
            if self._future is None and not (candidates or maybe or shortest_first or self.cluster.scopes):
                self._start_interleaved(heap)
                if not heap:
                    break
            _, number, waiting = heap[0]
            if isinstance(waiting, Attempt):
                attempt = waiting
            else:
                assert make is not None
                assert still is not None
                if not still(waiting):
                    heapq.heappop(heap)
                    continue
                attempt = make(waiting)
                heapq.heapreplace(heap, (attempt.key, number, attempt))
            if shortest_first and self.full(attempt.group):
                heapq.heappop(heap)
                behind.append(attempt)
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
                if plan.exhausted or len(plan.starts) >= most:
                    plan.exhausted = True
                    return
            if keep and attempt.job is not None:
                heapq.heapreplace(heap, (attempt.key, number, attempt))
            else:
                heapq.heappop(heap)
        if behind:
            self._run_shortest_first(behind)

    def _start_interleaved(self, heap: list[Waiting]) -> None:
        """各组的作业一个隔一个地排着、都放得下：在这里一个个地放，与 _step 相同而少一半以上的花费；遇到别的就停。"""
        search, plan, now = self._search, self.plan, self.now
        most, first = self.policy.most_starts - 1, len(self._started)
        if self.policy.placement is Placement.SPREAD:
            # 分散的每次都照此刻的空闲重新排。
            return
        while len(heap) > 1 and len(plan.starts) < most and not self._stopped:
            _, number, attempt = heap[0]
            assert isinstance(attempt, Attempt)
            job, group, index = attempt.job, attempt.group, attempt.index + 1
            if not attempt.lone or job is None or job.tasks is not None:
                break
            jobs, limit = group.jobs, heap[1][0]
            if len(heap) > 2 and heap[2][0] < limit:
                limit = heap[2][0]
            while index < len(jobs) and jobs[index] is None:
                index += 1
            following = group.keys[index] if index < len(jobs) else None
            if following is not None and following <= limit:
                # 同组的接着排：成串地放更省。
                break
            node = search.find(attempt)
            if node < 0:
                break
            search.take(attempt, node)
            self._started.add(node, now + attempt.duration, attempt.need)
            plan.starts.add_run((job,), None, (node,), attempt.share)
            if following is None:
                attempt.index, attempt.job = index, None
                heapq.heappop(heap)
            else:
                attempt.index, attempt.job = index, jobs[index]
                heapq.heapreplace(heap, (following, number, attempt))
        search.settle()
        self.started_nodes.update(self._started.nodes[first:])

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
                if self.plan.exhausted or len(self.plan.starts) >= self.policy.most_starts:
                    self.plan.exhausted = True
                    return
            if keep and attempt.job is not None:
                heapq.heapreplace(heap, (backfill_rank(attempt.key, attempt.group), number, attempt))
            else:
                heapq.heappop(heap)

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
            if self.cluster.scopes and self._apart(attempt):
                # 它能用哪些节点，要等这一遍的启动成了才知道：马上再计划。
                plan.exhausted = True
                return False
            if self._start_some(attempt, limit):
                self._scopes.add(shape.exclusive_to)
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

    def _apart(self, attempt: Attempt) -> bool:
        """这一遍已经启动了要与它隔开的。"""
        shape = attempt.group.shape
        if shape.exclusive_to is not None:
            return bool(self._scopes - {shape.exclusive_to})
        return any(scope is not None and scope not in shape.owners for scope in self._scopes)

    def _impossible(self, attempt: Attempt) -> bool:
        """无论等多久都不能启动的记下来；上一遍受阻的已经看过。"""
        message = impossible(self.cluster, attempt.group.shape) if attempt.known is None else None
        if message is not None:
            self.plan.impossible[attempt.group.key] = message
        return message is not None

    def settle_reasons(self, queue: Queue) -> None:
        """全部看过之后：缺资源而启动不了的，也许只是有预留。"""
        if not self.cluster.reservations or not self.policy.tells_reserved:
            return
        cluster, blocked = self.cluster, self.plan.blocked
        # 预留的名字 -> 它们的节点，与碰到它们的各组：（组、要多少、那里面能用的），一起看。
        met: dict[tuple[str, ...], tuple[IntArray, list[tuple[GroupKey, IntArray, BoolArray]]]] = {}
        for key, reason in blocked.items():
            if reason not in ("Resources", RESERVED):
                continue
            blocked[key], group, shape = "Resources", queue.groups[key], key[0]
            taken = cluster.reserving(shape.reservation, self.now, self.now + group.time_limit_s)
            if not taken:
                continue
            names = tuple(each.name for each in taken)
            if names not in met:
                met[names] = np.flatnonzero(np.any([cluster.reserved_nodes(each) for each in taken], axis=0)), []
            rows, asking = met[names]
            usable = cluster.open_to(shape)
            need, kind = facts_of(cluster, group)
            if kind is not Kind.GENERAL:
                asking.append((key, need, usable[rows]))
            elif usable[rows].any() and place(cluster, shape, self.free, self.policy.placement, usable) is not None:
                blocked[key] = RESERVED
        for rows, asking in met.values():
            many = max(1, MOST_AT_ONCE // max(1, len(rows)))
            for at in range(0, len(asking), many):
                some = asking[at : at + many]
                found = fit_somewhere(
                    self.free[rows], np.array([need for _, need, _ in some]), np.array([nodes for *_, nodes in some])
                )
                blocked.update((key, RESERVED) for (key, *_), fit in zip(some, found.tolist(), strict=True) if fit)
