"""清洗过的工作负载：重放的输入。清洗与变换都是纯函数，做了什么都记在 notes 里。"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from scns_conductor.simulator.trace import Trace, TraceRecord, TraceUnreadable

# 从何时到何时。
Span = tuple[float, float]
# 线上不限时的：时限当作十年（秒）。
UNLIMITED_S = 10 * 365 * 86400


class TraceJob(NamedTuple):
    """一个可重放的作业。

    run_s 是真正运行的秒数（已在时限处截断，>= 1）；limit_s 是调度器看得到的估计（>= run_s）；
    recorded_wait_s 是踪迹里记录的等待，-1 表示未知；recorded_stopped_s 是记录里启动之后停过多久；
    nodes 为 0 表示处理器可以任意拆到几个节点上。
    """

    job_id: str
    submit_s: int
    run_s: int
    limit_s: int
    cpus: int
    user: str = "-1"
    account: str = "-1"
    nodes: int = 0
    memory_mb: int = 0
    gpus: int = 0
    recorded_wait_s: int = -1
    recorded_stopped_s: int = 0

    @property
    def within_s(self) -> float:
        """调度器以为它至多跑多久（秒）；不限时的是无穷。"""
        return math.inf if self.limit_s >= UNLIMITED_S else float(self.limit_s)


@dataclass(slots=True)
class Workload:
    """按提交时刻（同时刻按文件顺序）排好的作业，与清洗的账目（键是英文码，值是作业数）。"""

    jobs: list[TraceJob]
    notes: Counter[str] = field(default_factory=Counter)


def clean(trace: Trace, max_cpus: int) -> Workload:
    """按 Gaussier 等（SC'15）全日志 EASY 实验的规则清洗：

    处理器取申请数，没有则取分配数，超过机器的截到机器大小；运行时间 <= 0 的去掉；运行时间在时限处截断（被杀）；
    估计 = max(时限, 运行时间, 1)。此外：没有处理器数的、提交时刻为负的去掉；作业号重复的保留并另编号。
    一个作业都不剩时抛 TraceUnreadable。
    """
    notes: Counter[str] = Counter(trace.ignored)
    if trace.bad_line_count:
        notes["malformed_lines"] = trace.bad_line_count
    jobs: list[TraceJob] = []
    seen: Counter[str] = Counter()
    for record in trace.records:
        cpus = record.requested_cpus if record.requested_cpus > 0 else record.allocated_cpus
        if record.run_s <= 0:
            notes["dropped_no_run_time"] += 1
        elif cpus <= 0:
            notes["dropped_no_processors"] += 1
        elif record.submit_s < 0:
            notes["dropped_negative_submit"] += 1
        else:
            seen[record.job_id] += 1
            if seen[record.job_id] > 1:
                notes["renamed_duplicate_id"] += 1
            jobs.append(_job(record, cpus, max_cpus, seen[record.job_id], notes))
    if not jobs:
        raise TraceUnreadable(f"{trace.source} 清洗后没有剩下作业：{dict(notes)}")
    if any(later.submit_s < earlier.submit_s for earlier, later in pairwise(jobs)):
        notes["reordered_by_submit"] = 1
        jobs.sort(key=lambda job: job.submit_s)
    return Workload(jobs, notes)


def _job(record: TraceRecord, cpus: int, max_cpus: int, times_seen: int, notes: Counter[str]) -> TraceJob:
    run_s = record.run_s
    if 0 < record.requested_s < run_s:
        notes["killed_at_limit"] += 1
        run_s = record.requested_s
    if cpus > max_cpus:
        notes["capped_to_machine"] += 1
    return TraceJob(
        job_id=record.job_id if times_seen == 1 else f"{record.job_id}#{times_seen}",
        submit_s=record.submit_s,
        run_s=run_s,
        limit_s=max(record.requested_s, run_s, 1),
        cpus=min(cpus, max_cpus),
        user=record.user,
        account=record.account,
        nodes=max(0, record.nodes),
        memory_mb=max(0, record.memory_mb),
        gpus=max(0, record.gpus),
        recorded_wait_s=record.wait_s,
        recorded_stopped_s=record.stopped_s,
    )


def first_jobs(workload: Workload, count: int) -> Workload:
    """只留最先提交的 count 个作业。"""
    return Workload(workload.jobs[:count], workload.notes)


def cap_time_limit(workload: Workload, limit_s: int) -> Workload:
    """假如时限的上限是 limit_s：更长的申请截到它，还在运行的到点被杀。"""
    notes = Counter(workload.notes)
    jobs: list[TraceJob] = []
    for job in workload.jobs:
        if job.run_s > limit_s:
            notes["killed_at_capped_limit"] += 1
        jobs.append(job._replace(run_s=min(job.run_s, limit_s), limit_s=min(job.limit_s, limit_s)))
    return Workload(jobs, notes)


def scale_load(workload: Workload, factor: float, origin_s: int) -> Workload:
    """假如负载是 factor 倍：从 origin_s 起到达间隔除以 factor，运行时间不变（Parallel Workloads Archive 的惯例）。"""
    jobs = [job._replace(submit_s=origin_s + round((job.submit_s - origin_s) / factor)) for job in workload.jobs]
    return Workload(jobs, workload.notes)


def recorded_machine(records: Sequence[TraceRecord]) -> tuple[int, int]:
    """没有说机器多大时的下界 (CPU, GPU)：单个作业的最大需要，与记录里同时占用的峰值，取大者。"""
    changes: list[tuple[int, int, int]] = []
    cpus = gpus = 0
    for record in records:
        needed = max(record.requested_cpus, record.allocated_cpus, 0)
        cpus, gpus = max(cpus, needed), max(gpus, record.gpus)
        if record.wait_s >= 0 and record.run_s > 0:
            start_s = record.submit_s + record.wait_s
            changes += [(start_s, needed, record.gpus), (start_s + record.run_s, -needed, -record.gpus)]
    busy_cpus = busy_gpus = 0
    # 负数在前：同一时刻先归还再占用。
    for _, cpu_change, gpu_change in sorted(changes):
        busy_cpus, busy_gpus = busy_cpus + cpu_change, busy_gpus + gpu_change
        cpus, gpus = max(cpus, busy_cpus), max(gpus, busy_gpus)
    return cpus, gpus
