"""调度器的统计（sdiag）：每个周期只做几次加法，有人问时才算平均。

一个周期里排在受阻作业之后而启动了的算回填；时长的单位是微秒，时刻是 Unix 秒。
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scns_conductor.core.answers.scheduler import SchedulingFigures
from scns_conductor.scheduling.plan import PlannedStart, Reservation


@dataclass(slots=True)
class Figures:
    """一个量：最近一次、最大、总和、次数。"""

    last: int = 0
    most: int = 0
    total: int = 0
    count: int = 0

    def add(self, value: int) -> None:
        """记一次。"""
        self.last = value
        self.most = max(self.most, value)
        self.total += value
        self.count += 1

    @property
    def mean(self) -> int:
        """平均；没有记过是 0。"""
        return self.total // self.count if self.count else 0


@dataclass(slots=True)
class SchedulerStatistics:
    """自 since 起；reset 之后重新计，backfilled_ever 不归零（Slurm 的 since last slurm start）。"""

    since: float
    cycle: Figures = field(default_factory=Figures)
    depth: Figures = field(default_factory=Figures)
    queue: Figures = field(default_factory=Figures)
    backfill_cycle: Figures = field(default_factory=Figures)
    reserved: Figures = field(default_factory=Figures)
    backfill_queue: Figures = field(default_factory=Figures)
    backfill_at: float = 0.0
    started: int = 0
    backfilled: int = 0
    backfilled_ever: int = 0
    # 核对时修正了的作业：变化没有经收件箱告诉调度器。
    repaired: int = 0

    def reset(self, now: float) -> None:
        """从头计（sdiag -r）。"""
        ever = self.backfilled_ever
        self.__init__(now, backfilled_ever=ever)  # type: ignore[misc]

    def planned(
        self,
        starts: Sequence[PlannedStart],
        reservations: Sequence[Reservation],
        *,
        spent_s: float,
        queue_length: int,
        now: float,
    ) -> None:
        """记一次计划；starts 与 reservations 是它的决定。"""
        spent = int(spent_s * 1e6)
        self.cycle.add(spent)
        self.depth.add(len(starts) + len(reservations))
        self.queue.add(queue_length)
        self.started += len(starts)
        if not reservations:
            return
        self.reserved_for(reservations, spent_s=spent_s, queue_length=queue_length, now=now)
        first = min(reservation.job.key for reservation in reservations)
        found = sum(start.job.key > first for start in starts)
        self.backfilled += found
        self.backfilled_ever += found

    def reserved_for(
        self, reservations: Sequence[Reservation], *, spent_s: float, queue_length: int, now: float
    ) -> None:
        """记一次为受阻的作业算的保留。"""
        if reservations:
            self.backfill_cycle.add(int(spent_s * 1e6))
            self.reserved.add(len(reservations))
            self.backfill_queue.add(queue_length)
            self.backfill_at = now

    def report(self, now: float) -> SchedulingFigures:
        """slurmrestd 的 statistics 里调度的那些键。"""
        minutes = max((now - self.since) / 60, 1.0)
        return {
            "req_time": int(now),
            "req_time_start": int(self.since),
            "schedule_cycle_max": self.cycle.most,
            "schedule_cycle_last": self.cycle.last,
            "schedule_cycle_total": self.cycle.count,
            "schedule_cycle_mean": self.cycle.mean,
            "schedule_cycle_mean_depth": self.depth.mean,
            "schedule_cycle_per_minute": int(self.cycle.count / minutes),
            "schedule_queue_length": self.queue.last,
            "jobs_started": self.started,
            "jobs_repaired": self.repaired,
            "bf_backfilled_jobs": self.backfilled_ever,
            "bf_last_backfilled_jobs": self.backfilled,
            "bf_backfilled_het_jobs": 0,
            "bf_cycle_counter": self.backfill_cycle.count,
            "bf_cycle_mean": self.backfill_cycle.mean,
            "bf_depth_mean": self.reserved.mean,
            "bf_depth_mean_try": self.reserved.mean,
            "bf_cycle_last": self.backfill_cycle.last,
            "bf_cycle_max": self.backfill_cycle.most,
            "bf_last_depth": self.reserved.last,
            "bf_last_depth_try": self.reserved.last,
            "bf_queue_len": self.backfill_queue.last,
            "bf_queue_len_mean": self.backfill_queue.mean,
            "bf_table_size": self.reserved.last,
            "bf_table_size_mean": self.reserved.mean,
            "bf_when_last_cycle": int(self.backfill_at),
            "bf_active": False,
        }
