"""没有保留的节点：空闲只增不减，运行中的作业到了预计的结束就归还。

按（节点, 结束）排成列、节点内累加，“这个要求最早何时放得下”就是一次向量比较。
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.shape import BoolArray, IntArray

FloatArray = npt.NDArray[np.float64]
# 预计结束不早于它的当作没有尽头，不归还。
NO_END = 1e14
# 从最早的结束看起时，头一段看这么多行（同样早的都看）。
FIRST_BLOCK = 512


class Started:
    """一个周期里已经决定的启动，只增：各在哪个节点、到何时（Unix 秒）、占去多少。"""

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.ends: list[float] = []
        self.needs: list[IntArray] = []
        # 节点 -> 它的各项在第几个；用到才补。
        self._at: dict[int, list[int]] = {}
        self._listed = 0
        # 排成列的前一段；用到才接上后来的。
        self._columns: tuple[IntArray, FloatArray, IntArray] = (
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.float64),
            np.zeros((0, 0), dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, node: int, end: float, need: IntArray) -> None:
        """又一个。"""
        self.nodes.append(node)
        self.ends.append(end)
        self.needs.append(need)

    def at(self, node: int) -> Sequence[int]:
        """node 上的是第几个。"""
        for index in range(self._listed, len(self.nodes)):
            self._at.setdefault(self.nodes[index], []).append(index)
        self._listed = len(self.nodes)
        return self._at.get(node, ())

    def columns(self, width: int) -> tuple[IntArray, FloatArray, IntArray]:
        """(节点, 结束, 占去) 排成列。"""
        first = len(self._columns[0])
        if first < len(self.nodes):
            more = (
                np.array(self.nodes[first:], dtype=np.int64),
                np.array(self.ends[first:], dtype=np.float64),
                np.concatenate(self.needs[first:]).reshape(-1, width),
            )
            at, ends, needs = self._columns
            self._columns = (
                (np.concatenate([at, more[0]]), np.concatenate([ends, more[1]]), np.concatenate([needs, more[2]]))
                if first
                else more
            )
        return self._columns


class Releases:
    """一份排好的归还。stale[n] 为真时节点 n 的行过时了，不用。"""

    def __init__(self, count: int, nodes: IntArray, ends: FloatArray, needs: IntArray) -> None:
        keep = ends < NO_END
        nodes, ends, needs = nodes[keep], ends[keep], needs[keep]
        order = np.lexsort((ends, nodes))
        self.node: IntArray = nodes[order]
        self.end: FloatArray = ends[order]
        running = np.cumsum(needs[order], axis=0)
        # 各节点的第一行；只有几行时不走过全部节点。
        first = np.flatnonzero(np.diff(self.node, prepend=-1))
        before = np.vstack([np.zeros((1, needs.shape[1]), dtype=np.int64), running])[first]
        # 到这一行为止，这个节点一共归还了多少。
        self.given: IntArray = running - np.repeat(before, np.diff(first, append=len(nodes)), axis=0)
        self.stale: BoolArray = np.zeros(count, dtype=np.bool_)
        # 各行的 (结束, 节点, given)，按结束的先后；用到才排。
        self._by_end: tuple[FloatArray, IntArray, IntArray] | None = None

    def soonest(self, need: IntArray, free: IntArray, allowed: BoolArray, least: float) -> tuple[IntArray, FloatArray]:
        """同 earliest，只要其中最早的（同样早的都要）：从最早的结束看起，多半看几百行就够，不必走过全部。"""
        if self._by_end is None:
            order = np.argsort(self.end, kind="stable")
            self._by_end = self.end[order], self.node[order], self.given[order]
        ends, at, given = self._by_end
        wanted = [(dimension, amount) for dimension, amount in enumerate(need.tolist()) if amount]
        first, block, count = 0, FIRST_BLOCK, len(ends)
        while first < count:
            last = first + block
            if last < count:
                # 同样早的不分在两段里；不晚于 least 的都算同样早。
                last = int(np.searchsorted(ends, max(float(ends[last - 1]), least), side="right"))
            nodes = at[first:last]
            good = allowed[nodes] & ~self.stale[nodes]
            for dimension, amount in wanted:
                good &= given[first:last, dimension] + free[nodes, dimension] >= amount
            found = np.flatnonzero(good)
            if len(found):
                moments = np.maximum(ends[first:last][found], least)
                best = moments[0]
                tied = np.unique(nodes[found[moments == best]])
                return tied, np.full(len(tied), best)
            first, block = last, block * 4
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64)

    def earliest(self, need: IntArray, free: IntArray, allowed: BoolArray, least: float) -> tuple[IntArray, FloatArray]:
        """allowed 的节点里靠归还放得下 need 的 (节点, 时刻)，每个节点一项；时刻不早于 least。"""
        good = (allowed & ~self.stale)[self.node]
        for dimension, amount in enumerate(need.tolist()):
            if amount:
                good &= self.given[:, dimension] >= (amount - free[:, dimension])[self.node]
        rows = np.flatnonzero(good)
        nodes = self.node[rows]
        # 节点内按结束排好：第一行就是最早的。
        first = np.flatnonzero(np.diff(nodes, prepend=-1))
        return nodes[first], np.maximum(self.end[rows[first]], least)

    def free_at(self, moment: float, free: IntArray) -> IntArray:
        """到 moment 为止归还的都算上（过时的行不算）。"""
        done = np.flatnonzero((self.end <= moment) & ~self.stale[self.node])
        found = free.copy()
        nodes = self.node[done]
        last = np.flatnonzero(np.diff(nodes, append=-1))
        found[nodes[last]] += self.given[done[last]]
        return found

    def moments(self) -> FloatArray:
        """全部结束的时刻（过时的行不算）。"""
        return self.end[~self.stale[self.node]]


def running_releases(cluster: Cluster, extra: Started | None = None, only: BoolArray | None = None) -> Releases:
    """运行中的作业的归还，外加 extra（本周期刚决定启动的）；only 是只要哪些节点的，缺省全部。"""
    live = cluster.run_end >= 0
    if only is not None:
        live &= only[cluster.run_node]
    columns = [(cluster.run_node[live], cluster.run_end[live], cluster.run_need[live])]
    if extra:
        nodes, ends, needs = extra.columns(cluster.width)
        kept = slice(None) if only is None else only[nodes]
        columns.append((nodes[kept], ends[kept], needs[kept]))
    nodes, ends, needs = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return Releases(cluster.count, nodes, ends, needs)


def releases_on(cluster: Cluster, nodes: Sequence[int], extra: Started) -> Releases:
    """同 running_releases，只要 nodes（不多）的：不必走过全部运行中的。"""
    rows = [row for node in nodes for row in sorted(cluster.node_rows[node])]
    more = [index for node in nodes for index in extra.at(node)]
    return Releases(
        cluster.count,
        np.concatenate([cluster.run_node[rows], np.array([extra.nodes[index] for index in more], dtype=np.int64)]),
        np.concatenate([cluster.run_end[rows], np.array([extra.ends[index] for index in more], dtype=np.float64)]),
        np.vstack([cluster.run_need[rows], *(extra.needs[index] for index in more)]),
    )
