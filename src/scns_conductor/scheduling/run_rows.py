"""运行中的份额排成列：今后的空闲要一次算完，不能逐个作业地走。一行一份；空行的结束时刻是 -1。"""

from bisect import bisect_left, insort

import numpy as np

from scns_conductor.scheduling.node_table import INITIAL_ROWS
from scns_conductor.scheduling.shape import IntArray
from scns_conductor.scheduling.shape_rules import ShapeRules


class RunRows(ShapeRules):
    """占着节点的各份，与因它们而少了的空闲。"""

    def __init__(self) -> None:
        super().__init__()
        self.run_end = np.full(INITIAL_ROWS, -1.0)
        self.run_node: IntArray = np.zeros(INITIAL_ROWS, dtype=np.int64)
        self.run_need: IntArray = np.zeros((INITIAL_ROWS, 2), dtype=np.int64)
        self._run_spare: list[int] = list(range(INITIAL_ROWS))
        # 计划器上次看过之后动过的节点，它看完就清空。
        self.touched: set[int] = set()
        # 第一个节点上的归还（returns）；没有人问过时是 None。
        self._returns: list[tuple[float, list[int]]] | None = None

    def _widen(self) -> None:
        super()._widen()
        self.run_need = np.hstack([self.run_need, np.zeros((len(self.run_end), 1), dtype=np.int64)])
        self._returns = None

    def returns(self) -> list[tuple[float, list[int]]]:
        """第一个节点上何时（Unix 秒）归还多少（各维），按时刻排好，随启动与结束跟着变；调用者不许改。"""
        if self._returns is None:
            rows = list(self.node_rows[0])
            self._returns = sorted(zip(self.run_end[rows].tolist(), self.run_need[rows].tolist(), strict=True))
        return self._returns

    def _take_row(self, node: int, end: float, need: IntArray) -> int:
        """node 上到 end 为止占去 need，返回它的行。"""
        self.free[node] -= need
        row = self._spare_row()
        self.run_end[row], self.run_node[row], self.run_need[row] = end, node, need
        self.node_rows[node].add(row)
        if self._returns is not None and node == 0:
            insort(self._returns, (end, need.tolist()))
        self.touched.add(node)
        return row

    def _free_row(self, row: int) -> int:
        """归还一行，返回它的节点。"""
        node, need = int(self.run_node[row]), self.run_need[row]
        if self._returns is not None and node == 0:
            del self._returns[bisect_left(self._returns, (float(self.run_end[row]), need.tolist()))]
        self.free[node] += need
        self.run_end[row] = -1.0
        self.node_rows[node].discard(row)
        self.touched.add(node)
        self._run_spare.append(row)
        return node

    def _spare_row(self) -> int:
        if not self._run_spare:
            size = len(self.run_end)
            self.run_end = np.concatenate([self.run_end, np.full(size, -1.0)])
            self.run_node = np.concatenate([self.run_node, np.zeros(size, dtype=np.int64)])
            self.run_need = np.vstack([self.run_need, np.zeros((size, self.width), dtype=np.int64)])
            self._run_spare.extend(range(size, 2 * size))
        return self._run_spare.pop()
