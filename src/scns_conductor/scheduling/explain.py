"""解释：一个作业为什么还没有启动，以及怎样改能更早——都由真的计划得出。纯函数，文字是中文。"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scns_conductor.core.units import format_duration, format_memory_mb
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, MEMORY, Shape

# 为了说出预计时刻，解释时至少给这么多个作业做保留。
EXPLAIN_DEPTH = 1000
# 建议至少要早这么多秒才值得说。
WORTHWHILE_S = 60.0
# 试排的作业暂用的号：真的作业号不会这么大。
TRIAL_JOB_ID = 2**62


@dataclass(frozen=True, slots=True)
class Suggestion:
    """一个改法：changes 是 PATCH /jobs/{id} 的字段；start_time 是改了之后的预计开始（Unix 秒）。"""

    text: str
    changes: Mapping[str, Any]
    start_time: float


@dataclass(slots=True)
class Explanation:
    """text 是给人看的全部；expected_start 为 None 表示说不准。"""

    reason: str
    text: str
    expected_start: float | None = None
    expected_end: float | None = None
    nodes: list[str] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)
    shortages: list[str] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)


def expected(
    cluster: Cluster, queue: Queue, job: PendingJob, now: float, policy: Policy
) -> tuple[float, list[str]] | None:
    """按此刻的队列，这个作业何时、在哪里开始；说不准是 None。"""
    found = plan(cluster, queue, now, replace(policy, depth=max(policy.depth, EXPLAIN_DEPTH)))
    return _where(cluster, found, job, now)


def _where(cluster: Cluster, found: Plan, job: PendingJob, now: float) -> tuple[float, list[str]] | None:
    for start in found.starts:
        if start.job is job:
            return now, cluster.node_names(start.shares)
    for reserved in found.reservations:
        if reserved.job is job:
            return reserved.start_time, cluster.node_names(reserved.shares)
    return None


def explain(cluster: Cluster, queue: Queue, job: PendingJob, now: float, policy: Policy) -> Explanation:
    """为什么还在等。queue 会暂时放进改过的作业再拿走。"""
    if job.reason is not None:
        return Explanation(job.reason, job.message or f"原因是 {job.reason}")
    verdict = impossible(cluster, job.shape)
    if verdict is not None:
        return Explanation("Resources", f"无论等多久都不能启动：{verdict}。请改小要求，或请管理员增加节点")
    if job.available == 0:
        return Explanation("JobArrayTaskLimit", "数组同时运行的任务已到 % 后面写的上限，等有任务结束")
    short_of = shortages(cluster, job.shape)
    ahead = _ahead(cluster, queue, job)
    found = expected(cluster, queue, job, now, policy)
    reason = "Resources" if not ahead else "Priority"
    lines = []
    if short_of:
        lines.append("此刻缺资源：" + "；".join(short_of))
    elif found is not None and found[0] <= now:
        lines.append("此刻资源够，下一个周期就会启动")
    else:
        lines.append("此刻的空闲放得下，但会推迟排在前面的作业的保留")
    if ahead:
        shown = "、".join(map(str, ahead[:5])) + ("……" if len(ahead) > 5 else "")
        lines.append(f"前面还有 {len(ahead)} 个作业：{shown}")
    if found is None:
        lines.append("占着资源的作业没有时限（或前面的太多），说不准何时开始")
    elif found[0] > now:
        lines.append(f"预计 {format_duration(found[0] - now)} 之后在 {'、'.join(found[1])} 开始")
    result = Explanation(reason, "", nodes=found[1] if found else [], ahead=ahead[:20], shortages=short_of)
    if found is not None:
        result.expected_start = found[0]
        result.expected_end = None if math.isinf(job.time_limit_s) else found[0] + job.time_limit_s
    result.suggestions = suggestions(cluster, queue, job, now, policy, found[0] if found else math.inf)
    lines += [f"要更早开始：{item.text}" for item in result.suggestions]
    result.text = "。\n".join(lines)
    return result


def _ahead(cluster: Cluster, queue: Queue, job: PendingJob) -> list[int]:
    """排在前面的；无论等多久都不能启动的不挡路，不算。"""
    waiting = [
        other
        for other in queue.jobs.values()
        if other.startable and other.key < job.key and impossible(cluster, other.shape) is None
    ]
    return [other.job_id for other in sorted(waiting, key=lambda other: other.key)]


def shortages(cluster: Cluster, shape: Shape) -> list[str]:
    """此刻哪样不够、差多少；放得下则为空。"""
    eligible = cluster.eligible(shape)
    free = cluster.free[: cluster.count]
    room = np.where(eligible, cluster.capacity(shape, free), 0)
    found = []
    usable = int(eligible.sum())
    if usable == 0:
        return ["合用的节点现在都下线或排空了"]
    if (shape.single_node and shape.maximum_nodes == 1) or shape.tasks == 1:
        if (room >= shape.tasks).any():
            return []
        need = shape.per_node(cluster.kinds, cluster.width) + shape.tasks * shape.per_task(cluster.kinds, cluster.width)
        names = {CPU: "CPU", MEMORY: "内存", **{column: name for name, column in cluster.kinds.items()}}
        # 差得最少的那个节点说明问题。
        lack = np.maximum(need - free, 0).astype(np.float64) / np.maximum(need, 1)
        lack[~eligible] = np.inf
        nearest = int(np.argmin(lack.sum(axis=1)))
        for column in range(cluster.width):
            if need[column] > free[nearest, column]:
                wanted, left = int(need[column]), max(0, int(free[nearest, column]))
                text = (
                    f"要 {format_memory_mb(wanted)} 内存，只剩 {format_memory_mb(left)}"
                    if column == MEMORY
                    else f"要 {wanted} 个 {names[column]}，只剩 {left} 个"
                )
                found.append(f"最接近的节点 {cluster.names[nearest]} {text}")
        if not found:
            found.append(
                f"{usable} 个合用的节点都有作业在运行，不能独占" if cluster.exclusive(shape) else "没有一个节点同时够"
            )
        return found
    if int(room.sum()) < shape.tasks or int((room > 0).sum()) < shape.minimum_nodes:
        found.append(
            f"要 {shape.minimum_nodes} 个节点、{shape.tasks} 个任务，此刻 {int((room > 0).sum())} 个节点有空，"
            f"共放得下 {int(room.sum())} 个任务"
        )
    return found


def suggestions(
    cluster: Cluster, queue: Queue, job: PendingJob, now: float, policy: Policy, current: float
) -> list[Suggestion]:
    """逐个改法真的计划一次；只留下明显更早的，最早的在前。"""
    if current <= now:
        return []
    found = []
    gaps = _gaps(cluster, queue, now, policy)
    for text, changes, shape, limit in _variants(cluster, job, gaps):
        variant = replace(job, job_id=TRIAL_JOB_ID, order=job.order or job.job_id, shape=shape, time_limit_s=limit)
        available = job.available
        queue.set_available(job, 0)
        queue.upsert(variant)
        try:
            where = expected(cluster, queue, variant, now, policy)
        finally:
            queue.remove(TRIAL_JOB_ID)
            queue.set_available(job, available)
        if where is not None and where[0] < current - WORTHWHILE_S:
            when = "可立即开始" if where[0] <= now else f"预计 {format_duration(where[0] - now)} 之后开始"
            found.append(Suggestion(f"{text}，{when}", changes, where[0]))
    found.sort(key=lambda item: item.start_time)
    # 同样早的，改得最少的（最长的时限在前）就够了：每种改法只留一个。
    kept: dict[tuple[str, ...], Suggestion] = {}
    for item in found:
        kept.setdefault(tuple(item.changes), item)
    return list(kept.values())[:4]


def _gaps(cluster: Cluster, queue: Queue, now: float, policy: Policy) -> list[float]:
    """从现在到最早几个保留的空当（秒）：时限短到塞得进去，就能立即回填。"""
    found = plan(cluster, queue, now, policy)
    gaps = sorted({math.floor(item.start_time - now) for item in found.reservations if item.start_time > now + 1})
    # 说出来的数取整一些：几分钟以上的取整分钟。
    return [float(gap // 60 * 60 if gap >= 120 else gap) for gap in gaps[:3]]


def _variants(cluster: Cluster, job: PendingJob, gaps: list[float]) -> list[tuple[str, dict[str, Any], Shape, float]]:
    shape, limit = job.shape, job.time_limit_s
    found: list[tuple[str, dict[str, Any], Shape, float]] = []
    for seconds in (86400, 28800, 14400, 7200, 3600, 1800, 900, 300, 60, *gaps):
        if seconds >= limit:
            continue
        found.append(
            (
                f"把时限改为 ≤ {format_duration(seconds)}",
                {"time_limit": format_duration(seconds)},
                shape,
                float(seconds),
            )
        )
    if shape.minimum_nodes > 1:
        half = shape.minimum_nodes // 2
        fewer = replace(shape, minimum_nodes=half, maximum_nodes=None, tasks_per_node=None)
        found.append((f"把节点数改为 {half}", {"nodes": f"{half}"}, fewer, limit))
    if shape.memory_per_node:
        half = shape.memory_per_node // 2
        text = format_memory_mb(half)
        found.append(
            (f"把每节点内存改为 {text}", {"memory_per_node": text}, replace(shape, memory_per_node=half), limit)
        )
    if shape.cpus_per_task > 1:
        half = shape.cpus_per_task // 2
        found.append((f"把每任务 CPU 改为 {half}", {"cpus_per_task": half}, replace(shape, cpus_per_task=half), limit))
    if shape.exclusive:
        found.append(("不独占节点", {"exclusive": False}, replace(shape, exclusive=False), limit))
    if shape.constraints:
        found.append(("去掉特性的要求", {"constraints": None}, replace(shape, constraints=None), limit))
    for name, partition in cluster.partitions.items():
        fits = partition.max_time is None or limit <= partition.max_time
        if name not in shape.partition.split(",") and partition.up and fits:
            found.append((f"换到分区 {name}", {"partition": name}, replace(shape, partition=name), limit))
    return found
