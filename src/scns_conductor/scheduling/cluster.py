"""集群的现状：节点的矩阵，加上运行中的作业与池。可变，由调度器随收件箱更新。"""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, RunningJob
from scns_conductor.scheduling.reserved_cores import ReservedCores
from scns_conductor.scheduling.shape import LICENSE, BoolArray, Shape

# 数据库的开始时刻与计划时的差这么点，不算改过预计结束。
END_TOLERANCE_S = 1.0
# 别人独占着的节点，至多看这么多个让出来的时刻。
MOST_OPENINGS = 16


class Cluster(ReservedCores):
    """节点、分区与运行中的作业。"""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[int, RunningJob] = {}
        # 池（许可证、上限）：此刻还剩多少，可为负；缺它时的原因码。
        self.pools: dict[str, int] = {}
        self.pool_reasons: dict[str, str] = {}
        self._pool_totals: dict[str, int] = {}
        # 占着各个池的作业 -> (预计结束, 数目)。
        self.pool_holders: dict[str, dict[int, tuple[float, int]]] = defaultdict(dict)
        # 各个作业的份额的行。
        self._run_rows: dict[int, list[int]] = {}
        # touched 里归还过的：归还的作业原定最晚何时结束，此后的空闲没有变。
        self.freed_until: dict[int, float] = {}
        # 运行中的作业的预计结束改过几次。
        self.moved_ends = 0
        # 有作业（运行的、排队的）要与别人隔开的那些主人；空的就什么也不看。
        self.scopes: set[str] = set()
        # 份额变过几次；此刻的形状 -> 能用的节点（版本同它）。
        self.shifts = 0
        self._open: dict[Shape, tuple[tuple[int, int], BoolArray]] = {}
        # 形状 -> 隔着的节点何时让出来（版本同它，连同改过几次预计结束）。
        self._openings: dict[Shape, tuple[tuple[int, int, int], list[tuple[float, BoolArray]]]] = {}

    def open_to(self, shape: Shape) -> BoolArray:
        """eligible 里没有隔着的节点：别人独占着的不行；自己要独占的，有别人在的也不行。"""
        eligible = self.eligible(shape)
        if not self.scopes:
            return eligible
        version, known = (self.version, self.shifts), self._open.get(shape)
        if known is not None and known[0] == version:
            return known[1]
        if len(self._open) > 10_000:
            self._open.clear()
        mask = eligible.copy()
        for job in self.barring(shape):
            mask[[share.node for share in job.shares]] = False
        self._open[shape] = (version, mask)
        return mask

    def barring(self, shape: Shape) -> list[RunningJob]:
        """隔着它的（keeps_off）。"""
        if not self.scopes:
            return []
        return [job for job in self.running.values() if keeps_off(job, shape)]

    def openings(self, shape: Shape) -> list[tuple[float, BoolArray]]:
        """别人独占着的节点何时让出来：(时刻, 到那时也能用的节点)，从早到晚；没有尽头的不算。"""
        if not self.scopes:
            return []
        version, known = (self.version, self.shifts, self.moved_ends), self._openings.get(shape)
        if known is not None and known[0] == version:
            return known[1]
        if len(self._openings) > 10_000:
            self._openings.clear()
        until: dict[int, float] = {}
        for job in self.barring(shape):
            for share in job.shares:
                until[share.node] = max(until.get(share.node, 0.0), job.expected_end)
        moments = sorted({end for end in until.values() if end < NEVER_ENDS})
        if len(moments) > MOST_OPENINGS:
            moments = [*moments[: MOST_OPENINGS - 1], moments[-1]]
        eligible, found = self.eligible(shape), []
        for moment in moments:
            mask = np.zeros(self.count, dtype=np.bool_)
            mask[[node for node, end in until.items() if end <= moment]] = True
            found.append((moment, mask & eligible))
        self._openings[shape] = (version, found)
        return found

    def usable(self, shape: Shape, now: float, duration_s: float) -> BoolArray:
        """open_to 里从现在起 duration_s 秒没有别人的预留的节点。"""
        return self._unreserved(self.open_to(shape), shape, now, duration_s)

    def usable_once_left(self, shape: Shape, now: float, duration_s: float) -> BoolArray:
        """usable，隔着它的作业（keeps_off）都走了之后的。"""
        return self._unreserved(self.eligible(shape), shape, now, duration_s)

    def _unreserved(self, mask: BoolArray, shape: Shape, now: float, duration_s: float) -> BoolArray:
        taken = self.reserved(shape.reservation, now, now + duration_s)
        return mask if taken is None else mask & ~taken

    def set_pool(self, name: str, total: int, reason: str) -> None:
        """登记一个池，或改它的总量；在用的不变，所以改小了剩下的可以是负的。reason 是缺它时的原因码。"""
        if name.startswith(LICENSE) and total != self._pool_totals.get(name, total):
            # 为受阻的作业保留着的许可证要重新算。
            self.version += 1
        self.pools[name] = self.pools.get(name, 0) + total - self._pool_totals.get(name, 0)
        self._pool_totals[name] = total
        self.pool_reasons[name] = reason

    def reserved_pool(self, name: str, own: str | None, start: float, end: float) -> int:
        """[start, end) 里 own 之外的预留占着一个池的几个；它们里面的作业已经用着的不算。"""
        return sum(
            self.reserved_left(reservation, name)
            for reservation in self.reservations.values()
            if reservation.name != own and reservation.overlaps(start, end)
        )

    def reserved_left(self, reservation: AdvanceReservation, name: str) -> int:
        """一个预留占着一个池的几个，里面的作业用着的不算。"""
        count = dict(reservation.licenses).get(name, 0)
        if count:
            count -= sum(
                amount
                for job_id, (_, amount) in self.pool_holders[name].items()
                if self.running[job_id].reservation == reservation.name
            )
        return max(0, count)

    def allocate(self, job: RunningJob) -> None:
        """记下一个运行中的作业；同号的先归还。份额没有变的只改别的。"""
        job = self._labelled(job)
        known = self.running.get(job.job_id)
        if known is not None and known.shares == job.shares and known.pools == job.pools:
            if abs(known.expected_end - job.expected_end) > END_TOLERANCE_S:
                self._move_end(job)
            else:
                job = replace(job, expected_end=known.expected_end)
            self.running[job.job_id] = job
            return
        if known is not None:
            self.release(job.job_id)
        self.shifts += 1
        self._run_rows[job.job_id] = [
            self._take_row(share.node, job.expected_end, self.share_vector(share)) for share in job.shares
        ]
        for name, amount in job.pools:
            self.pools[name] = self.pools.get(name, 0) - amount
            self.pool_holders[name][job.job_id] = (job.expected_end, amount)
        self.running[job.job_id] = job
        self._count_inside(job, 1)

    def release(self, job_id: int) -> RunningJob | None:
        """归还；不在运行则什么也不做。"""
        job = self.running.pop(job_id, None)
        if job is not None:
            self.shifts += 1
            for row in self._run_rows.pop(job_id):
                node = self._free_row(row)
                self.freed_until[node] = max(self.freed_until.get(node, 0.0), job.expected_end)
            for name, amount in job.pools:
                self.pools[name] = self.pools.get(name, 0) + amount
                self.pool_holders[name].pop(job_id, None)
            self._count_inside(job, -1)
        return job

    def _relabel(self) -> None:
        """窗口开了、关了：里面在跑的，CPU 换一维占。"""
        self._inside.clear()
        for job in self.running.values():
            for share in job.shares:
                if share.reserved is not None:
                    self._inside[share.reserved, share.node] += share.cpus
        for job in [job for job in self.running.values() if self._labelled(job).shares != job.shares]:
            self.allocate(job)

    def _move_end(self, job: RunningJob) -> None:
        """时限改了，或要提前结束。"""
        self.moved_ends += 1
        self._returns = None
        for row in self._run_rows[job.job_id]:
            self.run_end[row] = job.expected_end
        for name, amount in job.pools:
            self.pool_holders[name][job.job_id] = (job.expected_end, amount)


def keeps_off(job: RunningJob, shape: Shape) -> bool:
    """这个形状不许与 job 在一个节点上：一个独占着，另一个不是它的人。"""
    if job.exclusive_to is not None and job.exclusive_to not in shape.owners:
        return True
    return shape.exclusive_to is not None and shape.exclusive_to not in job.owners
