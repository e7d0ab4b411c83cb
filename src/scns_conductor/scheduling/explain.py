"""解释：一个作业为什么还没有启动——缺什么、缺多少、在哪里，谁在前面，谁占着，预计何时。纯函数，都由真的计划得出。"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from scns_conductor.core.units import format_memory_mb
from scns_conductor.scheduling.cluster import NEVER_ENDS, Cluster, NodeShare
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.placement import unavailable_nodes
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, LICENSE, MEMORY, BoolArray, IntArray, Shape
from scns_conductor.scheduling.suggestions import Suggestion

# 试排的作业暂用的号：真的作业号不会这么大。
TRIAL_JOB_ID = 2**62
# 说出几个：前面的作业、占着的作业。
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """占着所缺的东西的运行中的作业；end 是预计结束（Unix 秒），不限时是 None；amount 是占着的数目（池）。"""

    job_id: int
    end: float | None
    nodes: tuple[str, ...] = ()
    amount: int = 0


@dataclass(frozen=True, slots=True)
class PoolShortage:
    """一个不够的池（许可证或上限）：原因码、名字、要多少、还剩多少、总共多少。"""

    reason: str
    name: str
    need: int
    left: int
    total: int
    holders: tuple[Holder, ...] = ()


@dataclass(slots=True)
class Explanation:
    """为什么。message 是资格的原因（保留、依赖……），有它就没有后面的。"""

    reason: str
    message: str | None = None
    fits_now: bool = False
    shortages: list[str] = field(default_factory=list)
    pools: list[PoolShortage] = field(default_factory=list)
    # 作业的时限之内碰到的预留：(名字, 开始, 结束)，Unix 秒。
    reserved: list[tuple[str, float, float]] = field(default_factory=list)
    ahead: list[tuple[int, float | None]] = field(default_factory=list)
    ahead_count: int = 0
    holders: list[Holder] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    expected_start: float | None = None
    expected_end: float | None = None
    incomplete: bool = False
    suggestions: list[Suggestion] = field(default_factory=list)

    @property
    def job_ids(self) -> set[int]:
        """提到的作业。"""
        found = {holder.job_id for holder in self.holders} | {job_id for job_id, _ in self.ahead}
        return found | {holder.job_id for pool in self.pools for holder in pool.holders}


def explain(outlook: Outlook, queue: Queue, job: PendingJob) -> Explanation:
    """为什么还在等；outlook 是排在它前面的都计划好之后的前景。建议另外由 suggestions 给出。"""
    cluster = outlook.cluster
    if job.reason is not None:
        return Explanation(job.reason, job.message or f"原因是 {job.reason}")
    verdict = impossible(cluster, job.shape)
    if verdict is not None:
        return Explanation("Resources", f"无论等多久都不能启动：{verdict}。请改小要求，或请管理员增加节点")
    if job.available == 0:
        return Explanation("JobArrayTaskLimit", "数组同时运行的任务已到 % 后面写的上限，等有任务结束")
    result = Explanation("Resources")
    result.ahead_count, result.ahead = _ahead(outlook, queue, job)
    result.pools = [_pool(outlook, job, name) for name in outlook.lacking(job.shape, job.time_limit_s)]
    result.shortages = shortages(cluster, job.shape)
    result.fits_now = outlook.fits_now(job.shape, job.time_limit_s)
    result.incomplete = outlook.incomplete
    if not result.fits_now and not result.shortages:
        result.reserved = _reserved(cluster, job, outlook.now)
    absent = unavailable_nodes(cluster, job.shape)
    if absent is not None:
        result.shortages.insert(0, f"合用的节点里 {len(absent)} 个下线或排空：{'、'.join(absent[:10])}")
    if result.pools:
        result.reason = result.pools[0].reason
    elif absent is not None:
        result.reason = "ReqNodeNotAvail"
    elif result.reserved and outlook.only_reserved(job.shape, job.time_limit_s):
        result.reason = RESERVED
    elif result.ahead_count and not result.fits_now:
        result.reason = "Priority"
    found = None if result.pools and not _licenses_only(result.pools) else outlook.earliest(job.shape, job.time_limit_s)
    if found is not None:
        start, shares = found
        result.expected_start, result.nodes = start, cluster.node_names(shares)
        result.expected_end = None if math.isinf(job.time_limit_s) else start + job.time_limit_s
        result.holders = _holders(cluster, shares, start)
    return result


def _ahead(outlook: Outlook, queue: Queue, job: PendingJob) -> tuple[int, list[tuple[int, float | None]]]:
    """排在前面的有几个，头几个是谁、预计何时开始；无论等多久都不能启动的不挡路，不算。"""
    expected: dict[int, float] = {item.job.job_id: item.start_time for item in outlook.plan.reservations}
    count = 0
    heads: list[Iterator[PendingJob]] = []
    for key, group in queue.groups.items():
        if key in outlook.plan.impossible:
            continue
        before = list(_before(group.live(), job))
        count += len(before)
        heads.append(iter(before[:MOST_NAMED]))
    first = heapq.merge(*heads, key=lambda other: other.key)
    return count, [(other.job_id, expected.get(other.job_id)) for other in islice(first, MOST_NAMED)]


def _before(jobs: Iterator[PendingJob], job: PendingJob) -> Iterator[PendingJob]:
    key = job.key
    for other in jobs:
        if other.key >= key:
            return
        yield other


def _reserved(cluster: Cluster, job: PendingJob, now: float) -> list[tuple[str, float, float]]:
    """作业的时限之内，占着它能用的节点或许可证的预留：(名字, 开始, 结束)。"""
    eligible, pools = cluster.eligible(job.shape), {name for name, _ in job.shape.pools}
    found = []
    for each in cluster.reservations.values():
        if each.name == job.shape.reservation or not each.overlaps(now, now + job.time_limit_s):
            continue
        in_use = (cluster.reserved_nodes(each) & eligible).any()
        if in_use or any(name in pools for name, _ in each.licenses):
            found.append((each.name, each.start, each.end))
    return sorted(found, key=lambda item: item[1])


def _pool(outlook: Outlook, waiting: PendingJob, name: str) -> PoolShortage:
    cluster, shape = outlook.cluster, waiting.shape
    holders = [
        Holder(job.job_id, _end(job.expected_end), (), dict(job.pools)[name])
        for job in cluster.running.values()
        if any(pool == name for pool, _ in job.pools)
    ]
    holders.sort(key=lambda holder: (holder.end is None, holder.end or 0, holder.job_id))
    held = sum(holder.amount for holder in holders)
    return PoolShortage(
        cluster.pool_reasons.get(name, "Resources"),
        name,
        dict(shape.pools)[name],
        outlook.left(name, shape.reservation, waiting.time_limit_s),
        cluster.pools.get(name, 0) + held,
        tuple(holders[:MOST_NAMED]),
    )


def _licenses_only(pools: list[PoolShortage]) -> bool:
    return all(pool.name.startswith(LICENSE) for pool in pools)


def _holders(cluster: Cluster, shares: tuple[NodeShare, ...], start: float) -> list[Holder]:
    """预计用到的节点上，在那之前结束的作业：等的就是它们。"""
    wanted = {share.node for share in shares}
    found = []
    for job in cluster.running.values():
        nodes = [share.node for share in job.shares if share.node in wanted]
        if nodes and job.expected_end <= start + 1:
            names = tuple(cluster.names[node] for node in nodes)
            found.append(Holder(job.job_id, _end(job.expected_end), names))
    found.sort(key=lambda holder: (holder.end or math.inf, holder.job_id))
    return found[:MOST_NAMED]


def _end(moment: float) -> float | None:
    return None if moment >= NEVER_ENDS else moment


def shortages(cluster: Cluster, shape: Shape) -> list[str]:
    """此刻哪样不够、差多少、在哪里；放得下则为空。"""
    eligible = cluster.eligible(shape)
    free = cluster.free[: cluster.count]
    room = np.where(eligible, cluster.capacity(shape, free), 0)
    usable = int(eligible.sum())
    if usable == 0:
        return ["合用的节点现在都下线或排空了"]
    if (shape.single_node and shape.maximum_nodes == 1) or shape.tasks == 1:
        if (room >= shape.tasks).any():
            return []
        return _single(cluster, shape, eligible, free, usable)
    with_room = int((room > 0).sum())
    if int(room.sum()) >= shape.tasks and with_room >= shape.minimum_nodes:
        return []
    lacking = []
    if with_room < shape.minimum_nodes:
        lacking.append(f"要 {shape.minimum_nodes} 个节点，此刻只有 {with_room} 个有空（合用的共 {usable} 个）")
    if int(room.sum()) < shape.tasks:
        lacking.append(f"要放 {shape.tasks} 个任务，此刻共放得下 {int(room.sum())} 个")
    return lacking


def _single(cluster: Cluster, shape: Shape, eligible: BoolArray, free: IntArray, usable: int) -> list[str]:
    need = shape.per_node(cluster.kinds, cluster.width) + shape.tasks * shape.per_task(cluster.kinds, cluster.width)
    if cluster.exclusive(shape):
        return [f"要独占一个节点，{usable} 个合用的节点都有作业在运行"]
    names = {CPU: "CPU ", MEMORY: "内存", **{column: f"{name} " for name, column in cluster.kinds.items()}}
    found = []
    for column in range(cluster.width):
        enough = int((free[eligible, column] >= need[column]).sum())
        if need[column] and enough < usable:
            found.append(f"{names[column]}够的 {enough} 个")
    together = "，没有一个同时够" if len(found) > 1 else ""
    counts = f"{usable} 个合用的节点里，" + "、".join(found) + together if found else ""
    # 差得最少的那个节点说明问题。
    lack = np.maximum(need - free, 0).astype(np.float64) / np.maximum(need, 1)
    lack[~eligible] = np.inf
    nearest = int(np.argmin(lack.sum(axis=1)))
    parts = []
    for column in range(cluster.width):
        wanted, left = int(need[column]), max(0, int(free[nearest, column]))
        if wanted > left:
            parts.append(
                f"要 {format_memory_mb(wanted)} 内存，只剩 {format_memory_mb(left)}"
                f"（差 {format_memory_mb(wanted - left)}）"
                if column == MEMORY
                else f"要 {wanted} 个 {names[column].strip()}，只剩 {left} 个（差 {wanted - left} 个）"
            )
    closest = f"最接近的是 {cluster.names[nearest]}：{'，'.join(parts)}" if parts else ""
    return [text for text in (counts, closest) if text] or ["没有一个节点同时够"]
