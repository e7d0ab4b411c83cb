"""此刻哪样不够、差多少、在哪里：给人看的几句中文。纯函数。"""

import numpy as np

from scns_conductor.core.units import format_memory_mb
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.shape import CPU, MEMORY, BoolArray, IntArray, Shape

# 至多说出几个节点。
MOST_SHOWN = 5


def shortages(cluster: Cluster, shape: Shape) -> list[str]:
    """此刻的空闲放得下（真的放一遍）则为空。"""
    free, eligible = cluster.free[: cluster.count], cluster.open_to(shape)
    if place(cluster, shape, free, Placement.BEST_FIT, eligible) is not None:
        return []
    if shape.components:
        parts = [(number, line) for number, part in enumerate(shape.components) for line in shortages(cluster, part)]
        return [f"第 {number} 个部分：{line}" for number, line in parts] or ["各个部分此刻单独放得下，一起放不下"]
    apart, usable = _apart(cluster, shape), int(eligible.sum())
    if usable == 0:
        return apart or ["合用的节点现在都下线或排空了"]
    room = np.where(eligible, cluster.capacity(shape, free), 0)
    named = [
        _named(cluster, shape, name, free, eligible)
        for name in shape.required_nodes
        if name in cluster.index and room[cluster.index[name]] == 0
    ]
    if named:
        return named
    if (shape.single_node and shape.maximum_nodes == 1) or shape.tasks == 1:
        return [*apart, *_single(cluster, shape, eligible, free, usable)]
    found = _several(cluster, shape, eligible, free, room)
    return [*apart, *found] or ["空闲的节点凑不成它要的那样（交换机、特性或每节点任务数）"]


def balance(cluster: Cluster, shape: Shape) -> list[tuple[str, int, int]]:
    """（哪样资源，要多少，此刻空着多少）；内存是 MiB。

    放在一个节点上的，空着的是最接近的那个节点的；多个节点的是合用的节点合计的。
    """
    free, eligible = cluster.free[: cluster.count], cluster.open_to(shape)
    if shape.required_nodes:
        # 指名的只看指名的。
        named = [cluster.index[name] for name in shape.required_nodes if name in cluster.index]
        eligible = eligible & np.isin(np.arange(cluster.count), named)
    if shape.components or not eligible.any():
        return []
    single = (shape.single_node and shape.maximum_nodes == 1) or shape.tasks == 1
    need = _least(cluster, shape)
    if single:
        left = free[_nearest(need, free, eligible)]
    else:
        per_node, per_task = (each(cluster.kinds, cluster.width) for each in (shape.per_node, shape.per_task))
        need = shape.minimum_nodes * per_node + shape.tasks * per_task
        left = free[eligible].sum(axis=0)
    names = {CPU: "cpu", MEMORY: "memory", **{column: name for name, column in cluster.kinds.items()}}
    wanted = [column for column in range(cluster.width) if need[column]]
    return [(names[column], int(need[column]), max(0, int(left[column]))) for column in wanted]


def _nearest(need: IntArray, free: IntArray, eligible: BoolArray) -> int:
    """差得最少的那个节点。"""
    lack = np.maximum(need - free, 0).astype(np.float64) / np.maximum(need, 1)
    lack[~eligible] = np.inf
    return int(np.argmin(lack.sum(axis=1)))


def _apart(cluster: Cluster, shape: Shape) -> list[str]:
    """与别人隔开（--exclusive=user、mcs）：别人独占着的节点；自己要独占的，有别人在的节点。"""
    eligible, names = cluster.eligible(shape), dict[int, str]()
    for job in cluster.barring(shape):
        whose = None if shape.exclusive_to is not None else owner_words(job.exclusive_to or "")
        for share in job.shares:
            if eligible[share.node]:
                name = cluster.names[share.node]
                names[share.node] = name if whose is None else f"{name}（只许{whose}）"
    if not names:
        return []
    shown = "、".join(names[node] for node in sorted(names)[:MOST_SHOWN]) + ("……" if len(names) > MOST_SHOWN else "")
    usable, count = int(eligible.sum()), len(names)
    if shape.exclusive_to is not None:
        whose = owner_words(shape.exclusive_to)
        return [f"它的节点只许{whose}，而 {usable} 个合用的节点里 {count} 个上有别的作业：{shown}"]
    return [f"{usable} 个合用的节点里 {count} 个此刻与别人隔开：{shown}"]


def owner_words(owner: str) -> str:
    """user:alice、mcs:red 怎样说。"""
    kind, _, name = owner.partition(":")
    return f"用户 {name} 的作业" if kind == "user" else f"标签 {name} 的作业"


