"""提交与修改时的核对：永远不能启动的作业当场拒绝，说明缺什么。纯函数。

只看节点的总量，不看此刻空闲、下线还是排空；还没有节点登记、或分区里有还没登记的节点时，说不准的都接受。
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.features import parse_features, words
from scns_conductor.core.gres import parse_gres
from scns_conductor.core.hostlist import expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.units import format_memory_mb
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import Defaults, shape_of
from scns_conductor.scheduling.shape import CPU, MEMORY, Shape
from scns_conductor.services.cluster_limits import ClusterLimits, PartitionLimits

# 与“放不放得下”有关的列；相同的作业只判一次。
REQUIREMENTS = (
    "partition", "tasks", "tasks_per_node", "cpus_per_task", "minimum_nodes", "maximum_nodes", "minimum_cpus_per_node",
    "memory_per_node", "memory_per_cpu", "memory_per_gpu", "temporary_disk_per_node", "tres_per_job", "tres_per_node",
    "tres_per_task", "constraints", "required_nodes", "excluded_nodes", "exclusive", "licenses", "time_minimum",
    "oversubscribe", "required_switches", "contiguous", "spread_job", "use_min_nodes",
    "sockets_per_node", "cores_per_socket", "threads_per_core",
    "tasks_per_core", "tasks_per_socket", "core_specification", "thread_specification", "prefer",
)  # fmt: skip
_requirements = itemgetter(*REQUIREMENTS)
TIMES = ("time_limit", "time_minimum", "begin_time", "deadline")
_MOST_VERDICTS = 10_000
# 没有节点有 GPU 时也认得这个词：是配置不足，不是写错。
_KNOWN_GRES = frozenset({"gpu"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """拒绝的理由。"""

    field: str
    message: str
    code: str


def require_feasible(row: Mapping[str, Any], limits: ClusterLimits, defaults: Defaults, prefix: str) -> None:
    """列了几个分区的，有一个能启动就行；都不能时抛 InvalidRequest，理由是第一个分区的。"""
    found = _cached(row, limits, defaults)
    if found is not None:
        raise InvalidRequest(f"{prefix}{found.field}", found.message, code=found.code)


def _cached(row: Mapping[str, Any], limits: ClusterLimits, defaults: Defaults) -> Refusal | None:
    key = _requirements(row)
    if key not in limits.verdicts:
        if len(limits.verdicts) >= _MOST_VERDICTS:
            limits.verdicts.clear()
        limits.verdicts[key] = _verdict(row, limits, defaults)
    found: Refusal | None = limits.verdicts[key]
    return found


def nodes_for_gpus(row: Mapping[str, Any], limits: ClusterLimits, defaults: Defaults) -> int:
    """至少几个节点：--gpus=4 而没有写 -N 的，一个节点永远放不下就摊到最少的几个节点上；摊不下的不变。"""
    least: int = row["minimum_nodes"]
    if not row["tres_per_job"]:
        return least
    total = sum(parse_gres(row["tres_per_job"]).values())
    # 都在一个节点上：算作每节点的。
    together = ",".join(filter(None, (row["tres_per_node"], row["tres_per_job"])))
    single = {**row, "tres_per_job": None, "tres_per_node": together}
    if total < 2 or least > 1 or row["maximum_nodes"] is not None or _cached(single, limits, defaults) is None:
        return least
    for count in range(2, min(total, limits.cluster.count) + 1):
        if _cached({**row, "minimum_nodes": count}, limits, defaults) is None:
            return count
    return least


def require_possible_times(row: Mapping[str, Any], now: Any, prefix: str) -> None:
    """期限已过、来不及、时限的下限大于时限的，抛 InvalidRequest；now 带时区。"""
    limit, least, begin, deadline = (row[name] for name in TIMES)
    if least is not None and limit is not None and least > limit:
        raise InvalidRequest(
            f"{prefix}time_minimum", "--time-min 比时限长；请改短它或改长时限", code="time_minimum_exceeds_limit"
        )
    if deadline is None:
        return
    if deadline <= now:
        raise InvalidRequest(f"{prefix}deadline", "期限已经过了；请写以后的时刻", code="deadline_past")
    start = max(now, begin) if begin is not None else now
    needed = least or limit or 0
    if (deadline - start).total_seconds() < needed:
        raise InvalidRequest(
            f"{prefix}deadline",
            "从最早能开始的时刻起，在期限之前跑不满时限；请推迟期限、改短时限，或用 time_minimum 写可接受的最短时限",
            code="deadline_unreachable",
        )


def _verdict(row: Mapping[str, Any], limits: ClusterLimits, defaults: Defaults) -> Refusal | None:
    cluster = limits.cluster
    unknown = _unknown_license(row, limits)
    if unknown is not None or cluster.count == 0:
        return unknown
    unknown = _unknown_name(row, limits)
    if unknown is not None:
        return unknown
    shape = shape_of(row, defaults)
    first: Refusal | None = None
    for name in row["partition"].split(","):
        partition = limits.partitions.get(name)
        if partition is None:
            continue
        if partition.node_names is not None and not partition.node_names <= cluster.index.keys():
            return None
        found = _does_not_fit(replace(shape, partition=name, reservation=None, switches=None), limits, partition)
        if found is None:
            return None
        first = first or found
    return first


def _unknown_license(row: Mapping[str, Any], limits: ClusterLimits) -> Refusal | None:
    for name, count in parse_licenses(row["licenses"]):
        total = limits.licenses.get(name)
        if total is None:
            known = "、".join(sorted(limits.licenses)) or "（没有）"
            return Refusal("licenses", f"没有许可证 {name!r}；现有 {known}", "license_unknown")
        if count > total:
            return Refusal("licenses", f"要 {count} 个许可证 {name}，总共只有 {total} 个", "license_exceeded")
    return None


def _unknown_name(row: Mapping[str, Any], limits: ClusterLimits) -> Refusal | None:
    """没有的节点、特性、通用资源。分区里写了而还没有登记的节点是认得的。"""
    cluster = limits.cluster
    for field in ("required_nodes", "excluded_nodes"):
        missing = [name for name in expand(row[field]) if name not in cluster.index] if row[field] else []
        if missing:
            configured = frozenset[str]().union(*(each.node_names or () for each in limits.partitions.values()))
            unknown = next((name for name in missing if name not in configured), None)
            if unknown is not None:
                return Refusal(field, f"没有节点 {unknown}；用 scns nodes 查看现有的节点", "node_unknown")
    for field in ("constraints", "prefer"):
        if not row[field]:
            continue
        known = frozenset[str]().union(*set(cluster.features))
        unknown = next((word for word in sorted(words(parse_features(row[field]))) if word not in known), None)
        if unknown is not None:
            return Refusal(
                field,
                f"没有节点有特性 {unknown!r}；现有 {_listed(known)}",
                "feature_unknown",
            )
    kinds = {name.split(":")[0] for name in cluster.kinds} | _KNOWN_GRES
    for field in ("tres_per_node", "tres_per_job", "tres_per_task"):
        for name in parse_gres(row[field] or ""):
            if name.split(":")[0] not in kinds:
                return Refusal(field, f"没有节点有通用资源 {name!r}；现有 {_listed(kinds)}", "gres_unknown")
    return None


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    return "、".join(found[:10]) + ("……" if len(found) > 10 else "") or "（没有）"


def _does_not_fit(shape: Shape, limits: ClusterLimits, partition: PartitionLimits) -> Refusal | None:
    """全部节点都空着也放不下时，说明是哪一样。"""
    cluster = limits.cluster
    if shape.maximum_nodes is not None and len(shape.required_nodes) > shape.maximum_nodes:
        return Refusal(
            "required_nodes",
            f"指名了 {len(shape.required_nodes)} 个节点，节点数却最多 {shape.maximum_nodes} 个",
            "node_count_invalid",
        )
    message = impossible(cluster, shape)
    if message is None:
        return None
    rows = np.array(
        [row for name, row in cluster.index.items() if partition.node_names is None or name in partition.node_names],
        dtype=np.int64,
    )
    total, where = cluster.total[rows], f"分区 {partition.name} "
    if shape.minimum_nodes > len(rows):
        return Refusal(
            "minimum_nodes",
            f"要 {shape.minimum_nodes} 个节点，{where}一共只有 {len(rows)} 个",
            "node_count_invalid",
        )
    cpus, all_cpus = shape.tasks * shape.cpus_per_task, int(total[:, CPU].sum())
    if cpus > all_cpus:
        field = "tasks" if shape.tasks > 1 else "cpus_per_task"
        return Refusal(field, f"要 {cpus} 个 CPU，{where}一共只有 {all_cpus} 个", "cpus_exceed_partition")
    need = shape.per_node(cluster.kinds, cluster.width)
    least_tasks = shape.tasks if shape.maximum_nodes == 1 else shape.tasks_per_node or 1
    need = need + shape.per_task(cluster.kinds, cluster.width) * min(least_tasks, shape.tasks)
    most = total.max(axis=0)
    wanted_cpus = max(int(need[CPU]), shape.minimum_cpus_per_node)
    if wanted_cpus > most[CPU]:
        return Refusal(
            "cpus_per_task",
            f"每节点要 {wanted_cpus} 个 CPU，{where}最大的节点只有 {int(most[CPU])} 个",
            "cpus_not_satisfiable",
        )
    if need[MEMORY] > most[MEMORY]:
        field = next(
            name for name in ("memory_per_node", "memory_per_cpu", "memory_per_gpu") if getattr(shape, name) is not None
        )
        return Refusal(
            field,
            f"每节点要 {format_memory_mb(int(need[MEMORY]))} 内存，{where}最大的节点只有 "
            f"{format_memory_mb(int(most[MEMORY]))}",
            "memory_not_satisfiable",
        )
    disk = int(cluster.disk[rows].max())
    if shape.temporary_disk > disk:
        return Refusal(
            "temporary_disk_per_node",
            f"要 {format_memory_mb(shape.temporary_disk)} 临时磁盘，{where}最大的节点只有 {format_memory_mb(disk)}",
            "disk_not_satisfiable",
        )
    return Refusal(_blamed(shape), f"{where}的节点全部空着也放不下：{message}", "node_limits_exceeded")


def _blamed(shape: Shape) -> str:
    if shape.required_nodes:
        return "required_nodes"
    if shape.constraints:
        return "constraints"
    for name in ("threads_per_core", "tasks_per_socket", "tasks_per_core"):
        if getattr(shape, name) is not None:
            return name
    if shape.sockets_per_node > 1 or shape.cores_per_socket > 1:
        return "sockets_per_node" if shape.sockets_per_node > 1 else "cores_per_socket"
    if shape.spared_cores or shape.spared_threads:
        return "core_specification" if shape.spared_cores else "thread_specification"
    return "tres_per_node" if shape.gres_names else "tasks"
