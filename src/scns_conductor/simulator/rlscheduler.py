"""RLScheduler 论文（Zhang 等，SC'20，arXiv 1910.08925）表 V、VI 里启发式各列的复现。

这不是调度器，也不用 `scheduling/`：它照着论文作者的评测循环来，怪癖一个不改，为的是证明
我们对踪迹和指标的读法与人一致。怪癖有：

1. 选中的作业放不下时，逐个事件往前走直到放得下，其间不重新排序；队列不空时不先收下已到点的事件；
2. WFP3、UNICEP 的“已等时间”用的是排队中恒为 -1 的 scheduled_time，即 w = -1 - submit，所以与等待无关；
3. “回填”只在队首受阻时算一次影子时刻，此后每个事件按先来后到试：now + 申请 < 影子（严格小于）且放得下就启动，
   没有“多余处理器”规则；
4. 运行时间不在时限处截断；利用率的分母只到最后一次启动。
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha512
from heapq import heappop, heappush

import numpy as np

from scns_conductor.simulator.swf import header_number
from scns_conductor.simulator.trace import Trace, TraceRecord, TraceUnreadable

SEQUENCE_LENGTH = 1024
SEQUENCE_COUNT = 10
# 论文只用每份踪迹的前一万个作业（Lublin 的踪迹恰好就这么长）。
BATCH_JOB_SLICE = 10_000
# 起点在 [段长, 作业数 - 段长 - 1) 里抽：至少要有一个可抽。
MINIMUM_JOBS = 2 * SEQUENCE_LENGTH + 2
SLOWDOWN_THRESHOLD_S = 10


@dataclass(slots=True)
class QuirkyJob:
    """论文代码眼中的作业：nodes 个节点，requested_s 是申请的秒数，start_s 在启动前为 -1。"""

    submit_s: int
    run_s: int
    requested_s: int
    processors: int
    nodes: int
    start_s: int = -1


Score = Callable[[QuirkyJob], object]


@dataclass(frozen=True, slots=True)
class QuirkyResult:
    """一格：10 段的平均有界慢化与平均“利用率”。"""

    avg_bounded_slowdown: float
    utilization: float


def _fcfs(job: QuirkyJob) -> int:
    return job.submit_s


def _sjf(job: QuirkyJob) -> tuple[int, int]:
    return job.requested_s, job.submit_s


def _wfp3(job: QuirkyJob) -> float:
    waited_s = float(-1 - job.submit_s)
    return float(-np.power(waited_s / job.requested_s, 3) * job.processors)


def _unicep(job: QuirkyJob) -> float:
    waited_s = -1 - job.submit_s
    return float(-(waited_s + 1e-15) / (np.log2(job.processors + 1e-15) * job.requested_s))


def _f1(job: QuirkyJob) -> float:
    requested_s = job.requested_s if job.requested_s > 0 else 0.1
    submit_s = job.submit_s if job.submit_s > 0 else 0.1
    return float(np.log10(requested_s) * job.processors + 870 * np.log10(submit_s))


HEURISTICS: dict[str, Score] = {"FCFS": _fcfs, "WFP3": _wfp3, "UNICEP": _unicep, "SJF": _sjf, "F1": _f1}


def sequence_starts(job_count: int, seed: int = 1) -> list[int]:
    """10 段的起点（下标从 0 起）：与论文所用 gym 的种子算法一致。"""
    digest = sha512(str(seed).encode()).digest()[:8]
    words = [int.from_bytes(digest[at : at + 4], "little") for at in (0, 4)]
    generator = np.random.RandomState(words)
    upper = min(job_count, BATCH_JOB_SLICE) - SEQUENCE_LENGTH - 1
    return [int(generator.randint(SEQUENCE_LENGTH, upper)) for _ in range(SEQUENCE_COUNT)]


def quirky_jobs(records: Sequence[TraceRecord], processors_per_node: float) -> list[QuirkyJob]:
    """论文的清洗：处理器取分配与申请之大者；运行时间为负的当 10 秒，为零的去掉；按作业号排序。"""
    jobs: list[tuple[int, QuirkyJob]] = []
    for record in records:
        run_s = 10 if record.run_s < 0 else record.run_s
        if run_s == 0:
            continue
        processors = max(record.allocated_cpus, record.requested_cpus)
        # 申请时间未知时取的是改写之前的运行时间（论文代码先取后改）。
        requested_s = record.run_s if record.requested_s == -1 else record.requested_s
        nodes = math.ceil(processors / processors_per_node)
        jobs.append((int(record.job_id), QuirkyJob(record.submit_s, run_s, requested_s, processors, nodes)))
    jobs.sort(key=lambda pair: pair[0])
    return [job for _, job in jobs]


class QuirkyReplay:
    """论文的评测循环，跑一段作业。"""

    def __init__(self, sequence: Sequence[QuirkyJob], max_nodes: int, score: Score, *, backfill: bool) -> None:
        self._arrivals = sequence
        self._scores = {id(job): score(job) for job in sequence}
        self._free_nodes = max_nodes
        self._backfill = backfill
        self._queue = [sequence[0]]
        self._next = 1
        self._now_s = sequence[0].submit_s
        # (结束时刻, 启动次序, 作业)：次序代替论文代码里列表排序的稳定性。
        self._running: list[tuple[int, int, QuirkyJob]] = []
        self._started = 0
        for job in sequence:
            job.start_s = -1

    def run(self) -> int:
        """跑完，返回最后一次启动的时刻（秒）；各作业的 start_s 就位。"""
        while True:
            self._queue.sort(key=lambda job: self._scores[id(job)])  # type: ignore[arg-type,return-value]
            chosen = self._queue[0]
            shadow_s = self._shadow(chosen) if self._backfill else None
            while chosen.nodes > self._free_nodes:
                if shadow_s is not None:
                    self._fill_before(shadow_s)
                self._step()
            self._start(chosen)
            while not self._queue:
                if self._next >= len(self._arrivals):
                    return self._now_s
                self._step()

    def _start(self, job: QuirkyJob) -> None:
        job.start_s = self._now_s
        self._free_nodes -= job.nodes
        heappush(self._running, (self._now_s + job.run_s, self._started, job))
        self._started += 1
        self._queue.remove(job)

    def _step(self) -> None:
        """往前走一个事件：到达（不晚于下一个结束时优先）或结束。"""
        if self._next < len(self._arrivals) and (
            not self._running or self._arrivals[self._next].submit_s <= self._running[0][0]
        ):
            arrived = self._arrivals[self._next]
            self._next += 1
            self._queue.append(arrived)
            self._now_s = max(self._now_s, arrived.submit_s)
        else:
            end_s, _, ended = heappop(self._running)
            self._free_nodes += ended.nodes
            self._now_s = max(self._now_s, end_s)

    def _shadow(self, head: QuirkyJob) -> int:
        """队首受阻时的影子时刻：按估计的结束时刻依次归还，直到够它用。"""
        free, shadow_s = self._free_nodes, self._now_s
        for job in sorted((entry[2] for entry in self._running), key=lambda job: job.start_s + job.requested_s):
            free += job.nodes
            shadow_s = job.start_s + job.requested_s
            if free >= head.nodes:
                break
        return shadow_s

    def _fill_before(self, shadow_s: int) -> None:
        self._queue.sort(key=_fcfs)
        for job in list(self._queue):
            if self._now_s + job.requested_s < shadow_s and job.nodes <= self._free_nodes:
                self._start(job)


def reproduce(trace: Trace, *, backfill: bool) -> dict[str, QuirkyResult]:
    """一份踪迹的一行：启发式 -> 结果。作业不够、文件头没有机器大小时抛 TraceUnreadable。"""
    max_procs = trace.max_procs
    max_nodes = header_number(trace, "MaxNodes") or max_procs
    if not max_procs:
        raise TraceUnreadable(f"{trace.source} 的文件头没有 MaxNodes 或 MaxProcs：RLScheduler 的循环要知道机器多大")
    jobs = quirky_jobs(trace.records, max_procs / max_nodes)
    if len(jobs) < MINIMUM_JOBS:
        raise TraceUnreadable(
            f"{trace.source} 只有 {len(jobs)} 个可用的作业；RLScheduler 的抽样至少要 {MINIMUM_JOBS} 个"
        )
    starts = sequence_starts(len(jobs))
    results: dict[str, QuirkyResult] = {}
    for name, score in HEURISTICS.items():
        slowdowns, utilizations = [], []
        for first in starts:
            sequence = jobs[first : first + SEQUENCE_LENGTH]
            last_start_s = QuirkyReplay(sequence, max_nodes, score, backfill=backfill).run()
            slowdowns.append(math.fsum(_bounded_slowdown(job) for job in sequence) / len(sequence))
            work = sum(job.run_s * job.processors for job in sequence)
            utilizations.append(work / ((last_start_s - sequence[0].submit_s) * max_procs))
        results[name] = QuirkyResult(math.fsum(slowdowns) / len(slowdowns), math.fsum(utilizations) / len(utilizations))
    return results


def _bounded_slowdown(job: QuirkyJob) -> float:
    flow_s = job.start_s - job.submit_s + job.run_s
    return max(1.0, flow_s / max(job.run_s, SLOWDOWN_THRESHOLD_S))