def _named(cluster: Cluster, shape: Shape, name: str, free: IntArray, usable: BoolArray) -> str:
    """指名的节点差什么。"""
    node = cluster.index[name]
    if not cluster.schedulable[node]:
        return f"指名的 {name} 下线或排空了"
    if cluster.eligible(shape)[node] and not usable[node]:
        return "；".join(_apart(cluster, shape))
    if cluster.exclusive(shape):
        return f"指名的 {name} 上有作业在运行，不能独占"
    lacking = _lacking(cluster, _least(cluster, shape), free[node])
    return f"指名的 {name}：{'，'.join(lacking)}" if lacking else f"指名的 {name} 此刻放不下"


def _least(cluster: Cluster, shape: Shape) -> IntArray:
    """一个节点上至少要多少：能在一个节点上的是全部任务，否则是一个任务。"""
    tasks = shape.tasks if shape.single_node and shape.maximum_nodes == 1 else 1
    need = shape.per_node(cluster.kinds, cluster.width) + tasks * shape.per_task(cluster.kinds, cluster.width)
    need[CPU] = max(int(need[CPU]), shape.minimum_cpus_per_node)
    return need


def _several(cluster: Cluster, shape: Shape, eligible: BoolArray, free: IntArray, room: IntArray) -> list[str]:
    """多节点、可拆开的：节点够不够，任务放不放得下，各是被哪样资源拦住的。"""
    usable, with_room = int(eligible.sum()), int((room > 0).sum())
    if cluster.exclusive(shape) and with_room < shape.minimum_nodes:
        return [f"要独占 {shape.minimum_nodes} 个节点，{usable} 个合用的节点里只有 {with_room} 个空着"]
    need = _least(cluster, shape)
    lacking = []
    if with_room < shape.minimum_nodes:
        each = [
            f"{_title(cluster, column)}够的 {enough} 个"
            for column in range(cluster.width)
            if need[column] and (enough := int((free[eligible, column] >= need[column]).sum())) < usable
        ]
        why = f"：{'，'.join(each)}" if each else ""
        lacking.append(f"要 {shape.minimum_nodes} 个节点，此刻只有 {with_room} 个够（合用的共 {usable} 个{why}）")
    total = int(np.minimum(room, shape.tasks_per_node or shape.tasks).sum())
    if not lacking and total < shape.tasks:
        lacking.append(f"要放 {shape.tasks} 个任务，此刻共放得下 {total} 个{_bound_by(cluster, shape, eligible, free)}")
    return lacking


def _bound_by(cluster: Cluster, shape: Shape, eligible: BoolArray, free: IntArray) -> str:
    """只看一样资源就放不下全部任务的是哪样。"""
    task, node = shape.per_task(cluster.kinds, cluster.width), shape.per_node(cluster.kinds, cluster.width)
    found = []
    for column in range(cluster.width):
        if not task[column]:
            continue
        room = np.maximum(free[eligible, column] - node[column], 0) // task[column]
        if shape.tasks_per_node is not None:
            room = np.minimum(room, shape.tasks_per_node)
        if int(room.sum()) < shape.tasks:
            found.append(f"{_title(cluster, column)}只够 {int(room.sum())} 个")
    return f"（{'，'.join(found)}）" if found else ""


def _title(cluster: Cluster, column: int) -> str:
    names = {CPU: "CPU ", MEMORY: "内存", **{place: f"{name} " for name, place in cluster.kinds.items()}}
    return names[column]


def _single(cluster: Cluster, shape: Shape, eligible: BoolArray, free: IntArray, usable: int) -> list[str]:
    if cluster.exclusive(shape):
        return [f"要独占一个节点，{usable} 个合用的节点都有作业在运行"]
    need = _least(cluster, shape)
    found = []
    for column in range(cluster.width):
        enough = int((free[eligible, column] >= need[column]).sum())
        if need[column] and enough < usable:
            found.append(f"{_title(cluster, column)}够的 {enough} 个")
    together = "，没有一个同时够" if len(found) > 1 else ""
    counts = f"{usable} 个合用的节点里，" + "、".join(found) + together if found else ""
    # 差得最少的那个节点说明问题。
    nearest = _nearest(need, free, eligible)
    parts = _lacking(cluster, need, free[nearest])
    closest = f"最接近的是 {cluster.names[nearest]}：{'，'.join(parts)}" if parts else ""
    return [text for text in (counts, closest) if text] or ["没有一个节点同时够"]


def _lacking(cluster: Cluster, need: IntArray, free: IntArray) -> list[str]:
    """一个节点上差的各样。"""
    parts = []
    for column in range(cluster.width):
        wanted, left = int(need[column]), max(0, int(free[column]))
        if wanted > left:
            parts.append(
                f"要 {format_memory_mb(wanted)} 内存，只剩 {format_memory_mb(left)}"
                f"（差 {format_memory_mb(wanted - left)}）"
                if column == MEMORY
                else f"要 {wanted} 个 {_title(cluster, column).strip()}，只剩 {left} 个（差 {wanted - left} 个）"
            )
    return parts
