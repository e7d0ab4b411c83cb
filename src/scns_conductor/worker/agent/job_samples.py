"""把各作业的用量随时间怎样变化记下来，成批写进数据库：越跑越久的作业，格子越宽，写得越少。"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy.engine import Engine

from scns_conductor.statements.job_samples import SAMPLES_ON_NODE, SAMPLING_ASKED, SUM_UP_GPUS, WRITE_SAMPLES
from scns_conductor.worker.agent.launch_orders import FREQUENCY_VARIABLE, PROFILE_VARIABLE, sample_interval_s
from scns_conductor.worker.agent.usage_series import UNKNOWN, UsageSeries
from scns_conductor.worker.wire.shepherd_messages import JobSample

# 刚开始的作业隔几次采样写一次，不是每次。
SAMPLES_PER_WRITE = 3
# 说了多久采一次而一直没有起来的，至多记着这么久（秒）。
ASKED_KEPT_S = 3600.0
# 认领之后这么久（秒）还没有见到它跑的，不为它采得更勤：一闪而过的、还在 prolog 里的。
STARTING_S = 15.0
_Owner = tuple[int, int]


class _Kept:
    """一个作业的：interval_s 是多久采一次（0 不采），started_boot_s 是开始的时刻，written_s 是写到了开始之后多久。"""

    __slots__ = ("interval_s", "series", "started_boot_s", "written_s")

    def __init__(self, series: UsageSeries, started_boot_s: float, interval_s: float) -> None:
        self.interval_s = interval_s
        self.series = series
        self.started_boot_s = started_boot_s
        self.written_s = series.elapsed_s


class JobSamples:
    """interval_s 为 0 时只记自己要的作业（--acctg-freq、--profile）。boot_time 是数据库时钟下的开机时刻；

    gpu 问一个作业的卡（忙着几块，显存 MiB，能耗计数 J）。"""

    def __init__(
        self,
        engine: Engine,
        node: str,
        interval_s: float,
        *,
        boot_time: Callable[[], float],
        gpu: Callable[[_Owner], tuple[float, int, float | None] | None],
    ) -> None:
        self._engine = engine
        self._node = node
        self._interval_s = interval_s
        self._boot_time = boot_time
        self._gpu = gpu
        self._kept: dict[_Owner, _Kept] = {}
        # 作业自己说的：多久采一次，何时（单调秒）说的。
        self._asked: dict[_Owner, tuple[float, float]] = {}
        # 头一次采样时已经在跑的，说了什么要问数据库。
        self._restarted = True

    def ask(self, owner: _Owner, environment: Mapping[str, str]) -> None:
        """要启动的作业的环境里说了多久采一次。"""
        self._note(owner, environment.get(FREQUENCY_VARIABLE), environment.get(PROFILE_VARIABLE))

    def every_s(self) -> float:
        """多久采一次才够：节点的与正在跑、就要跑的作业要的里最短的（秒）；谁也不要是 0。"""
        soon = time.monotonic() - STARTING_S
        asked = (every for owner, (every, at) in self._asked.items() if owner in self._kept or at > soon)
        return min((each for each in (self._interval_s, *asked) if each), default=0.0)

    def _note(self, owner: _Owner, frequency: str | None, profile: str | None) -> None:
        interval_s = sample_interval_s(frequency, profile, self._interval_s)
        if interval_s is not None:
            self._asked[owner] = interval_s, time.monotonic()

    def record(self, jobs: Sequence[JobSample], *, write_all: bool = False) -> None:
        """记下这次采样，写下该写的（write_all：全部，有人在看）。数据库不在时抛 DATABASE_ERRORS，下次补写。"""
        if self._restarted and jobs:
            self._recall(jobs)
        self._restarted = False
        if not self._interval_s and not self._asked:
            return
        now_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._take_up(jobs, now_boot_s)
        running = set()
        for job in jobs:
            owner = (job.job_id, job.attempt)
            running.add(owner)
            kept = self._kept.get(owner)
            elapsed_s = now_boot_s - kept.started_boot_s if kept is not None else 0.0
            # 头一格满了才开始记：短作业什么也不留下。
            if kept is not None and kept.interval_s and elapsed_s >= kept.interval_s:
                memory_mb = -(-job.usage.max_rss_kb // 1024)
                kept.series.add(elapsed_s, job.usage.user_s + job.usage.system_s, memory_mb, self._gpu(owner))
        ended = self._kept.keys() - running
        self._write(owner for owner in self._kept if self._is_due(owner, owner in ended or write_all))
        for owner in ended:
            del self._kept[owner]
        now = time.monotonic()
        gone = [owner for owner, (_, at) in self._asked.items() if owner not in running and now - at > ASKED_KEPT_S]
        for owner in [*ended, *gone]:
            self._asked.pop(owner, None)

    def _recall(self, jobs: Sequence[JobSample]) -> None:
        with self._engine.begin() as connection:
            rows = connection.execute(SAMPLING_ASKED, {"job_id": [job.job_id for job in jobs]}).all()
        for job_id, attempt, frequency, profile in rows:
            self._note((job_id, attempt), frequency, profile)

    def _take_up(self, jobs: Sequence[JobSample], now_boot_s: float) -> None:
        """新见到的作业；跑了一阵的（代理重新启动过）接着写下的记。"""
        fresh = {(job.job_id, job.attempt): job for job in jobs if (job.job_id, job.attempt) not in self._kept}
        starts = {
            owner: now_boot_s if job.started_boot_s is None else job.started_boot_s for owner, job in fresh.items()
        }
        every = {owner: self._asked[owner][0] if owner in self._asked else self._interval_s for owner in fresh}
        old = [owner for owner, started in starts.items() if now_boot_s - started > 2 * every[owner] > 0]
        found: dict[_Owner, UsageSeries] = {}
        if old:
            values = {
                "node": self._node,
                "job_id": [job_id for job_id, _ in old],
                "attempt": [attempt for _, attempt in old],
            }
            with self._engine.begin() as connection:
                rows = connection.execute(SAMPLES_ON_NODE, values).all()
            found = {(row.job_id, row.restart_count): UsageSeries.restored(*row[2:]) for row in rows}
        for owner, started in starts.items():
            self._kept[owner] = _Kept(found.get(owner) or UsageSeries(every[owner]), started, every[owner])

    def _is_due(self, owner: _Owner, now: bool) -> bool:
        kept = self._kept[owner]
        unwritten_s = kept.series.elapsed_s - kept.written_s
        return unwritten_s > 0 and (
            now or unwritten_s >= max(kept.series.width_s, SAMPLES_PER_WRITE * kept.interval_s) - kept.interval_s / 2
        )

    def _write(self, owners: Iterable[_Owner]) -> None:
        chosen = {owner: self._kept[owner] for owner in owners}
        if not chosen:
            return
        boot_time = self._boot_time()
        series = [kept.series for kept in chosen.values()]
        with self._engine.begin() as connection:
            connection.execute(
                WRITE_SAMPLES,
                {
                    "node": self._node,
                    "job_id": [job_id for job_id, _ in chosen],
                    "attempt": [attempt for _, attempt in chosen],
                    "since": [boot_time + kept.started_boot_s for kept in chosen.values()],
                    "width_s": [each.width_s for each in series],
                    "elapsed_s": [each.elapsed_s for each in series],
                    "cpu_s": [_seconds(each.cpu_s) for each in series],
                    "memory_mb": [_peaks(each.memory_mb) for each in series],
                    "gpu_s": [None if each.gpu_s is None else _seconds(each.gpu_s) for each in series],
                    "gpu_memory_mb": [
                        None if each.gpu_memory_mb is None else _peaks(each.gpu_memory_mb) for each in series
                    ],
                    "gpu_energy_j": [each.gpu_energy_j for each in series],
                },
            )
            with_gpus = [owner for owner, kept in chosen.items() if kept.series.gpu_s is not None]
            if with_gpus:
                values = {"job_id": [job for job, _ in with_gpus], "attempt": [attempt for _, attempt in with_gpus]}
                connection.execute(SUM_UP_GPUS, values)
        for kept in chosen.values():
            kept.written_s = kept.series.elapsed_s


def _seconds(values: Iterable[float]) -> str:
    return "{" + ",".join(f"{value:.6g}" for value in values) + "}"


def _peaks(values: Iterable[int]) -> str:
    return "{" + ",".join("NULL" if value == UNKNOWN else str(value) for value in values) + "}"
