"""要求本身：在一个节点上要多少、怎样放置，以及无论等多久都放不下的说法。纯函数。"""

from enum import IntEnum

import numpy as np

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.shape import BoolArray, IntArray, Shape


class Kind(IntEnum):
    """怎样放置：PLAIN 在一个节点上占一个固定的向量；GRES 也是，只是通用资源落到哪个型号要看节点；其余是 GENERAL。"""

    PLAIN = 0
    GRES = 1
    GENERAL = 2


def requirement(cluster: Cluster, shape: Shape) -> tuple[IntArray, Kind]:
    """(在一个节点上放下全部任务要多少, 怎样放置)。独占、整节点内存、多节点、指名一类的是 GENERAL，向量不能用。"""
    if shape.components or shape.spreads:
        return np.zeros(cluster.width, dtype=np.int64), Kind.GENERAL
    single = (
        shape.single_node
        and not shape.by_reserved_cores
        and "," not in shape.partition
        and not cluster.exclusive(shape)
        and not cluster.by_core(shape)
        and shape.memory_per_node != 0
        and shape.exclusive_to is None
        and not shape.required_nodes
        and (shape.maximum_nodes == 1 or shape.tasks == 1)
        and not shape.minimum_cpus_per_node
        and all(partition.max_cpus_per_node is None for partition in cluster.partitions_of(shape))
    )
    need = shape.per_node(cluster.kinds, cluster.width) + shape.tasks * shape.per_task(cluster.kinds, cluster.width)
    if not single:
        return need, Kind.GENERAL
    return need, Kind.GRES if shape.gres_names else Kind.PLAIN


def fits(free: IntArray, need: IntArray) -> BoolArray:
    """free 的各行是否都给得出 need；逐维比较，比沿短轴归约快一个量级。"""
    found: BoolArray = np.ones(len(free), dtype=np.bool_)
    for dimension, amount in enumerate(need.tolist()):
        if amount:
            found &= free[:, dimension] >= amount
    return found


def fit_somewhere(free: IntArray, needs: IntArray, usable: BoolArray) -> BoolArray:
    """各个要求（needs 的各行），free 的各行里它能用的（usable 的同一行）有没有一个给得出。"""
    left = usable.copy()
    for dimension in range(needs.shape[1]):
        amounts = needs[:, dimension, None]
        # 不要这一维的不看：改小了总量的，空闲可以是负的。
        left &= (free[:, dimension] >= amounts) | (amounts == 0)
    found: BoolArray = np.any(left, axis=1)
    return found


def impossible(cluster: Cluster, shape: Shape) -> str | None:
    """所有节点都空着也放不下时，说明缺什么；只是有节点此刻不可用则不算。"""
    known = cluster.verdicts.get(shape)
    if known is not None and known[0] == cluster.version:
        return known[1]
    total, acceptable = cluster.total[: cluster.count], cluster.acceptable(shape)
    need, kind = requirement(cluster, shape)
    if kind is Kind.GENERAL:
        possible = place(cluster, shape, total, Placement.BEST_FIT, acceptable) is not None
    else:
        possible = bool((acceptable & fits(total, need)).any())
    verdict = None if possible else shortfall(cluster, shape)
    if len(cluster.verdicts) > 10_000:
        cluster.verdicts.clear()
    cluster.verdicts[shape] = (cluster.version, verdict)
    return verdict


def shortfall(cluster: Cluster, shape: Shape) -> str:
    """给人看的：哪一样不够。"""
    if cluster.count == 0:
        return "还没有节点登记"
    if shape.components:
        for number, part in enumerate(shape.components):
            lacking = impossible(cluster, part)
            if lacking is not None:
                return f"异构作业的第 {number} 个部分：{lacking}"
        return "异构作业的各个部分单独放得下，全部节点空着也不能一起放下"
    if shape.by_reserved_cores and not shape.roams and (cluster.exclusive(shape) or shape.exclusive_to is not None):
        return f"预留 {shape.reservation} 只留了节点的一部分 CPU，在里面独占不了节点"
    unknown = [name for name in sorted(shape.gres_names) if name not in cluster.kinds]
    if unknown:
        return f"没有节点有通用资源 {unknown[0]}"
    total = cluster.total[: cluster.count]
    rows = cluster.schedulable[: cluster.count]
    total = total[rows] if rows.any() else total
    need = shape.per_node(cluster.kinds, cluster.width) + shape.per_task(cluster.kinds, cluster.width) * (
        shape.tasks if shape.maximum_nodes == 1 else shape.tasks_per_node or 1
    )
    names = {0: " 个 CPU", 1: " MiB 内存", **{column: f" 个 {name}" for name, column in cluster.kinds.items()}}
    most = total.max(axis=0)
    short = [
        f"每节点要 {int(need[column])}{names[column]}，最大的节点只有 {int(most[column])}{names[column]}"
        for column in range(cluster.width)
        if need[column] > most[column]
    ]
    if short:
        return "；".join(short)
    if shape.required_nodes and any(name not in cluster.index for name in shape.required_nodes):
        missing = next(name for name in shape.required_nodes if name not in cluster.index)
        return f"没有节点 {missing}"
    layout = cluster.layout[: cluster.count]
    asked = (shape.sockets_per_node, shape.cores_per_socket, shape.threads_per_core or 1)
    if not (layout >= asked).all(axis=1).any():
        sockets, cores, threads = asked
        return f"没有节点有 {sockets} 个插槽、每插槽 {cores} 个核、每核 {threads} 个线程"
    if shape.constraints and not cluster.acceptable(shape).any():
        return f"没有节点满足特性 {shape.constraints}"
    nodes = int(cluster.acceptable(shape).sum())
    if nodes < shape.minimum_nodes:
        return f"要 {shape.minimum_nodes} 个节点，合用的只有 {nodes} 个"
    return f"要 {shape.tasks} 个任务、每任务 {shape.cpus_per_task} 个 CPU，合用的节点全部空着也放不下"
