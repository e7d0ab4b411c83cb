"""重放：虚拟时钟推动事件，每个事件之后让线上的调度核心计划一次。这里没有第二套调度。

规则（Gaussier 等，SC'15 的全日志实验）：每个事件一次；同一时刻先到达再结束；
到达只在那个作业此刻放得下时才需要计划（别的作业的处境没有变好）。
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scns_conductor.scheduling.cluster import Cluster, NodeFacts, RunningJob
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape
from scns_conductor.simulator.machine import Machine
from scns_conductor.simulator.policy_choice import PolicyChoice
from scns_conductor.simulator.workload import TraceJob

Advance = Callable[[int], None]
# conservative 为每个受阻的作业保留。
ALL_BLOCKED = 1_000_000
# 多因子的缺省：等待（七天到顶）与大小各一半，见 slurm.conf 的 PriorityWeightAge、PriorityWeightJobSize。
MAX_AGE_S = 7 * 86400
# 同一时刻的事件：先到达，再结束。
_ARRIVAL, _END = 0, 1


@dataclass(slots=True)
class Replay:
    """结果：starts 与作业一一对应，没有启动的是 None，原因在 never_started（作业号 -> 原因码）。"""

    starts: list[float | None]
    never_started: dict[str, str] = field(default_factory=dict)
    passes: int = 0


def build_cluster(machine: Machine) -> Cluster:
    """模拟的机器 -> 调度核心的集群。"""
    cluster = Cluster()
    number = 0
    for group in machine.groups:
        for _ in range(group.count):
            number += 1
            gres = {"gpu": group.gpus} if group.gpus else {}
            cluster.upsert_node(NodeFacts(f"n{number}", group.cpus, group.memory_mb, gres))
    return cluster


def policy_of(choice: PolicyChoice) -> Policy:
    """命令行的选择 -> 核心的策略；easy 是教科书的：只为队首保留。"""
    backfill = Backfill(choice.backfill)
    return Policy(backfill, ALL_BLOCKED if backfill is Backfill.CONSERVATIVE else 1)


def shape_of(job: TraceJob, cluster: Cluster) -> Shape:
    """SWF 的作业要的是处理器：机器是一个池时是一个任务的多个 CPU，否则每个 CPU 一个任务，可拆到几个节点。"""
    gres = (("gpu", job.gpus),) if job.gpus else ()
    if cluster.count == 1:
        return Shape(cpus_per_task=job.cpus, maximum_nodes=1, memory_per_node=job.memory_mb or None, gres_per_node=gres)
    nodes = max(1, min(job.nodes, job.cpus))
    return Shape(
        tasks=job.cpus,
        minimum_nodes=nodes,
        maximum_nodes=job.nodes or None,
        memory_per_cpu=-(-job.memory_mb // job.cpus) if job.memory_mb else None,
        gres_per_node=(("gpu", -(-job.gpus // nodes)),) if job.gpus else (),
    )


def score(order: str, job: TraceJob, now: float, cpus: int) -> float:
    """次序的分数，大者先排；fifo 不看分数。w 是真正的等待（RLScheduler 的表用的不是，见 rlscheduler）。"""
    wait = max(0.0, now - job.submit_s)
    match order:
        case "sjf":
            return -job.limit_s
        case "wfp3":
            return (wait / job.limit_s) ** 3 * job.cpus
        case "unicep":
            return wait / (math.log2(max(2, job.cpus)) * job.limit_s)
        case "f1":
            return -(math.log10(job.limit_s) * job.cpus + 870 * math.log10(max(1, job.submit_s)))
        case "multifactor":
            return 0.5 * min(1.0, wait / MAX_AGE_S) + 0.5 * job.cpus / cpus
        case _:
            return 0.0


_CHANGES_WITH_TIME = frozenset({"wfp3", "unicep", "multifactor"})


def replay(jobs: Sequence[TraceJob], machine: Machine, choice: PolicyChoice, progress: Advance | None = None) -> Replay:
    """重放一遍；progress 收到新完成的事件数（共 2 × 作业数）。"""
    cluster, queue, policy = build_cluster(machine), Queue(), policy_of(choice)
    result = Replay([None] * len(jobs))
    cpus = machine.cpus
    events: list[tuple[float, int, int]] = [(float(job.submit_s), _ARRIVAL, index) for index, job in enumerate(jobs)]
    heapq.heapify(events)
    while events:
        now, kind, index = heapq.heappop(events)
        if kind == _ARRIVAL:
            job = jobs[index]
            shape = shape_of(job, cluster)
            if impossible(cluster, shape) is not None:
                result.never_started[job.job_id] = "Resources"
                _tell(progress, 2)
                continue
            queue.upsert(
                PendingJob(
                    index,
                    shape,
                    float(job.limit_s),
                    priority=score(choice.order, job, now, cpus),
                    order=index,
                )
            )
            needed = place(cluster, shape, cluster.free[: cluster.count], policy.placement) is not None
        else:
            cluster.release(index)
            needed = len(queue) > 0
        _tell(progress, 1)
        if not needed:
            continue
        if choice.order in _CHANGES_WITH_TIME:
            for waiting in queue.jobs.values():
                waiting.priority = score(choice.order, jobs[waiting.job_id], now, cpus)
            queue.reorder()
        decided = plan(cluster, queue, now, policy)
        result.passes += 1
        for start in decided.starts:
            number = start.job.job_id
            queue.remove(number)
            cluster.allocate(RunningJob(number, now + jobs[number].limit_s, start.shares))
            result.starts[number] = now
            heapq.heappush(events, (now + jobs[number].run_s, _END, number))
    for waiting in queue.jobs.values():
        result.never_started[jobs[waiting.job_id].job_id] = "Resources"
    return result


def _tell(progress: Advance | None, count: int) -> None:
    if progress is not None:
        progress(count)
