"""一个节点今后的空闲，用列表：节点只有一个、问的次数不多时，比排成矩阵（timelines）快一个量级。意思与它相同。"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from operator import itemgetter

from scns_conductor.scheduling.releases import NO_END

# 要多少：(维, 数目)，只有不是 0 的。
Amounts = Sequence[tuple[int, int]]


def enough(row: Sequence[int], amounts: Amounts) -> bool:
    """row 给得出 amounts。"""
    for dimension, amount in amounts:
        if row[dimension] < amount:
            break
    else:
        return True
    return False


# 何时（Unix 秒），归还多少（各维）。
Release = tuple[float, Sequence[int]]


class Shadow:
    """只为一个作业保留（教科书的 EASY）：记得它何时开始、那时还余下多少就够，不必排出整条时间线。

    保留之前的空闲只增不减，开始之后也是，所以“一直给得出”只看此刻与它开始的那一刻。
    """

    def __init__(self, now: float, free: list[int], releases: list[Release]) -> None:
        """free 由调用者边启动边改；releases 按时刻排好。已过预计结束的当作马上结束。"""
        self.now = now
        self._free = free
        self._releases = releases
        self.begin = math.inf
        # 那一刻除去它要的还余下多少。
        self._room: list[int] = []

    def hold(self, amounts: Amounts, duration_s: float) -> bool:
        """为它保留；再也放不下是 False。此刻的空闲不够它，也还没有为别的保留。"""
        free, releases = self._free, self._releases
        # 各维分别要等头几个归还；都够了才放得下。
        count = 0
        for dimension, amount in amounts:
            lack = amount - free[dimension]
            if lack > 0:
                needed = _needed(releases, dimension, lack)
                if needed is None:
                    return False
                count = max(count, needed)
        begin = releases[count - 1][0]
        if begin >= NO_END:
            return False
        begin = max(begin, self.now + 1.0)
        # 与它同时的也算。
        while count < len(releases) and releases[count][0] <= begin:
            count += 1
        self.begin = begin
        self._room = list(map(sum, zip(free, *[need for _, need in releases[:count]], strict=True)))
        for dimension, amount in amounts:
            self._room[dimension] -= amount
        return True

    def hopeful(self, free: int, cpus: Sequence[int], limits_s: Sequence[float], first: int) -> list[int]:
        """第 first 个起，只看 CPU 也许放得下的是第几个：此刻够，要么在保留之前结束，要么那时也够。"""
        room = self._room[0] if self._room else free
        left = self.begin - self.now
        return [
            index
            for index, count in enumerate(cpus[first:], first)
            if count <= free and (count <= room or limits_s[index] <= left)
        ]

    def allows(self, amounts: Amounts, duration_s: float) -> bool:
        """此刻的空闲够它；从现在起的 duration_s 秒里也不碰保留。"""
        return self.now + duration_s <= self.begin or enough(self._room, amounts)

    def start(self, duration_s: float, amounts: Amounts) -> None:
        """此刻启动了一个（已从 free 里扣掉）。"""
        end = self.now + duration_s
        if self.begin == math.inf:
            need = [0] * len(self._free)
            for dimension, amount in amounts:
                need[dimension] = amount
            insort(self._releases, (end, need), key=itemgetter(0))
        elif end > self.begin:
            for dimension, amount in amounts:
                self._room[dimension] -= amount


def _needed(releases: Sequence[Release], dimension: int, lack: int) -> int | None:
    """头几个归还之后，这一维就不差 lack 个了；都归还了也不够是 None。"""
    for count, (_, need) in enumerate(releases, 1):
        lack -= need[dimension]
        if lack <= 0:
            return count
    return None


class Lane:
    """times[k] 起的一段里空闲是 free[k]，最后一段没有尽头。"""

    def __init__(self, now: float, free: list[int], releases: Iterable[Release]) -> None:
        """releases 按时刻排好；已过预计结束的当作马上结束。"""
        self.now = now
        self.times = [now]
        self.free = [free]
        # 从现在到第 k 段一直有的空闲；用到才算。
        self._least: list[list[int]] | None = None
        soonest = now + 1.0
        for end, need in releases:
            if end >= NO_END:
                break
            end = max(end, soonest)
            more = [one + other for one, other in zip(self.free[-1], need, strict=True)]
            if end == self.times[-1]:
                self.free[-1] = more
            else:
                self.times.append(end)
                self.free.append(more)

    def hold(self, amounts: Amounts, duration_s: float) -> bool:
        """占下最早的一段；再也给不出是 False。"""
        begin = self.earliest(amounts, duration_s)
        if begin is None:
            return False
        self.occupy(begin, begin + duration_s, amounts)
        return True

    def start(self, duration_s: float, amounts: Amounts) -> None:
        """此刻启动了一个。"""
        self.occupy(self.now, self.now + duration_s, amounts)

    def allows(self, amounts: Amounts, duration_s: float) -> bool:
        """从现在起的 duration_s 秒里一直给得出。"""
        if self._least is None:
            row = self.free[0]
            self._least = least = [row]
            for following in self.free[1:]:
                row = list(map(min, row, following))
                least.append(row)
        return enough(self._least[bisect_left(self.times, self.now + duration_s) - 1], amounts)

    def earliest(self, amounts: Amounts, duration_s: float) -> float | None:
        """最早从何时起能连续 duration_s 秒给出；再也不能是 None。"""
        times, free = self.times, self.free
        begin: float | None = None
        for moment, row in zip(times, free, strict=True):
            if begin is not None and moment >= begin + duration_s:
                return begin
            if not enough(row, amounts):
                begin = None
            elif begin is None:
                begin = moment
        return begin

    def occupy(self, begin: float, end: float, amounts: Amounts) -> None:
        """[begin, end) 里占去；begin 不早于现在。"""
        first = self._cut(begin)
        last = len(self.times) if end >= NO_END else self._cut(end)
        for index in range(first, last):
            row = self.free[index] = self.free[index].copy()
            for dimension, amount in amounts:
                row[dimension] -= amount
        self._least = None

    def _cut(self, moment: float) -> int:
        index = bisect_left(self.times, moment)
        if index == len(self.times) or self.times[index] != moment:
            self.times.insert(index, moment)
            self.free.insert(index, self.free[index - 1])
        return index
