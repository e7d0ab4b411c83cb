"""按核留的预留（CoreCnt=）：节点上只有这么多 CPU 归它，其余的照常给别人。

预留里的 CPU 另是一维（名字见 shape.cpus_of）：里面的作业的 CPU 从那一维出；窗口开着时，预留在 CPU 那一维上占着同样多
（一行，没有作业），外面的看到的就是其余的。两边各占各的，谁也不看谁；窗口到了头，里面还在跑的就是平常的作业。
窗口还没有开的，那一维全占着，到开始才空出来；CPU 那一维到时要占的由 Future 记着。

里面用的比留的多（刚改小、FLEX）时，占着的跟着多；外面用的太多（IGNORE_JOBS）时，缺的从里面扣：哪一边都不会多给。
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.run_rows import RunRows
from scns_conductor.scheduling.shape import CPU, IntArray, Shape, cpus_of


class CoreHold(NamedTuple):
    """一个预留在一个节点（下标）上留的几个 CPU；open 是窗口此刻开着。"""

    reservation: AdvanceReservation
    node: int
    cpus: int
    open: bool


class ReservedCores(RunRows):
    """见模块的说明。"""

    def __init__(self) -> None:
        super().__init__()
        self._cores_at = 0.0
        # 有过按核留的：从此才看。
        self._by_cores = False
        # 节点 -> 预留 -> 留的，与它占着的行、行里占的。
        self._holds: dict[int, dict[str, CoreHold]] = {}
        self._hold_rows: dict[tuple[str, int], tuple[int, IntArray]] = {}
        # （预留，节点）-> 里面的作业占着几个 CPU；只有开着的窗口有。
        self._inside: Counter[tuple[str, int]] = Counter()

    @property
    def core_holds(self) -> Iterator[CoreHold]:
        """全部按核留的。"""
        return (hold for holds in self._holds.values() for hold in holds.values())

    def held_on(self, hold: CoreHold) -> int:
        """它此刻在 CPU 那一维上占着几个。"""
        return int(self._hold_rows[hold.reservation.name, hold.node][1][CPU])

    def set_reservations(self, reservations: Iterable[AdvanceReservation]) -> None:
        """全部没有结束的预留。"""
        super().set_reservations(reservations)
        self._arrange()

    def turn_reservations(self, now: float) -> None:
        """现在是 now（Unix 秒）：按核留的窗口开的开、关的关。"""
        self._cores_at = now
        self._arrange()

    def upsert_node(self, facts: NodeFacts) -> None:
        """登记或更新一个节点；已分配的不变。"""
        known = facts.name in self.index
        super().upsert_node(facts)
        if not known and any(facts.name in dict(each.cores) for each in self.reservations.values()):
            self._arrange(anew=True)
        self._settle(self.index[facts.name])

    def cpu_column_at(self, reservation: str | None, node: int) -> int:
        """用预留 reservation 的作业在 node 上的 CPU 从哪一维出。"""
        hold = self._holds.get(node, {}).get(reservation or "") if self._holds else None
        return CPU if hold is None or not hold.open else self.kinds[cpus_of(hold.reservation.name)]

    def within(self, shape: Shape, reservation: str | None, *, roams: bool) -> Shape:
        """shape 用预留 reservation 时的样子：按核留的，CPU 从它那一维出。"""
        found = self.reservations.get(reservation or "")
        by_cores = found is not None and bool(found.cores)
        return replace(shape, reservation=reservation, roams=roams, by_reserved_cores=by_cores)

    def _labelled(self, job: RunningJob) -> RunningJob:
        """它的份额里，哪些的 CPU 从预留的那一维出。"""
        if not self._by_cores:
            return job
        return replace(job, shares=tuple(self._label(share, job.reservation) for share in job.shares))

    def _label(self, share: NodeShare, reservation: str | None) -> NodeShare:
        inside = reservation if self.cpu_column_at(reservation, share.node) != CPU else None
        return share if share.reserved == inside else replace(share, reserved=inside)

    def _count_inside(self, job: RunningJob, sign: int) -> None:
        """一个作业来了（+1）、走了（-1）：它所在的预留占着的跟着变。"""
        if not self._holds:
            return
        for share in job.shares:
            if share.reserved is not None:
                self._inside[share.reserved, share.node] += sign * share.cpus
            self._settle(share.node)

    def _arrange(self, *, anew: bool = False) -> None:
        """照此刻的预留与窗口，重新留一遍；没有变的不动。"""
        wanted = {
            (each.name, self.index[name]): CoreHold(each, self.index[name], cpus, each.start <= self._cores_at)
            for each in self.reservations.values()
            for name, cpus in each.cores
            if name in self.index
        }
        known = {(hold.reservation.name, hold.node): hold for hold in self.core_holds}
        if wanted == known and not anew:
            return
        self._by_cores = True
        self.version += 1
        for row, _ in self._hold_rows.values():
            self._free_row(row)
        self._hold_rows.clear()
        for hold in known.values():
            self._resize(hold, 0)
        self._holds = {}
        for hold in wanted.values():
            self._holds.setdefault(hold.node, {})[hold.reservation.name] = hold
            self._resize(hold, hold.cpus)
        self._relabel()
        for node in self._holds:
            self._settle(node)

    def _resize(self, hold: CoreHold, cpus: int) -> None:
        """那一维一共有几个。"""
        column = self._kind(cpus_of(hold.reservation.name))
        self.free[hold.node, column] += cpus - self.total[hold.node, column]
        self.total[hold.node, column] = cpus

    def _relabel(self) -> None:
        raise NotImplementedError

    def _settle(self, node: int) -> None:
        """node 上各个预留占着的，照里外此刻用着的算。"""
        holds = self._holds.get(node)
        if not holds:
            return
        rows = self._hold_rows
        kept = sum(int(rows[name, node][1][CPU]) for name in holds if (name, node) in rows)
        outside = int(self.total[node, CPU] - self.free[node, CPU]) - kept
        wanted = {name: max(hold.cpus, self._inside[name, node]) if hold.open else 0 for name, hold in holds.items()}
        short = max(0, outside + sum(wanted.values()) - int(self.total[node, CPU]))
        for name, hold in holds.items():
            need: IntArray = np.zeros(self.width, dtype=np.int64)
            need[CPU] = wanted[name]
            need[self.kinds[cpus_of(name)]] = min(short, hold.cpus) if hold.open else hold.cpus
            known = rows.get((name, node))
            if (
                known is not None
                and np.array_equal(known[1], need[: len(known[1])])
                and not need[len(known[1]) :].any()
            ):
                continue
            if known is not None:
                self._free_row(known[0])
            end = hold.reservation.end if hold.open else hold.reservation.start
            rows[name, node] = (self._take_row(node, end, need), need)
