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


class Releases:
    """一份排好的归还。stale[n] 为真时节点 n 的行过时了，不用。"""

    def __init__(self, count: int, nodes: IntArray, ends: FloatArray, needs: IntArray) -> None:
        keep = ends < NO_END
        nodes, ends, needs = nodes[keep], ends[keep], needs[keep]
        order = np.lexsort((ends, nodes))
        self.node: IntArray = nodes[order]
        self.end: FloatArray = ends[order]
        running = np.cumsum(needs[order], axis=0)
        first = np.searchsorted(self.node, np.arange(count))
        before = np.vstack([np.zeros((1, needs.shape[1]), dtype=np.int64), running])[first]
        # 到这一行为止，这个节点一共归还了多少。
        self.given: IntArray = running - before[self.node] if len(nodes) else running
        self.stale: BoolArray = np.zeros(count, dtype=np.bool_)

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


def running_releases(cluster: Cluster, extra: Sequence[tuple[int, float, IntArray]] = ()) -> Releases:
    """运行中的作业的归还，外加 extra（本周期刚决定启动的：节点、结束、需要）。"""
    live = cluster.run_end >= 0
    nodes, ends, needs = cluster.run_node[live], cluster.run_end[live], cluster.run_need[live]
    if extra:
        nodes = np.concatenate([nodes, [item[0] for item in extra]])
        ends = np.concatenate([ends, [item[1] for item in extra]])
        needs = np.vstack([needs, [item[2] for item in extra]])
    return Releases(cluster.count, nodes, ends, needs)
