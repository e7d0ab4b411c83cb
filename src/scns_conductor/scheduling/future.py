"""今后的空闲：受阻的作业在上面找最早的时刻、占下一段，后来的作业看它会不会推迟别人。

没有保留的节点查 releases（一次向量比较），有保留的一个节点一条时间线（timelines）。
本周期启动的作业也会归还：它们的节点在 releases 里记为过时，另外小小地排一份。
"""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from scns_conductor.scheduling.chain import chain, seats_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.releases import (
    NO_END,
    FloatArray,
    Releases,
    Started,
    releases_on,
    running_releases,
)
from scns_conductor.scheduling.shape import CPU, LICENSE, BoolArray, IntArray, Shape, cpus_of
from scns_conductor.scheduling.timelines import Timelines

# 过时的节点多到这么多（或集群的八分之一），整个重排一遍更省。
MOST_STALE = 256


class Future:
    """free 是计划中此刻的空闲（由计划器边启动边改）；started 是在此之前本周期已经决定的启动，此后的也记在里面。"""

    def __init__(
        self,
        cluster: Cluster,
        now: float,
        free: IntArray,
        started: Started | None = None,
        releases: Releases | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        """ignored 是不算占着节点的预留：所在的那个，或假如没有的。"""
        self._cluster = cluster
        self.now = now
        self._free = free
        self._extra = Started() if started is None else started
        self.releases = running_releases(cluster, self._extra) if releases is None else releases
        if releases is not None:
            releases.stale[self._extra.nodes] = True
        self._stale: Releases | None = None
        # 占下了、还没有开时间线的：增量的计划多半用不着它们。
        self._deferred: dict[int, list[tuple[float, float, IntArray]]] = defaultdict(list)
        self.opened = Timelines(now, cluster.width)
        self._ranks = cluster.ranks
        self._is_open: BoolArray = np.zeros(cluster.count, dtype=np.bool_)
        # (许可证, 所用的预留) -> 时间线的号：自己的预留占着的，自己能用。
        self._pools: dict[tuple[str, str | None], int] = {}
        self._licenses = Timelines(now, 1)
        # 本周期启动的、为受阻的作业占下的许可证：(从, 到, 数目)；后者的名字。
        self._occupied_pools: dict[str, list[tuple[float, float, IntArray]]] = defaultdict(list)
        self._contested: set[str] = set()
        # 预留占着的节点与时段，按开始的先后。
        self._windows = [
            (cluster.reserved_nodes(reservation), *span)
            for reservation in cluster.reservations.values()
            if reservation.name not in ignored
            and not reservation.cores
            and (reservation.nodes is None or reservation.nodes)
            for span in reservation.spans
        ]
        self._windows.sort(key=lambda item: item[1])
        self._keep_cores(ignored)

    # ---- 记下 ----

    def _keep_cores(self, ignored: Collection[str]) -> None:
        """按核留的：今后的各次从外面的 CPU 里占去；这一次到头之后，里面一个也不给（到时重新留）。"""
        cluster = self._cluster
        for hold in cluster.core_holds:
            reservation, held = hold.reservation, self._deferred[hold.node]
            outside, inside = (np.zeros(cluster.width, dtype=np.int64) for _ in range(2))
            outside[CPU] = inside[cluster.kinds[cpus_of(reservation.name)]] = hold.cpus
            held.append((reservation.end, NO_END, inside))
            if reservation.name not in ignored:
                coming = reservation.later if hold.open else reservation.spans
                held.extend((start, end, outside) for start, end in coming)
            elif hold.open:
                # 假如没有它：现在就空着，它的行到时不再归还。
                kept = outside // hold.cpus * cluster.held_on(hold)
                self._free = self._free.copy()
                self._free[hold.node] += kept
                held.append((reservation.end, NO_END, kept))

    def start(self, shares: Sequence[tuple[int, IntArray]], end: float) -> None:
        """本周期又启动了一个：各节点（已从 free 里扣掉）到 end 归还。"""
        for node, need in shares:
            if node in self.opened.index:
                self.opened.occupy(node, self.now, end, need)
            if end < NO_END:
                self._extra.add(node, end, need)
                self.releases.stale[node] = True
                self._stale = None

    def occupy(self, begin: float, end: float, shares: Sequence[NodeShare], pools: Sequence[tuple[str, int]]) -> None:
        """为受阻的作业占下 [begin, end)。"""
        for share in shares:
            need = self._cluster.share_vector(share)
            if share.node in self.opened.index:
                self.opened.occupy(share.node, begin, end, need)
            else:
                self._deferred[share.node].append((begin, end, need))
        for name, count in pools:
            if name.startswith(LICENSE):
                self._contested.add(name)
                self._occupy_pool(name, begin, end, count)

    def start_pools(self, pools: Sequence[tuple[str, int]], end: float) -> None:
        """本周期又启动了一个：占去的许可证到 end 归还。"""
        for name, count in pools:
            if name.startswith(LICENSE):
                self._occupy_pool(name, self.now, end, count)

    def _occupy_pool(self, name: str, begin: float, end: float, count: int) -> None:
        need = np.array([count])
        self._occupied_pools[name].append((begin, end, need))
        for (pool, _), number in self._pools.items():
            if pool == name:
                self._licenses.occupy(number, begin, end, need)

    def open(self, node: int) -> None:
        """开这个节点的时间线；开过了则什么也不做。"""
        if node in self.opened.index:
            return
        cluster = self._cluster
        rows = sorted(cluster.node_rows[node])
        ends, needs = cluster.run_end[rows], cluster.run_need[rows]
        extra = self._extra.at(node)
        if extra:
            ends = np.concatenate([ends, [self._extra.ends[index] for index in extra]])
            needs = np.vstack([needs, [self._extra.needs[index] for index in extra]])
        self.opened.open(node, self._free[node], ends, needs, self._deferred.pop(node, ()))
        self._is_open[node] = True
        for mask, start, end in self._windows:
            if mask[node] and end > self.now:
                self.opened.close(node, start, end)

    def ceiling(self, node: int) -> tuple[FloatArray, IntArray]:
        """不看保留时 node 今后的空闲：(归还的时刻, 归还了前 k 个之后的空闲)，后者多一行；它是空闲的上界，只增不减。"""
        rows = list(self._cluster.node_rows[node])
        ends = self._cluster.run_end[rows]
        order = np.argsort(ends, kind="stable")
        order = order[ends[order] < NO_END]
        needs = self._cluster.run_need[rows][order]
        levels = self._free[node] + np.vstack([np.zeros((1, needs.shape[1]), dtype=np.int64), np.cumsum(needs, axis=0)])
        return np.maximum(ends[order], self.now + 1.0), levels

    def _open_deferred(self) -> None:
        for node in list(self._deferred):
            self.open(node)

    def _pool(self, name: str, own: str | None) -> int:
        """预留 own 里（None 是没有用预留）看到的许可证的时间线的号。"""
        key = (name, own)
        if key not in self._pools:
            number = self._pools[key] = len(self._pools)
            cluster, occupied = self._cluster, list(self._occupied_pools[name])
            others = {each.name: each for each in cluster.reservations.values() if each.name != own}
            for each in others.values():
                count = dict(each.licenses).get(name)
                if count is not None:
                    left = np.array([cluster.reserved_left(each, name)])
                    occupied.append((each.start, each.end, left))
                    occupied.extend((start, end, np.array([count])) for start, end in each.later)
            ends, counts = [], []
            for job_id, (end, count) in cluster.pool_holders[name].items():
                # 别人的预留里的作业结束了，许可证仍留给那个预留。
                within = others.get(cluster.running[job_id].reservation or "")
                ends.append(end if within is None else max(end, within.end))
                counts.append([count])
            needs = np.array(counts, dtype=np.int64).reshape(-1, 1)
            self._licenses.open(number, np.array([cluster.pools.get(name, 0)]), np.array(ends), needs, occupied)
        return self._pools[key]

    # ---- 此刻 ----

    def refusing(self, need: IntArray, duration_s: float) -> IntArray:
        """有保留的节点里，从现在起的 duration_s 秒里给不出 need 的。"""
        self._open_deferred()
        return self.opened.refusing(need, duration_s)

    def allows(self, node: int, need: IntArray, duration_s: float) -> bool:
        """此刻的空闲够 need；从现在起的 duration_s 秒里也不会碰到保留。"""
        if node in self._deferred:
            self.open(node)
        return node not in self.opened.index or self.opened.allows(node, need, duration_s)

    def held(self, node: int) -> bool:
        """node 上有没有保留（或开了时间线）。"""
        return node in self.opened.index or node in self._deferred

    def enough(self, node: int, needs: IntArray, durations: FloatArray) -> BoolArray:
        """许多要求一起问 node：第 i 项从现在起的 durations[i] 秒里放得下 needs[i]。"""
        self.open(node)
        return self.opened.enough(node, needs, durations)

    def spell(self, node: int, need: IntArray) -> float:
        """此刻的空闲够 need；多少秒之后会碰到保留，碰不到是 inf。"""
        if node in self._deferred:
            self.open(node)
        return self.opened.spell(node, need) if node in self.opened.index else math.inf

    def pools_allow(self, pools: Sequence[tuple[str, int]], own: str | None, duration_s: float) -> bool:
        """许可证从现在起的 duration_s 秒里够，不碰为别的作业占下的；own 是所用的预留。"""
        return all(
            self._licenses.allows(self._pool(name, own), np.array([count]), duration_s)
            for name, count in pools
            if name in self._contested
        )

    def window(self, duration_s: float) -> IntArray:
        """全部节点从现在起的 duration_s 秒里一直有的空闲（不看预留）。"""
        self._open_deferred()
        if not len(self.opened):
            return self._free
        found = self._free.copy()
        found[self.opened.nodes[: len(self.opened)]] = self.opened.window(self.now, duration_s)
        return found

    def free_during(self, node: int, begin: float, duration_s: float) -> IntArray:
        """node 在 [begin, begin + duration_s) 里一直有的空闲。"""
        if begin <= self.now and node not in self.opened.index and node not in self._deferred:
            now: IntArray = self._free[node]
            return now
        self.open(node)
        found: IntArray = self.opened.window(begin, duration_s)[self.opened.index[node]]
        return found

    # ---- 今后 ----

    def earliest(
        self,
        need: IntArray,
        allowed: BoolArray,
        duration_s: float,
        pools: Sequence[tuple[str, int]] = (),
        own: str | None = None,
        not_before: float | None = None,
    ) -> tuple[float, int] | None:
        """allowed 的节点里最早（同样早的取次序最前的）能连续 duration_s 秒放下 need 的 (时刻, 节点)。

        own 是所用的（只有许可证的）预留；not_before 是不早于它（Unix 秒），缺省是现在。
        """
        self._open_deferred()
        least = self.now if not_before is None else max(self.now, not_before)
        while True:
            found = self._earliest_node(need, allowed, duration_s, least)
            if found is None:
                return None
            least = self._pools_from(pools, own, duration_s, found[0])
            if least == found[0]:
                return found
            if least == math.inf:
                return None

    @property
    def untouched(self) -> bool:
        """还没有为谁保留、也没有预留：今后的空闲只增不减。"""
        return not self._deferred and not len(self.opened) and not self._windows

    def occupy_chain(self, need: IntArray, allowed: BoolArray, duration_s: float, most: int) -> list[tuple[float, int]]:
        """untouched 时：为同形的接连 most 个作业占下，返回各自的 (时刻, 节点)；再也空不出来时不足 most 个。"""
        parts = self._parts(allowed)
        found = chain(seats_of(parts, self._free, need, allowed, self.now, self._ranks, most), duration_s, most)
        for moment, node in found:
            self._deferred[node].append((moment, moment + duration_s, need))
        return found

    def earliest_among(
        self, nodes: IntArray, need: IntArray, allowed: BoolArray, duration_s: float
    ) -> tuple[float, int] | None:
        """只看 nodes（不多）的 earliest；不看许可证。"""
        listed, index = nodes.tolist(), self.opened.index
        for node in listed:
            if node not in index:
                self.open(node)
        rows = np.array([index[node] for node in listed], dtype=np.int64)
        moments = self.opened.earliest(need, duration_s, self.now, rows)
        moments[~allowed[nodes]] = np.inf
        best = float(moments.min(initial=np.inf))
        if best >= NO_END:
            return None
        tied = nodes[moments == best]
        return best, int(tied[np.argmin(self._ranks[tied])])

    def _earliest_node(
        self, need: IntArray, allowed: BoolArray, duration_s: float, least: float
    ) -> tuple[float, int] | None:
        # allowed 而没有开时间线的。
        closed = allowed > self._is_open
        nodes = self._free_now(closed, need)
        parts = [(nodes, np.full(len(nodes), least))]
        # 此刻就够的已经最早，除非有预留推迟它们，或反正要等许可证。
        if not len(nodes) or self._windows or least > self.now:
            floor = max(least, self.now + 1.0)
            for part in self._parts(closed):
                # 有预留会推迟时，最早的不一定还最早：各个节点的都要。
                look = part.earliest if self._windows else part.soonest
                parts.append(look(need, self._free, closed, floor))
        if len(self.opened):
            rows = self.opened.nodes[: len(self.opened)]
            parts.append((rows, np.where(allowed[rows], self.opened.earliest(need, duration_s, least), np.inf)))
        nodes = np.concatenate([part[0] for part in parts])
        moments = np.concatenate([part[1] for part in parts])
        for mask, start, end in self._windows:
            hit = mask[nodes] & (moments < end) & (moments + duration_s > start)
            moments = np.where(hit & ~self._is_open[nodes], end, moments)
        if not len(nodes):
            return None
        best = float(moments.min())
        if best >= NO_END:
            return None
        tied = nodes[moments == best]
        return best, int(tied[np.argmin(self._ranks[tied])])

    def _free_now(self, among: BoolArray, need: IntArray) -> IntArray:
        """among 的节点里此刻就给得出 need 的；头一维（CPU）多半就剩不下几个，余下的只看剩下的。"""
        found: IntArray | None = None
        for dimension, amount in enumerate(need.tolist()):
            if not amount:
                continue
            if found is None:
                found = np.flatnonzero(among & (self._free[:, dimension] >= amount))
            else:
                found = found[self._free[found, dimension] >= amount]
        return np.flatnonzero(among) if found is None else found

    def _parts(self, allowed: BoolArray) -> list[Releases]:
        """查 allowed 要看的归还；全都过时的只看小的一份。"""
        stale = self.releases.stale
        count = int(np.count_nonzero(stale))
        if count > max(MOST_STALE, self._cluster.count // 8):
            self.releases = running_releases(self._cluster, self._extra)
            self._stale = None
            return [self.releases]
        if not count:
            return [self.releases]
        if self._stale is None:
            if count > MOST_STALE:
                self._stale = running_releases(self._cluster, self._extra, stale)
            else:
                self._stale = releases_on(self._cluster, np.flatnonzero(stale).tolist(), self._extra)
        if not (allowed & ~stale).any():
            return [self._stale]
        return [self.releases, self._stale]

    def _pools_from(self, pools: Sequence[tuple[str, int]], own: str | None, duration_s: float, least: float) -> float:
        """许可证都够的最早时刻，不早于 least；不会够是 inf。"""
        while True:
            moment = least
            for name, count in pools:
                if name.startswith(LICENSE):
                    number = self._pool(name, own)
                    row = self._licenses.index[number]
                    moment = max(moment, float(self._licenses.earliest(np.array([count]), duration_s, moment)[row]))
            if moment == least or moment == math.inf:
                return moment
            least = moment

    def earliest_general(
        self,
        shape: Shape,
        allowed: BoolArray,
        duration_s: float,
        placement: Placement,
        not_before: float | None = None,
    ) -> tuple[float, tuple[NodeShare, ...]] | None:
        """多节点、独占一类的：没有保留时放得下与否是单调的，先二分出下界，再从那里一个时刻一个时刻地试。"""
        self._open_deferred()
        cluster = self._cluster
        moments = self._moments()
        if not_before is not None and not_before > self.now:
            moments = np.concatenate([[not_before], moments[moments > not_before]])
        low, high = 0, len(moments)
        while low < high:
            middle = (low + high) // 2
            if place(cluster, shape, self._released(moments[middle]), placement, allowed) is None:
                low = middle + 1
            else:
                high = middle
        for moment in moments[low:].tolist():
            begin = self._pools_from(shape.pools, shape.reservation, duration_s, moment)
            if begin == math.inf:
                return None
            if begin > moment:
                # 许可证更晚才够；那时不一定是一个已有的时刻。
                found = self._place_at(shape, allowed, begin, duration_s, placement)
                if found is not None:
                    return begin, found
                continue
            found = self._place_at(shape, allowed, moment, duration_s, placement)
            if found is not None:
                return moment, found
        return None

    def _place_at(
        self, shape: Shape, allowed: BoolArray, moment: float, duration_s: float, placement: Placement
    ) -> tuple[NodeShare, ...] | None:
        free = self._released(moment)
        if len(self.opened):
            free[self.opened.nodes[: len(self.opened)]] = self.opened.window(moment, duration_s)
        for mask, start, end in self._windows:
            if moment < end and start < moment + duration_s:
                allowed = allowed & ~mask
        return place(self._cluster, shape, free, placement, allowed)

    def _moments(self) -> FloatArray:
        """会有变化的时刻，从现在起。"""
        ends = [part.moments() for part in self._parts(np.ones(self._cluster.count, dtype=np.bool_))]
        times = self.opened.times[: len(self.opened)].ravel()
        windows = [end for _, _, end in self._windows if self.now < end < NO_END]
        found = np.concatenate([*(np.maximum(each, self.now + 1.0) for each in ends), times[times < NO_END], windows])
        return np.unique(np.concatenate([[self.now], found]))

    def _released(self, moment: float) -> IntArray:
        """只看归还、不看保留时 moment 的空闲；有保留的节点也按没有保留算。"""
        free: IntArray = self._free
        for part in self._parts(np.ones(self._cluster.count, dtype=np.bool_)):
            # 已过预计结束的当作马上结束。
            free = part.free_at(moment, free) if moment > self.now else free
        return free.copy() if free is self._free else free
