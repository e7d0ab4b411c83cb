"""一个节点上放得下的作业放到哪个节点：按放置方式找第一个放得下、又不推迟别人的。

空闲在一遍计划里只减不增，放不下的不必回头。
"""

import numpy as np

from scns_conductor.scheduling.attempt import Attempt
from scns_conductor.scheduling.bins import Bins
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.feasibility import fits
from scns_conductor.scheduling.future import Future
from scns_conductor.scheduling.placement import Placement, candidate_order
from scns_conductor.scheduling.shape import BoolArray, IntArray

# 逐个看这么多个候选还没有放得下的，就成段地看。
PROBES = 12
MOST_BLOCK = 4096


class NodeSearch:
    """free 是计划中此刻的空闲，由计划器边启动边改（改了要告诉 taken）；future 有保留之后才有。"""

    def __init__(self, cluster: Cluster, free: IntArray, placement: Placement) -> None:
        self.future: Future | None = None
        self._cluster = cluster
        self._free = free
        self._placement = placement
        # free 的另一份：逐个节点看时比数组快；_unsettled 是只在这一份里扣过的节点。
        self._rows: list[list[int]] | None = None
        self._unsettled: set[int] = set()
        self._order: IntArray | None = None
        # 候选相同的形状共用一套箱子。
        self._bins: dict[bytes, list[Bins]] = {}

    def taken(self, node: int) -> None:
        """node 的空闲少了。"""
        if self._rows is not None:
            self._rows[node] = self._free[node].tolist()

    def take(self, attempt: Attempt, node: int) -> None:
        """attempt 在 node 上占一个；free 等 settle 才扣。"""
        row = self._mirror()[node]
        for dimension, amount in attempt.amounts:
            row[dimension] -= amount
        self._unsettled.add(node)

    def settle(self) -> None:
        """把 take 占的从 free 里扣掉。"""
        if self._unsettled and self._rows is not None:
            nodes, rows = list(self._unsettled), self._rows
            self._free[nodes] = [rows[node] for node in nodes]
            self._unsettled.clear()

    def room(self, attempt: Attempt, node: int) -> int:
        """只看此刻的空闲，node 还放得下几个。"""
        row = self._mirror()[node]
        found: int = min(row[dimension] // amount for dimension, amount in attempt.amounts)
        return found

    def find(self, attempt: Attempt) -> int:
        """放得下、又不推迟别人的节点；没有是 -1。"""
        if self._placement is Placement.SPREAD or attempt.within is not None:
            return self._find_among_few(attempt)
        if self._placement is not Placement.WEIGHT:
            found = self._find_in_bins(attempt)
            if found is not None:
                return found
        return self._find_in_order(attempt)

    def _find_in_bins(self, attempt: Attempt) -> int | None:
        """最合适的节点；没有是 -1，说不准是 None。"""
        if attempt.bins is None:
            place_key = attempt.allowed.tobytes()
            found = self._bins.get(place_key)
            if found is None:
                found = self._bins[place_key] = self._bins_of(attempt)
            attempt.bins = found
        rows = self._mirror()
        refused = self._refused(attempt)
        accepted = None
        if refused is not None:

            def accepted(node: int) -> bool:
                return not refused[node] and self._allows(attempt, node)

        for bins in attempt.bins:
            node = bins.find(rows, attempt.amounts, accepted)
            if node != -1:
                return node
        return -1

    def _bins_of(self, attempt: Attempt) -> list[Bins]:
        """每个权重一组，权重小的在前。"""
        candidates = self.candidates(attempt)
        weights = self._cluster.weight[candidates]
        cuts = np.flatnonzero(np.diff(weights)) + 1
        return [Bins(part, self._mirror()) for part in np.split(candidates, cuts)]

    def _mirror(self) -> list[list[int]]:
        if self._rows is None:
            self._rows = self._free.tolist()
        return self._rows

    def _find_in_order(self, attempt: Attempt) -> int:
        """候选里的第一个；放不下的以后也放不下，不必回头。"""
        self.settle()
        if attempt.candidates is None:
            attempt.candidates = self.candidates(attempt)
        rows, candidates, amounts = self._mirror(), attempt.candidates, attempt.amounts
        refused = self._refused(attempt)
        block = 128
        while attempt.pointer < len(candidates):
            for node in candidates[attempt.pointer : attempt.pointer + PROBES].tolist():
                row = rows[node]
                for dimension, amount in amounts:
                    if row[dimension] < amount:
                        break
                else:
                    if (refused is None or not refused[node]) and self._allows(attempt, node):
                        return int(node)
                attempt.pointer += 1
            if attempt.pointer >= len(candidates):
                break
            picked = candidates[attempt.pointer : attempt.pointer + block]
            good = fits(self._free[picked], attempt.need)
            if refused is not None:
                good &= ~refused[picked]
            first = int(good.argmax())
            attempt.pointer += first if good[first] else len(picked)
            block = min(block * 4, MOST_BLOCK)
        return -1

    def _find_among_few(self, attempt: Attempt) -> int:
        """每次都按此刻的空闲重新排：分散要这样，候选很少的这样更省。"""
        if attempt.candidates is None:
            attempt.candidates = self.candidates(attempt)
        found = attempt.candidates[fits(self._free[attempt.candidates], attempt.need)]
        for node in candidate_order(self._cluster, found, self._free, self._placement).tolist():
            if self._allows(attempt, node):
                return int(node)
        return -1

    def candidates(self, attempt: Attempt) -> IntArray:
        if self._order is None:
            self._order = candidate_order(self._cluster, np.arange(self._cluster.count), self._free, self._placement)
        if attempt.allowed.all():
            return self._order
        return self._order[attempt.allowed[self._order]]

    def _refused(self, attempt: Attempt) -> BoolArray | None:
        """有保留而给不出的节点，第一次问到时算一遍：以后只会更多，逐个再核对。"""
        if self.future is not None and attempt.refused is None and not attempt.inside:
            attempt.refused = np.zeros(self._cluster.count, dtype=np.bool_)
            attempt.refused[self.future.refusing(attempt.need, attempt.duration)] = True
        return attempt.refused

    def _allows(self, attempt: Attempt, node: int) -> bool:
        return self.future is None or attempt.inside or self.future.allows(node, attempt.need, attempt.duration)
