"""同形的作业一个接一个地等：它们的保留是一条链，一个堆算出来，不必一个保留一条时间线。

别的保留都没有的时候，一个节点今后放得下几个这样的作业只增不减：每多一个就是多一个“位子”，作业占一个位子
duration 秒再还回来。
最早的位子给次序最前的作业，与逐个地在时间线上找最早的一段，结果相同（tests/unit/test_scheduling_chain.py）。
"""

import heapq
from collections.abc import Sequence

import numpy as np

from scns_conductor.scheduling.releases import NO_END, FloatArray, Releases
from scns_conductor.scheduling.shape import BoolArray, IntArray

# 一个时刻多出来的位子：(时刻, 节点的名次, 节点, 几个)。
Seat = tuple[float, int, int, int]


def capacity_of(free: IntArray, need: IntArray) -> IntArray:
    """各行放得下几个 need；need 至少有一维不是 0。"""
    wanted = np.flatnonzero(need)
    found: IntArray = np.maximum((free[:, wanted] // need[wanted]).min(axis=1), 0)
    return found


def seats_of(
    parts: Sequence[Releases], free: IntArray, need: IntArray, usable: BoolArray, now: float, ranks: IntArray, most: int
) -> list[Seat]:
    """usable 的节点上最早的 most 个位子（同一时刻的都给）；parts 是归还，free 是此刻的空闲。"""
    idle = capacity_of(free, need)
    nodes = np.flatnonzero(usable & (idle > 0))
    moments: list[FloatArray] = [np.full(len(nodes), now)]
    places, counts = [nodes], [idle[nodes]]
    for part in parts:
        rows = np.flatnonzero((usable & ~part.stale)[part.node])
        node = part.node[rows]
        room = capacity_of(free[node] + part.given[rows], need)
        # 节点内按结束排好：比前一行多的就是新的位子。
        first = np.diff(node, prepend=-1) != 0
        more = room - np.where(first, idle[node], np.roll(room, 1))
        found = np.flatnonzero(more > 0)
        moments.append(np.maximum(part.end[rows[found]], now + 1.0))
        places.append(node[found])
        counts.append(more[found])
    at, place, count = np.concatenate(moments), np.concatenate(places), np.concatenate(counts)
    if len(at) > most:
        keep = at <= np.partition(at, most - 1)[most - 1]
        at, place, count = at[keep], place[keep], count[keep]
    return list(zip(at.tolist(), ranks[place].tolist(), place.tolist(), count.tolist(), strict=True))


def chain(seats: list[Seat], duration_s: float, count: int) -> list[tuple[float, int]]:
    """接连 count 个作业各自的 (时刻, 节点)；位子再也空不出来时不足 count 个。seats 用过就没有了。"""
    heapq.heapify(seats)
    found: list[tuple[float, int]] = []
    while seats and len(found) < count:
        moment, rank, node, left = seats[0]
        if moment >= NO_END:
            break
        found.append((moment, node))
        if left > 1:
            heapq.heapreplace(seats, (moment, rank, node, left - 1))
            heapq.heappush(seats, (moment + duration_s, rank, node, 1))
        else:
            heapq.heapreplace(seats, (moment + duration_s, rank, node, 1))
    return found
