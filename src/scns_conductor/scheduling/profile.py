"""时间剖面：从现在起，各节点在每一段时间里有多少空闲。受阻的作业在上面保留未来的资源。

时刻多到放不下时合并：结束的时刻向后取整，剖面只会说得更少，保留因此只会偏晚、不会落空。
"""

from collections.abc import Iterable, Sequence

import numpy as np

from scns_conductor.scheduling.cluster import Cluster, NodeShare
from scns_conductor.scheduling.shape import BoolArray, IntArray, Shape

# 剖面的元素数上限；节点少时时刻可以很多（精确），节点多时合并。
MAX_CELLS = 1_500_000
MIN_SLOTS = 24
# 预计结束不早于它的当作没有尽头。
NO_END = 1e14


class Profile:
    """times[k] 起的一段里，free[k] 是各节点的空闲；最后一段没有尽头。"""

    def __init__(
        self,
        cluster: Cluster,
        now: float,
        free: IntArray,
        started: Sequence[tuple[float, Sequence[NodeShare]]] = (),
    ) -> None:
        """free 是此刻的空闲；started 是本周期刚决定启动的 (预计结束, 份额)，已从 free 里扣掉。

        已过预计结束而还没结束的，当作马上结束。
        """
        count = cluster.count
        self._cluster = cluster
        self.now = now
        self._slots = max(MIN_SLOTS, MAX_CELLS // max(1, count * cluster.width))
        live = (cluster.run_end >= 0) & (cluster.run_end < NO_END)
        ends = np.maximum(cluster.run_end[live], now + 1.0)
        nodes, needs = cluster.run_node[live], cluster.run_need[live]
        fresh = [(end, share) for end, shares in started if end < NO_END for share in shares]
        if fresh:
            ends = np.concatenate([ends, [max(end, now + 1.0) for end, _ in fresh]])
            nodes = np.concatenate([nodes, [share.node for _, share in fresh]])
            needs = np.vstack([needs, [cluster.share_vector(share) for _, share in fresh]])
        moments = np.unique(ends)
        if len(moments) > self._slots // 2:
            picks = np.linspace(0, len(moments) - 1, self._slots // 2).astype(np.int64)
            moments = moments[np.unique(picks)]
        self.times = np.concatenate([[now], moments])
        self.free: IntArray = np.zeros((len(self.times), count, cluster.width), dtype=np.int64)
        self.free[0] = free
        np.add.at(self.free, (np.searchsorted(self.times, ends), nodes), needs)
        np.cumsum(self.free, axis=0, out=self.free)
        # least[k]：从现在到第 k 段一直有的空闲。绝大多数的问题是“现在起的一段”，查它就够。
        self.least: IntArray = np.minimum.accumulate(self.free, axis=0)
        self.version = 0

    def close(self, nodes: BoolArray, start: float, end: float) -> None:
        """[start, end) 里这些节点一点也不给（预留）。切不下的时刻向外取整，只会说得更少。"""
        self.version += 1
        first = 0 if start <= self.now else self._cut(start, earlier=True)
        last = len(self.times) if end >= NO_END else self._cut(end, earlier=False)
        rows = np.flatnonzero(nodes)
        self.free[first:last, rows] = -1
        self.least[:, rows] = np.minimum.accumulate(self.free[:, rows], axis=0)

    def _cut(self, moment: float, *, earlier: bool) -> int:
        """moment 所在的段；没有正好的就切一刀，切不下了取早的或晚的一段。"""
        slot = self.slot_after(moment)
        if slot < len(self.times) and self.times[slot] == moment:
            return slot
        if len(self.times) >= self._slots:
            return slot - 1 if earlier else slot
        self.times = np.insert(self.times, slot, moment)
        self.free = np.insert(self.free, slot, self.free[slot - 1], axis=0)
        self.least = np.insert(self.least, slot, self.least[slot - 1], axis=0)
        return slot

    def slot_after(self, moment: float) -> int:
        """第一个不早于 moment 的段；没有则是段数。"""
        return int(np.searchsorted(self.times, moment))

    def window(self, slot: int, duration_s: float) -> IntArray:
        """从 slot 起的 duration_s 秒里各节点一直有的空闲。"""
        last = max(slot + 1, self.slot_after(self.times[slot] + duration_s))
        if slot == 0:
            now_on: IntArray = self.least[last - 1]
            return now_on
        found: IntArray = self.free[slot:last].min(axis=0) if last - slot > 1 else self.free[slot]
        return found

    def row(self, node: int, duration_s: float) -> IntArray:
        """一个节点从现在起 duration_s 秒里一直有的空闲。"""
        found: IntArray = self.least[max(1, self.slot_after(self.now + duration_s)) - 1, node]
        return found

    def occupy(self, slot: int, duration_s: float, shares: Iterable[NodeShare]) -> None:
        """从 slot 起占用 duration_s 秒。"""
        self.version += 1
        last = len(self.times)
        end = self.times[slot] + duration_s
        if end < NO_END:
            last = self.slot_after(end)
            exact = last < len(self.times) and self.times[last] == end
            if not exact and len(self.times) < self._slots:
                # 在结束处切一刀；切不下了就占到下一个已有的时刻。
                self.times = np.insert(self.times, last, end)
                self.free = np.insert(self.free, last, self.free[last - 1], axis=0)
                self.least = np.insert(self.least, last, self.least[last - 1], axis=0)
        for share in shares:
            node = share.node
            self.free[slot:last, node] -= self._cluster.share_vector(share)
            np.minimum.accumulate(self.free[:, node], axis=0, out=self.least[:, node])

    def earliest_on_one_node(self, shape: Shape, need: IntArray, nodes: IntArray, duration_s: float) -> int | None:
        """这些节点里有一个能连续 duration_s 秒给出 need 的第一段；没有则为 None。"""
        slots = len(self.times)
        until = np.maximum(np.searchsorted(self.times, self.times + duration_s), np.arange(slots) + 1)
        everywhere = len(nodes) == self.free.shape[1]
        # since[i]：节点 i 从哪一段起一直放得下；走到一个窗口的末尾就能判定它，找到即停。
        since = np.zeros(len(nodes), dtype=np.int64)
        start = 0
        for slot in range(slots):
            good = fits(self.free[slot] if everywhere else self.free[slot, nodes], need)
            since[~good] = slot + 1
            first = int(since.min())
            while start < slots and until[start] == slot + 1:
                if first <= start:
                    return start
                start += 1
        return None


def fits(free: IntArray, need: IntArray) -> BoolArray:
    """free 的各行是否都给得出 need；逐维比较，比沿短轴归约快一个量级。"""
    found: BoolArray = free[:, 0] >= need[0]
    for dimension in range(1, len(need)):
        if need[dimension]:
            found &= free[:, dimension] >= need[dimension]
    return found
