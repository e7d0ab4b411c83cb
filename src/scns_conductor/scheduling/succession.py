"""后继：节点上份额相同的作业一个接一个结束时，照计划的次序该轮到谁。纯计算，什么也不改。

计划之后排在最前的作业受着阻。某个作业结束，空出来的恰好是队首要的份额，从头计划的话启动的就是它，再空出来一份就是
它的下一个；所以单子是「能用这个节点的作业按次序排，从队首起连续的、要的份额都相同的一段」。有一个说不准就到它为止：
它后面的不能越过它（tests/unit/test_scheduling_succession.py 与计划器对照）。
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scns_conductor.scheduling.attempt import facts_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.feasibility import Kind
from scns_conductor.scheduling.queue import Group, OrderKey, PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, MEMORY, BoolArray

# 形状再多就不算：每个周期要走过各组的组首。
MOST_GROUPS = 256


@dataclass(frozen=True, slots=True)
class Succession:
    """share 是它们都要的 (CPU, 内存 MiB, 任务数)；jobs 是（作业，数组任务的序号或 None），按次序。"""

    share: tuple[int, int, int]
    jobs: tuple[tuple[PendingJob, int | None], ...]


Heads = list[tuple[OrderKey, int, Group, BoolArray]]


def heads_of(cluster: Cluster, queue: Queue) -> Heads:
    """各组的组首，按次序，连同各自能用的节点：一个周期算一次，各节点都用它。算不得接力的时候是空的。"""
    if cluster.reservations or len(queue.groups) > MOST_GROUPS:
        return []
    heads = [
        (group.keys[group.start], number, group, cluster.eligible(group.shape))
        for number, group in enumerate(queue.groups.values())
    ]
    # 序号各不相同，比不到后两项。
    return sorted(heads, key=lambda head: head[:2])


def succession(
    cluster: Cluster,
    heads: Heads,
    node: int,
    *,
    most: Callable[[tuple[int, int]], int],
    tasks_left: Callable[[PendingJob], int],
    barred: Callable[[PendingJob], bool],
) -> Succession | None:
    """node（下标）上的后继；没有是 None。heads 见 heads_of；队列里此刻放得下的都启动了才作数。

    most 由 (CPU, 内存) 给出至多几个；tasks_left 是数组还有几个任务没有启动；barred 的不能接力（有期限、有依赖……）。
    数组只取它自己的任务，最后一个留着：那时数组行要变成任务。
    """
    heap: list[tuple[OrderKey, int, int, Group]] = []
    found: list[tuple[PendingJob, int | None]] = []
    share: tuple[int, int, int] | None = None
    limit = taken = 0
    while True:
        # 组首排在手里的之前的，才轮得到它那一组：后面的组多半一个也不必看。
        while taken < len(heads) and (not heap or heads[taken][:2] < heap[0][:2]):
            key, number, group, eligible = heads[taken]
            if eligible[node]:
                heapq.heappush(heap, (key, number, group.start, group))
            taken += 1
        if not heap:
            break
        _, number, index, group = heap[0]
        job = group.jobs[index]
        assert job is not None
        wanted = _share(cluster, group)
        if wanted is None or (share is not None and wanted != share) or barred(job):
            break
        if share is None:
            share, limit = wanted, most((wanted[0], wanted[1]))
        if job.tasks is not None:
            count = min(limit, job.available, tasks_left(job) - 1)
            if not found and count > 0:
                found.extend((job, task_id) for task_id in job.task_ids(0, count))
            break
        if len(found) >= limit:
            break
        found.append((job, None))
        index += 1
        while index < len(group.jobs) and group.jobs[index] is None:
            index += 1
        if index < len(group.jobs):
            heapq.heapreplace(heap, (group.keys[index], number, index, group))
        else:
            heapq.heappop(heap)
    return Succession(share, tuple(found)) if share is not None and found else None


def _share(cluster: Cluster, group: Group) -> tuple[int, int, int] | None:
    """这一组要的份额；不是 CPU 与内存的固定的向量、要等池、能缩短时限、在预留里的是 None。"""
    need, kind = facts_of(cluster, group)
    shape = group.shape
    if (
        kind is not Kind.PLAIN
        or shape.pools
        or shape.time_minimum_s is not None
        or shape.reservation is not None
        or shape.switches is not None
    ):
        return None
    return int(need[CPU]), int(need[MEMORY]), shape.tasks


def slots(cluster: Cluster, node: int, share: tuple[int, int]) -> int:
    """node（下标）上此刻有几个恰好占着 share（CPU，内存 MiB）的份额。"""
    rows = list(cluster.node_rows[node])
    if not rows:
        return 0
    need = np.zeros(cluster.width, dtype=np.int64)
    need[CPU], need[MEMORY] = share
    return int((cluster.run_need[rows] == need).all(axis=1).sum())
