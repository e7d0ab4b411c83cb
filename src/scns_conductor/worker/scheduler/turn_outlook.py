"""停着的、轮流用 CPU 的、抢得到别人的作业：何时轮到，何时恢复，何时许抢。照记忆里的队列看，什么也不改。"""

import numpy as np

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, RunningJob
from scns_conductor.scheduling.explain import Taking, Turns, holder_of
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.preemption import exempted
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import CPU, BoolArray, Shape
from scns_conductor.scheduling.time_slices import load_of, sharers, shares
from scns_conductor.scheduling.turn_forecast import Schedule, forecast
from scns_conductor.worker.scheduler.memory import QueueMemory


def turns_for(memory: QueueMemory, policy: Policy, job: PendingJob, now: float) -> Turns | None:
    """在等的作业所在的分区轮流用 CPU：何时轮到它；不轮流、它合用的节点上没有轮流的作业是 None。"""
    cluster, shape = memory.cluster, job.shape
    if not shares(cluster, shape.partition, shape.oversubscribe):
        return None
    nodes = cluster.eligible(shape)
    return _turns(memory, policy, shape.partition, nodes, job.job_id, now, full=_full(cluster, shape, nodes))


def turns_of(memory: QueueMemory, policy: Policy, job: RunningJob, now: float) -> Turns | None:
    """占着节点的作业：停着的何时接着走，在走的何时让出来；没有谁在等着换是 None。"""
    if memory.turns.turn_at is None or not shares(memory.cluster, job.partition, job.oversubscribe):
        return None
    nodes: BoolArray = np.zeros(memory.cluster.count, dtype=np.bool_)
    nodes[[share.node for share in job.shares]] = True
    return _turns(memory, policy, job.partition, nodes, job.job_id, now, full=False)


def _turns(
    memory: QueueMemory, policy: Policy, partition: str, nodes: BoolArray, job_id: int, now: float, *, full: bool
) -> Turns | None:
    cluster = memory.cluster
    if not memory.takes_turns:
        return None
    mine = [job for job in sharers(cluster) if any(nodes[share.node] for share in job.shares)]
    if not mine:
        return None
    clock = memory.turns
    next_at = max(now, clock.turned_at + clock.slice_s)
    at = Schedule(now, next_at, clock.slice_s, clock.since)
    change = forecast(cluster, memory.queue, policy, memory.preempt_rules, at, job_id)
    return Turns(
        partition,
        clock.slice_s,
        next_at,
        cluster.partitions[partition].share_most,
        tuple(holder_of(cluster, job) for job in mine if not job.lent and not job.suspended),
        tuple(holder_of(cluster, job) for job in mine if job.lent),
        full,
        None if change is None else change.moment,
        change is not None and change.turn == 0,
        () if change is None else tuple(cluster.node_names(change.shares)),
    )


def _full(cluster: Cluster, shape: Shape, nodes: BoolArray) -> bool:
    """合用的节点上，每个 CPU 都已经分给了分区许的那么多个作业。"""
    load = load_of(cluster, sharers(cluster))
    most = cluster.partitions[shape.partition].share_most * cluster.total[: cluster.count, CPU]
    return not bool((nodes & (most - load >= shape.cpus_per_task)).any())


def resumes_at(cluster: Cluster, job: RunningJob, now: float) -> float | None:
    """借出去的 CPU 大约何时空出来（Unix 秒）：占着的都跑满时限；没有尽头是 None。"""
    moment, hold = now, cluster.running.get(-job.job_id)
    kept = {share.node: share.cpus for share in hold.shares} if hold is not None else {}
    for node, cpus in job.lent:
        left = int(cluster.free[node, CPU]) + kept.get(node, 0)
        rows = sorted(cluster.node_rows[node], key=lambda row: float(cluster.run_end[row]))
        for row in rows:
            if left >= cpus:
                break
            end = float(cluster.run_end[row])
            if end >= NEVER_ENDS:
                return None
            left, moment = left + int(cluster.run_need[row, CPU]), max(moment, end)
        if left < cpus:
            return None
    return moment


def taking_for(memory: QueueMemory, policy: Policy, job: PendingJob, now: float) -> Taking | None:
    """在等的作业会抢占谁：此刻，或等他们运行满豁免的时间之后；不开抢占、抢不到的是 None。"""
    rules, cluster = memory.preempt_rules, memory.cluster
    found = None if rules is None else exempted(cluster, job, now, policy, rules)
    if rules is None or found is None:
        return None
    waits = [rules.leaves_within_s(cluster, victim, memory.kill_wait_s) for victim in found[1]]
    return Taking(found[0], max(waits), tuple(holder_of(cluster, victim) for victim in found[1]))
