"""有保留的节点：空闲随时间可升可降，一个节点一条时间线，全部时间线排成一个矩阵一起查。

第 r 行的 times[r, k] 起的一段里空闲是 free[r, k]；times 用不到的位置是 inf，最后一段没有尽头。
"""

from collections.abc import Sequence
from operator import add, itemgetter

import numpy as np

from scns_conductor.scheduling.releases import NO_END, FloatArray
from scns_conductor.scheduling.shape import BoolArray, IntArray


class Timelines:
    """若干条时间线；index 是节点（或池）-> 行。"""

    def __init__(self, now: float, width: int) -> None:
        self.now = now
        self.index: dict[int, int] = {}
        self.nodes: IntArray = np.zeros(8, dtype=np.int64)
        self._length: list[int] = []
        self.times: FloatArray = np.full((8, 16), np.inf)
        self.free: IntArray = np.zeros((8, 16, width), dtype=np.int64)
        # least[r, k]：从现在到第 k 段一直有的空闲。多数的问题是“现在起的一段”，查它就够。
        self.least: IntArray = np.zeros((8, 16, width), dtype=np.int64)
        self.version = 0

    def __len__(self) -> int:
        return len(self._length)

    def open(
        self,
        node: int,
        free: IntArray,
        ends: FloatArray,
        needs: IntArray,
        occupied: Sequence[tuple[float, float, IntArray]] = (),
    ) -> None:
        """开始记一个节点：此刻的空闲 free，之后在 ends 归还 needs；occupied 是已经占下的 (从, 到, 多少)。

        已过预计结束的当作马上结束。
        """
        row, now = len(self._length), self.now
        # 一个节点上没有多少个：列表比数组快几倍。
        level: list[int] = free.tolist()
        changes: list[tuple[float, list[int]]] = [
            (max(end, now + 1.0), need) for end, need in zip(ends.tolist(), needs.tolist(), strict=True) if end < NO_END
        ]
        for begin, until, need in occupied:
            taken: list[int] = need.tolist()
            for moment, amounts in ((begin, [-amount for amount in taken]), (until, taken)):
                if moment <= now:
                    # 就在此刻占下的，从第一段起就没有。
                    level = list(map(add, level, amounts))
                elif moment < NO_END:
                    changes.append((moment, amounts))
        changes.sort(key=itemgetter(0))
        moments, levels = [now], [level]
        for moment, amounts in changes:
            level = list(map(add, level, amounts))
            if moment == moments[-1]:
                levels[-1] = level
            else:
                moments.append(moment)
                levels.append(level)
        length = len(moments)
        self._reserve(row + 1, length)
        times = self.times[row]
        times[:length], times[length:] = moments, np.inf
        self.free[row, :length] = levels
        self.nodes[row] = node
        self.index[node] = row
        self._length.append(length)
        self._settle(row)

    def _reserve(self, rows: int, slots: int) -> None:
        """矩阵至少这么大。"""
        old_rows, old_slots = self.times.shape
        if rows <= old_rows and slots < old_slots:
            return
        size = (
            max(old_rows, 2 * rows if rows > old_rows else 0),
            max(old_slots, 2 * slots if slots >= old_slots else 0),
        )
        times = np.full(size, np.inf)
        times[:old_rows, :old_slots] = self.times
        self.times = times
        for name in ("free", "least"):
            old: IntArray = getattr(self, name)
            grown: IntArray = np.zeros((*size, old.shape[2]), dtype=np.int64)
            grown[:old_rows, :old_slots] = old
            setattr(self, name, grown)
        nodes: IntArray = np.zeros(size[0], dtype=np.int64)
        nodes[:old_rows] = self.nodes
        self.nodes = nodes

    def _settle(self, row: int) -> None:
        self.version += 1
        length = self._length[row]
        # 用不到的位置保持最后一段的空闲，查最小值时无害。
        self.free[row, length:] = self.free[row, length - 1]
        np.minimum.accumulate(self.free[row], axis=0, out=self.least[row])

    def _cut(self, row: int, moment: float) -> int:
        """moment 所在的位置；没有正好的就切一刀。"""
        length = self._length[row]
        slot = int(np.searchsorted(self.times[row, :length], moment))
        if slot < length and self.times[row, slot] == moment:
            return slot
        self._reserve(row + 1, length + 1)
        times, free = self.times[row], self.free[row]
        times[slot + 1 : length + 1] = times[slot:length].copy()
        free[slot + 1 : length + 1] = free[slot:length].copy()
        times[slot] = moment
        free[slot] = free[slot - 1]
        self._length[row] = length + 1
        return slot

    def occupy(self, node: int, start: float, end: float, need: IntArray) -> None:
        """[start, end) 里占去 need；start 不早于现在，end 是 inf 则一直占着。"""
        row = self.index[node]
        first = self._cut(row, start)
        last = self._length[row] if end >= NO_END else self._cut(row, end)
        self.free[row, first:last] -= need
        self._settle(row)

    def close(self, node: int, start: float, end: float) -> None:
        """[start, end) 里一点也不给（预留）。"""
        row = self.index[node]
        first = self._cut(row, max(start, self.now))
        last = self._length[row] if end >= NO_END else self._cut(row, end)
        self.free[row, first:last] = -1
        self._settle(row)

    def allows(self, node: int, need: IntArray, duration_s: float) -> bool:
        """从现在起的 duration_s 秒里一直给得出 need。"""
        row = self.index[node]
        slot = int(np.searchsorted(self.times[row], self.now + duration_s)) - 1
        return bool(((self.least[row, slot] >= need) | (need == 0)).all())

    def enough(self, node: int, needs: IntArray, durations: FloatArray) -> BoolArray:
        """第 i 项：从现在起的 durations[i] 秒里一直给得出 needs[i]。"""
        row = self.index[node]
        slots = np.searchsorted(self.times[row], self.now + durations) - 1
        found: BoolArray = ((self.least[row, slots] >= needs) | (needs == 0)).all(axis=1)
        return found

    def spell(self, node: int, need: IntArray) -> float:
        """从现在起能一直给出 need 多少秒；一直给得出是 inf，此刻就给不出是 0。"""
        row = self.index[node]
        length = self._length[row]
        bad = np.flatnonzero(((self.free[row, :length] < need) & (need > 0)).any(axis=1))
        return float(self.times[row, bad[0]]) - self.now if bad.size else np.inf

    def refusing(self, need: IntArray, duration_s: float) -> IntArray:
        """从现在起的 duration_s 秒里给不出 need 的节点。"""
        rows = len(self._length)
        slots = np.maximum((self.times[:rows] < self.now + duration_s).sum(axis=1) - 1, 0)
        good = ((self.least[np.arange(rows), slots] >= need) | (need == 0)).all(axis=1)
        found: IntArray = self.nodes[:rows][~good]
        return found

    def window(self, start: float, duration_s: float) -> IntArray:
        """各行在 [start, start + duration_s) 里一直有的空闲。"""
        rows = len(self._length)
        times = self.times[:rows]
        first = np.maximum((times <= start).sum(axis=1) - 1, 0)
        last = np.maximum((times < start + duration_s).sum(axis=1), first + 1)
        slots = np.arange(times.shape[1])
        inside = (slots >= first[:, None]) & (slots < last[:, None])
        lowest = np.where(inside[:, :, None], self.free[:rows], np.iinfo(np.int64).max)
        found: IntArray = lowest.min(axis=1)
        return found

    def earliest(self, need: IntArray, duration_s: float, least: float, rows: IntArray | None = None) -> FloatArray:
        """各行（或只是 rows）最早从何时（不早于 least）起能连续 duration_s 秒给出 need；不能是 inf。"""
        asked = slice(len(self._length)) if rows is None else rows
        # 后面没有用到的不看。
        most = max(self._length, default=1)
        times, free = self.times[asked, :most], self.free[asked, :most]
        good = np.ones(times.shape, dtype=np.bool_)
        for dimension, amount in enumerate(need.tolist()):
            if amount:
                good &= free[:, :, dimension] >= amount
        # until[r, k]：第 k 段起最近的给不出的时刻。
        until = np.where(good, np.inf, times)
        until = np.minimum.accumulate(until[:, ::-1], axis=1)[:, ::-1]
        following = np.full(times.shape, np.inf)
        following[:, :-1] = times[:, 1:]
        begin = np.maximum(times, least)
        with np.errstate(invalid="ignore"):
            possible = good & (begin < following) & (times < np.inf) & (until - begin >= duration_s)
        found: FloatArray = np.where(possible, begin, np.inf).min(axis=1)
        return found
