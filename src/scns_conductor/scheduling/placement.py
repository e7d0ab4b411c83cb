"""放置：一个形状的全部任务放到哪些节点。候选的次序由放置方式决定；多节点的可以优先同一个交换机。"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from itertools import combinations, islice, permutations
from math import comb

import numpy as np

from scns_conductor.core import features
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.shape import CPU, LICENSE, BoolArray, IntArray, Shape

# 限了交换机数的，至多试这么多种组合。
MOST_LEAF_SETS = 2000
# 异构作业的各个部分，至多换这么多种先后来放。
MOST_COMPONENT_ORDERS = 24


class Placement(StrEnum):
    """best_fit 把大的空洞留完整，spread 分散，weight 只看权重与次序，topology 同 best_fit 并优先同一交换机。"""

    BEST_FIT = "best_fit"
    SPREAD = "spread"
    WEIGHT = "weight"
    TOPOLOGY = "topology"


def candidate_order(cluster: Cluster, nodes: IntArray, free: IntArray, placement: Placement) -> IntArray:
    """候选节点的次序；权重总在最前（slurm.conf 的 Weight）。free 是全部节点的空闲。"""
    weight, cpus = cluster.weight[nodes], free[nodes, CPU]
    match placement:
        case Placement.SPREAD:
            order = np.lexsort((nodes, -cpus, weight))
        case Placement.WEIGHT:
            order = np.lexsort((nodes, weight))
        case _:
            order = np.lexsort((nodes, cpus, weight))
    found: IntArray = nodes[order]
    return found


def place(
    cluster: Cluster, shape: Shape, free: IntArray, placement: Placement, eligible: BoolArray | None = None
) -> tuple[NodeShare, ...] | None:
    """按 free（全部节点）放下整个作业；放不下是 None。eligible 缺省是此刻能用的节点。"""
    usable = cluster.eligible(shape) if eligible is None else eligible
    if shape.components:
        return _place_together(cluster, shape, free, placement, usable)
    for option in shape.spreads:
        # 用的节点少的先试。
        found = place(cluster, option, free, placement, usable & cluster.acceptable(option))
        if found is not None:
            return found
    if shape.spreads:
        return None
    if "," in shape.partition:
        # 整个作业在一个分区里，照那个分区的规则；层级高的先试。
        for option in cluster.by_partition(shape):
            found = place(cluster, option, free, placement, usable & cluster.acceptable(option))
            if found is not None:
                return found
        return None
    capacity = np.where(usable, cluster.capacity(shape, free), 0)
    for choice in _choices(cluster, shape, capacity):
        picked = _pick(cluster, shape, choice, free, placement)
        if picked is not None:
            return picked
    return None


def _place_together(
    cluster: Cluster, shape: Shape, free: IntArray, placement: Placement, usable: BoolArray
) -> tuple[NodeShare, ...] | None:
    """异构作业的各个部分一起放下；前一个部分占去的后一个用不到。难放的（合用的节点少、要的多）先放，不成再换次序。"""
    parts = shape.components
    room = [int((cluster.capacity(part, free) * (usable & cluster.acceptable(part)) > 0).sum()) for part in parts]
    hardest = sorted(
        range(len(parts)), key=lambda index: (room[index], -parts[index].tasks * parts[index].cpus_per_task)
    )
    for order in islice(permutations(hardest), MOST_COMPONENT_ORDERS):
        left, found = free.copy(), dict[int, list[NodeShare]]()
        for index in order:
            shares = place(cluster, parts[index], left, placement, usable & cluster.acceptable(parts[index]))
            if shares is None:
                break
            found[index] = [replace(share, component=index) for share in shares]
            for share in shares:
                left[share.node] -= cluster.share_vector(share)
        else:
            return tuple(share for index in range(len(parts)) for share in found[index])
    return None


def unavailable_nodes(cluster: Cluster, shape: Shape) -> list[str] | None:
    """只因为节点下线或排空才放不下时，是哪些节点；节点都在也放不下、或现有的节点空出来就够时是 None。"""
    if cluster.schedulable[: cluster.count].all():
        return None
    acceptable = cluster.acceptable(shape)
    absent = acceptable & ~cluster.schedulable[: cluster.count]
    total = cluster.total[: cluster.count]
    if not absent.any() or place(cluster, shape, total, Placement.BEST_FIT) is not None:
        return None
    if place(cluster, shape, total, Placement.BEST_FIT, acceptable) is None:
        return None
    if shape.required_nodes:
        absent &= np.isin(np.arange(cluster.count), [cluster.index.get(name, -1) for name in shape.required_nodes])
    return [cluster.names[int(node)] for node in np.flatnonzero(absent)] or None


def _choices(cluster: Cluster, shape: Shape, capacity: IntArray) -> list[IntArray]:
    """方括号的特性要求全部节点满足同一项：逐项试。"""
    if shape.constraints is None:
        return [capacity]
    options = features.alternatives(features.parse_features(shape.constraints))
    if len(options) == 1:
        return [capacity]
    found = []
    for option in options:
        mask = np.fromiter((features.satisfied(option, words) for words in cluster.features), np.bool_, cluster.count)
        found.append(np.where(mask, capacity, 0))
    return found


def _pick(
    cluster: Cluster, shape: Shape, capacity: IntArray, free: IntArray, placement: Placement
) -> tuple[NodeShare, ...] | None:
    required = [cluster.index.get(name, -1) for name in shape.required_nodes]
    if any(node < 0 or capacity[node] == 0 for node in required):
        return None
    most = shape.maximum_nodes or cluster.count
    if not required and shape.minimum_nodes == 1 and widest_nodes(cluster, shape) <= 1:
        whole = np.flatnonzero(capacity >= shape.tasks)
        if whole.size:
            node = int(candidate_order(cluster, whole, free, placement)[0])
            return (cluster.share(shape, node, shape.tasks, free[node]),)
        if most == 1:
            return None
    for choice in _switch_choices(cluster, shape, capacity, placement):
        picked = _pick_nodes(cluster, shape, choice, free, placement, required)
        if picked is not None:
            return picked
    return None


def _pick_nodes(
    cluster: Cluster, shape: Shape, capacity: IntArray, free: IntArray, placement: Placement, required: list[int]
) -> tuple[NodeShare, ...] | None:
    most = shape.maximum_nodes or cluster.count
    usable = np.flatnonzero(capacity > 0)
    if usable.size < shape.minimum_nodes or any(capacity[node] == 0 for node in required):
        return None
    if shape.contiguous:
        run = _contiguous(cluster, shape, capacity, required, most, widest_nodes(cluster, shape))
        return None if run is None else _spread_tasks(cluster, shape, run, capacity, free)
    # 容量从大到小能用最少的节点；要照交换机或特性的次序挑的，凑不够时再这样挑一遍。
    order = candidate_order(cluster, usable, free, placement)
    largest = order[np.argsort(-np.minimum(capacity[order], shape.tasks), kind="stable")]
    orders = [largest]
    if placement is Placement.TOPOLOGY:
        orders.insert(0, _by_switch(cluster, order, capacity))
    elif shape.constraints is not None:
        orders.insert(0, order)
    for each in orders:
        chosen = _chosen(cluster, shape, each, capacity, required, most)
        if chosen is not None:
            return _spread_tasks(cluster, shape, chosen, capacity, free)
    return None


def widest_nodes(cluster: Cluster, shape: Shape) -> int:
    """有的话用到几个节点，至多到分区的上限；0 是最少的。

    受 QOS、关联的上限管着的照最少的：那些上限是照最少的算的。
    """
    if shape.widest <= shape.minimum_nodes or any(not name.startswith(LICENSE) for name, _ in shape.pools):
        return 0
    limits = [part.max_nodes for part in cluster.partitions_of(shape) if part.max_nodes is not None]
    return min([shape.widest, *limits])


def _contiguous(
    cluster: Cluster, shape: Shape, capacity: IntArray, required: list[int], most: int, widest: int
) -> list[int] | None:
    """按名字挨着的一段节点，都用得上、装得下全部任务；越短越好（有 widest 的越长越好），

    一样长的取最前。没有是 None。
    """
    order = cluster.in_name_order
    room = np.concatenate([[0], np.cumsum(np.minimum(capacity[order], shape.tasks))])
    able = np.concatenate([[0], np.cumsum(capacity[order] > 0)])
    needed = np.concatenate([[0], np.cumsum(np.isin(order, required))])
    least = max(shape.minimum_nodes, len(required))
    sizes = range(least, min(most, max(shape.tasks, shape.minimum_nodes, widest), len(order)) + 1)
    for size in reversed(sizes) if widest else sizes:
        good = (able[size:] - able[:-size] == size) & (room[size:] - room[:-size] >= shape.tasks)
        good &= needed[size:] - needed[:-size] == len(required)
        for begin in np.flatnonzero(good).tolist():
            run: list[int] = order[begin : begin + size].tolist()
            if _counts_met(cluster, shape, run):
                return run
    return None


def _chosen(
    cluster: Cluster, shape: Shape, order: IntArray, capacity: IntArray, required: list[int], most: int
) -> list[int] | None:
    """按 order 挑够为止，指名的、要几个有某特性的在前；挑不够是 None。"""
    if shape.minimum_nodes > 1 or shape.maximum_nodes is not None:
        counted = _counted_first(cluster, shape, order)
        order = order if counted is None else counted
    widest = widest_nodes(cluster, shape)
    least = max(shape.minimum_nodes, len(required), widest)
    chosen: list[int] = []
    room = 0
    for node in [*required, *(int(node) for node in order if int(node) not in required)]:
        if len(chosen) >= most or (len(chosen) >= least and room >= shape.tasks):
            break
        chosen.append(node)
        room += int(capacity[node])
    most = max(shape.tasks, shape.minimum_nodes, widest)
    if len(chosen) < shape.minimum_nodes or room < shape.tasks or len(chosen) > most:
        return None
    return chosen if _counts_met(cluster, shape, chosen) else None


def _switch_choices(cluster: Cluster, shape: Shape, capacity: IntArray, placement: Placement) -> Iterator[IntArray]:
    """依次试哪些节点：限了交换机数的，是各种够的交换机组合；topology 的，是交换机树里由小到大的子树。

    节点的拓扑是从根到叶的路径，如 root/rack1/leaf3；都没有写拓扑的集群不看交换机。
    """
    if not any(cluster.switches):
        yield capacity
        return
    leaves: dict[str, list[int]] = defaultdict(list)
    for node in np.flatnonzero(capacity > 0).tolist():
        leaves[cluster.switches[node]].append(node)
    if shape.switches is not None:
        for names in _leaf_sets(shape, leaves, capacity):
            yield _only(capacity, [node for name in names for node in leaves[name]])
        return
    if placement is Placement.TOPOLOGY and not shape.spread:
        subtrees: dict[str, list[int]] = defaultdict(list)
        for name, nodes in leaves.items():
            parts = [part for part in name.split("/") if part]
            for depth in range(1, len(parts) + 1):
                subtrees["/".join(parts[:depth])].extend(nodes)
        enough = [
            (-name.count("/"), int(capacity[nodes].sum()), name)
            for name, nodes in subtrees.items()
            if len(nodes) >= shape.minimum_nodes and int(capacity[nodes].sum()) >= shape.tasks
        ]
        for _, _, name in sorted(enough):
            yield _only(capacity, subtrees[name])
    yield capacity


def _only(capacity: IntArray, nodes: list[int]) -> IntArray:
    found = np.zeros_like(capacity)
    found[nodes] = capacity[nodes]
    return found


def _leaf_sets(shape: Shape, leaves: dict[str, list[int]], capacity: IntArray) -> Iterator[tuple[str, ...]]:
    """至多 shape.switches 个叶交换机的组合，够的才要；用得少的、余得少的先试。

    组合太多时只试容量与节点数最大的那些：宁可多等，不会超过所要的数。
    """
    assert shape.switches is not None
    room = {name: int(capacity[nodes].sum()) for name, nodes in leaves.items()}
    for count in range(1, min(shape.switches, len(leaves)) + 1):
        names = sorted(leaves, key=lambda name: (-room[name], -len(leaves[name]), name))
        while comb(len(names), count) > MOST_LEAF_SETS:
            names = names[: max(count, len(names) // 2)]
        found = [
            (sum(room[name] for name in chosen), chosen)
            for chosen in combinations(names, count)
            if sum(room[name] for name in chosen) >= shape.tasks
            and sum(len(leaves[name]) for name in chosen) >= shape.minimum_nodes
        ]
        yield from (chosen for _, chosen in sorted(found))


def _by_switch(cluster: Cluster, order: IntArray, capacity: IntArray) -> IntArray:
    """一个交换机下的排在一起，容量大的交换机在前：用到的交换机最少。"""
    groups: dict[str, list[int]] = defaultdict(list)
    for node in order.tolist():
        groups[cluster.switches[node]].append(node)
    ranked = sorted(groups.values(), key=lambda nodes: -int(capacity[nodes].sum()))
    return np.array([node for nodes in ranked for node in nodes], dtype=np.int64)


def _counted_first(cluster: Cluster, shape: Shape, order: IntArray) -> IntArray | None:
    """要求“至少几个节点有某特性”的，把有的排在前面。"""
    wanted = features.counted(features.parse_features(shape.constraints)) if shape.constraints else {}
    if not wanted:
        return None
    first: list[int] = []
    for name, count in wanted.items():
        having = [int(node) for node in order if name in cluster.features[int(node)] and int(node) not in first]
        first.extend(having[:count])
    return np.array([*first, *(int(node) for node in order if int(node) not in first)], dtype=np.int64)


def _counts_met(cluster: Cluster, shape: Shape, chosen: list[int]) -> bool:
    wanted = features.counted(features.parse_features(shape.constraints)) if shape.constraints else {}
    return all(sum(name in cluster.features[node] for node in chosen) >= count for name, count in wanted.items())


def _spread_tasks(
    cluster: Cluster, shape: Shape, chosen: list[int], capacity: IntArray, free: IntArray
) -> tuple[NodeShare, ...] | None:
    """每个节点至少一个任务，其余尽量平均。任务少于节点数时（--nodes 多于 --ntasks）多出的节点各占一个任务的份额。"""
    chosen = sorted(chosen)
    tasks = dict.fromkeys(chosen, 1)
    left = shape.tasks - len(chosen)
    while left > 0:
        open_nodes = [node for node in chosen if tasks[node] < capacity[node]]
        if not open_nodes:
            return None
        each = max(1, left // len(open_nodes))
        for node in open_nodes:
            more = min(each, left, int(capacity[node]) - tasks[node])
            tasks[node] += more
            left -= more
            if left == 0:
                break
    return tuple(cluster.share(shape, node, count, free[node]) for node, count in tasks.items())
