"""一个节点今后的空闲，用列表：节点只有一个、问的次数不多时，比排成矩阵（timelines）快一个量级。意思与它相同。"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

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


class Lane:
    """times[k] 起的一段里空闲是 free[k]，最后一段没有尽头。"""

    def __init__(self, now: float, free: list[int], releases: Iterable[tuple[float, Sequence[int]]]) -> None:
        """releases 是（何时，归还多少）；已过预计结束的当作马上结束。"""
        self.now = now
        self.times = [now]
        self.free = [free]
        # 从现在到第 k 段一直有的空闲；用到才算。
        self._least: list[list[int]] | None = None
        soonest = now + 1.0
        for end, need in sorted(releases, key=lambda item: item[0]):
            if end >= NO_END:
                break
            end = max(end, soonest)
            more = [one + other for one, other in zip(self.free[-1], need, strict=True)]
            if end == self.times[-1]:
                self.free[-1] = more
            else:
                self.times.append(end)
                self.free.append(more)

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
