"""真的排在前面的：与一个作业争同样的节点或同一个池、次序又在它之前的。纯函数。"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.promise import contend, limited
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

# 至多说出几个。
MOST_NAMED = 20


@dataclass(slots=True)
class Ahead:
    """前面有 count 个；first 是头几个与它们的预计开始（Unix 秒）；others 是排在前面而不相争的有几个。"""

    count: int = 0
    first: list[tuple[int, float | None]] = field(default_factory=list)
    others: int = 0


def ahead_of(outlook: Outlook, queue: Queue, job: PendingJob) -> Ahead:
    """无论等多久都不能启动的、只等别的上限的、用不着同样的节点的，都不挡路，不算。"""
    expected = {item.job.job_id: item.start_time for item in outlook.plan.reservations}
    starting = {start.job.job_id for start in outlook.plan.starts if start.task_id is None}
    found = Ahead()
    heads: list[Iterator[PendingJob]] = []
    for key, group in queue.groups.items():
        before = [other for other in _before(group.live(), job) if other.job_id not in starting]
        if not before:
            continue
        if key in outlook.plan.impossible or not _competes(outlook, key[0], job.shape, outlook.plan.blocked.get(key)):
            found.others += len(before)
            continue
        found.count += len(before)
        heads.append(iter(before[:MOST_NAMED]))
    first = heapq.merge(*heads, key=lambda other: other.key)
    found.first = [(other.job_id, expected.get(other.job_id)) for other in islice(first, MOST_NAMED)]
    return found


def _before(jobs: Iterator[PendingJob], job: PendingJob) -> Iterator[PendingJob]:
    key = job.key
    for other in jobs:
        if other.key >= key:
            return
        yield other


def _competes(outlook: Outlook, other: Shape, own: Shape, reason: str | None) -> bool:
    """other 的作业会先拿走 own 要的东西；reason 是它受阻的原因。"""
    cluster = outlook.cluster
    shared = {name for name, _ in own.pools} & {name for name, _ in other.pools}
    if any(outlook.scarce(name) for name in shared):
        return True
    return not limited(cluster, other, reason) and contend(cluster, other, own)
