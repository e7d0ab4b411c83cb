"""重放线上系统时的预留：每个时刻有哪些，谁进得去，何时又要再看。

定下、改过、删掉的时刻不知道：现有的当作一直有，重复的从第一次起；已经删掉的没有。
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from scns_conductor.core.reservation_flags import FLOAT
from scns_conductor.core.unix_groups import group_members
from scns_conductor.scheduling.advance import Admission, AdvanceReservation, Refusal, admission, boundaries
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import PartitionFacts
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.reservation_rows import advance_reservation
from scns_conductor.simulator.live import LiveSystem
from scns_conductor.simulator.live_clock import EVERYONE, Clock, Kind
from scns_conductor.simulator.workload import TraceJob

# 浮动的预留隔这么久（秒）挪一次，线上也是。
_FLOAT_S = 60


class ReservedTimes:
    """每个时刻有哪些预留。时刻是 Unix 秒。"""

    def __init__(self, rows: Sequence[Mapping[str, Any]], partitions: Iterable[PartitionFacts]) -> None:
        self._rows = [(row, frozenset(row["users"]) | group_members(row["groups"])) for row in rows]
        self._partitions = {each.name: each for each in partitions}
        self._floats = any(flag.startswith(FLOAT) for row in rows for flag in row["flags"])
        self.names = frozenset(row["name"] for row in rows)

    def at(self, now: float) -> tuple[list[AdvanceReservation], float]:
        """没有结束的各个，与下一个要再看的时刻（没有是无穷）。"""
        moment = datetime.fromtimestamp(now, UTC)
        rows = (advance_reservation(row, users, self._partitions, moment) for row, users in self._rows)
        found = [each for each in rows if each is not None]
        following = next(iter(boundaries(found, now)), math.inf)
        return found, min(following, (now // _FLOAT_S + 1) * _FLOAT_S) if self._floats else following


class Admissions:
    """排队的作业此刻用得上哪个预留。"""

    def __init__(
        self,
        system: LiveSystem,
        jobs: Mapping[int, TraceJob],
        rows: Mapping[int, Mapping[str, Any]],
        cluster: Cluster,
        queue: Queue,
        clock: Clock,
        began: float,
    ) -> None:
        self._jobs, self._rows, self._cluster, self._queue, self._clock = jobs, rows, cluster, queue, clock
        self._reserved = ReservedTimes(system.reservations, cluster.partitions.values())
        # 下一次要再看的时刻。
        self._turn_s = math.inf
        if system.reservations:
            self._turn_s = began
            clock.push(began, Kind.LOOK, EVERYONE)

    def named(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """作业指名的预留里还有的；已经删掉的当作没有写。"""
        asked = row.get("requested_reservation")
        return self._known(row.get("reservation") if asked is None else asked)

    def used(self, row: Mapping[str, Any]) -> str | None:
        """在跑的作业在哪个预留里。"""
        return next(iter(self._known(row.get("reservation"))), None)

    def _known(self, text: str | None) -> tuple[str, ...]:
        return tuple(name for name in (text or "").split(",") if name in self._reserved.names)

    def turn(self, now: float) -> bool:
        """到了有预留开始、结束的时刻：换成此刻的，排队的都再看一遍。没有到返回假。"""
        if now < self._turn_s:
            return False
        found, self._turn_s = self._reserved.at(now)
        self._cluster.reservations_turned()
        self._cluster.set_reservations(found)
        self._cluster.turn_reservations(now)
        if self._turn_s < math.inf:
            self._clock.push(self._turn_s, Kind.LOOK, EVERYONE)
        for waiting in list(self._queue.jobs.values()):
            self.admit(waiting, now)
        return True

    def admit(self, pending: PendingJob, now: float) -> None:
        """排队的一个此刻用得上哪个预留；指名的都进不去就等着。"""
        number = pending.job_id
        job = self._jobs[number]
        row = self._rows[number]
        asked = self.named(row)
        if not asked and not self._cluster.reservations and pending.shape.reservation is None:
            return
        found = admission(self._cluster.reservations, asked, job.user, row.get("account"), job.within_s, now)
        if isinstance(found, Refusal):
            self._queue.judge(pending, "Reservation", found.message)
            return
        name, roams = (found.name, found.roams) if isinstance(found, Admission) else (None, False)
        shape = self._cluster.within(pending.shape, name, roams=roams)
        if shape != pending.shape:
            # 换一个作业对象：计划器记着的是原来的那个。
            pending = replace(pending, shape=shape)
            self._queue.upsert(pending)
        self._queue.judge(pending, None)
        if isinstance(found, Admission) and found.expires_at is not None and found.expires_at >= now:
            self._clock.push(found.expires_at + 0.001, Kind.LOOK, number)
