"""空闲 CPU 一样多的节点放一箱：最合适的节点在够用的最小的一箱里，不必从头走过一长串放满的节点。

空闲在一遍计划里只减不增，所以节点只会在偏大的箱里；翻到它时再挪到该在的一箱。
"""

from collections.abc import Callable, Sequence

from scns_conductor.scheduling.shape import CPU, IntArray

# 翻这么多个还没有找到，就让给成段的比较。
MOST_PROBES = 24

Rows = Sequence[Sequence[int]]


class Bins:
    """一组候选节点（权重相同）。"""

    def __init__(self, nodes: IntArray, rows: Rows) -> None:
        """nodes 按放置的次序，同样合适的取在前的；rows[node] 是节点此刻的空闲。"""
        self._bins: dict[int, list[int]] = {}
        for node in reversed(nodes.tolist()):
            self._bins.setdefault(rows[node][CPU], []).append(node)
        # 第 n 位为 1：有空闲 n 个 CPU 的一箱。
        self._filled = sum(1 << free for free in self._bins if free > 0)

    def find(
        self, rows: Rows, amounts: Sequence[tuple[int, int]], least: int, accepted: Callable[[int], bool] | None
    ) -> int | None:
        """空闲最少而放得下 amounts、accepted 也同意的节点；一定没有是 -1，翻了许多还说不准是 None。

        amounts 是 (维, 数目)，least 是其中的 CPU 数。
        """
        probes = 0
        above = self._filled >> least << least
        while above:
            lowest = above & -above
            above ^= lowest
            free = lowest.bit_length() - 1
            nodes = self._bins[free]
            index = len(nodes)
            while index:
                index -= 1
                node = nodes[index]
                row = rows[node]
                if row[CPU] != free:
                    # 后来又放了作业：挪到该在的一箱。
                    nodes[index] = nodes[-1]
                    nodes.pop()
                    self._put(node, row[CPU])
                for dimension, amount in amounts:
                    if row[dimension] < amount:
                        break
                else:
                    if accepted is None or accepted(node):
                        return node
                if row[CPU] == free:
                    probes += 1
                    if probes > MOST_PROBES:
                        return None
            if not nodes:
                self._filled &= ~lowest
        return -1

    def _put(self, node: int, free: int) -> None:
        if free > 0:
            self._bins.setdefault(free, []).append(node)
            self._filled |= 1 << free
