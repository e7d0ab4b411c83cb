"""空闲 CPU 一样多的节点放一箱，箱里按空闲的内存排：最合适的节点是够用的最小的一箱里内存够用而最少的，二分就找到。

空闲在一遍计划里只减不增，所以记着的只会偏大；翻到一个节点而它变了，再挪到该在的地方。
"""

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence

from scns_conductor.scheduling.shape import CPU, MEMORY, IntArray

# 翻这么多个还没有找到（通用资源不够、会推迟别人），就让给成段的比较。
MOST_PROBES = 24

Rows = Sequence[Sequence[int]]


class Bins:
    """一组候选节点（权重相同）。"""

    def __init__(self, nodes: IntArray, rows: Rows) -> None:
        """nodes 按放置的次序，同样合适的取在前的；rows[node] 是节点此刻的空闲。"""
        self._nodes: list[int] = nodes.tolist()
        self._count = max(1, len(self._nodes))
        # 空闲几个 CPU 的一箱里，各节点的 -(内存 * 节点数 + 名次)，从小到大：要的在末尾一头，挪走它不必搬动一长列。
        self._bins: list[list[int]] = [[] for _ in range(1 + max((rows[node][CPU] for node in self._nodes), default=0))]
        for rank, node in enumerate(self._nodes):
            row = rows[node]
            if row[CPU] > 0:
                self._bins[row[CPU]].append(-(row[MEMORY] * self._count + rank))
        for keys in self._bins:
            keys.sort()
        # 各箱里最多的内存；多数箱里不够，先看它。空箱是 -inf。
        self._most = [self._most_of(keys) for keys in self._bins]

    def find(
        self, rows: Rows, amounts: Sequence[tuple[int, int]], accepted: Callable[[int], bool] | None
    ) -> int | None:
        """最合适而放得下 amounts（维, 数目）、accepted 也同意的节点；一定没有是 -1，翻了许多还说不准是 None。"""
        wanted = dict(amounts)
        memory, count, probes = wanted.get(MEMORY, -math.inf), self._count, 0
        # 内存够的，键都不大于它。
        bound = -memory * count
        for free in range(max(1, wanted.get(CPU, 0)), len(self._bins)):
            if self._most[free] < memory:
                continue
            keys = self._bins[free]
            index = bisect_right(keys, bound) - 1
            while index >= 0:
                held, rank = divmod(-keys[index], count)
                node = self._nodes[rank]
                row = rows[node]
                moved = row[CPU] != free or row[MEMORY] != held
                if moved:
                    # 后来又放了作业：挪到该在的地方；更小的箱里没有合适的，所以它合适就是它。
                    del keys[index]
                    self._most[free] = self._most_of(keys)
                    self._put(row, rank)
                if not moved or row[CPU] != free:
                    for dimension, amount in amounts:
                        if row[dimension] < amount:
                            break
                    else:
                        if accepted is None or accepted(node):
                            return node
                    if not moved:
                        probes += 1
                        if probes > MOST_PROBES:
                            return None
                index = bisect_right(keys, bound) - 1 if moved else index - 1
        return -1

    def _most_of(self, keys: Sequence[int]) -> float:
        return -keys[0] // self._count if keys else -math.inf

    def _put(self, row: Sequence[int], rank: int) -> None:
        free, memory = row[CPU], row[MEMORY]
        if free > 0:
            insort(self._bins[free], -(memory * self._count + rank))
            self._most[free] = max(self._most[free], memory)
