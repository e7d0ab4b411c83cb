"""作业步的任务怎样摆到节点上（srun(1) 的 -N、-n、-c、--ntasks-per-node、-m）。纯计算。"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


class LayoutError(ValueError):
    """摆不下。busy 为真表示只是此刻被别的作业步占着，过一会儿再来；field 是缺的那一种（API 的字段）。"""

    def __init__(self, message: str, *, busy: bool = False, field: str = "tasks") -> None:
        super().__init__(message)
        self.busy = busy
        self.field = field


@dataclass(frozen=True, slots=True)
class StepNode:
    """作业的一个节点：分给作业的 CPU 数，其中此刻没有被别的作业步占着的，以及分到的任务数。"""

    name: str
    cpus: int
    free_cpus: int
    tasks: int


@dataclass(frozen=True, slots=True)
class StepShape:
    """作业步要的。tasks 为 None 时每节点 tasks_per_node 个（没写则按作业的任务数）。

    nodes 是最少几个节点，most_nodes 是最多（没写与 nodes 相同）。
    plane 是怎样发任务：0 成块（-m block），1 轮流（cyclic），更大的是每轮每节点几个（plane=N）。
    pack 是成块时放满一个再放下一个。
    hosts 是逐个任务所在的节点（-m arbitrary），写了它就不看前面的。
    whole 表示占住用到的节点上作业的全部 CPU（没有 --exact 也没有 --overlap 的 srun）；overlap 表示不论别的步占了多少。
    relative 是从作业的第几个节点用起（-r）；overcommit 表示任务可以比 CPU 多（-O）。
    """

    tasks: int | None = None
    nodes: int | None = None
    most_nodes: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int = 1
    node_names: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    plane: int = 0
    pack: bool = False
    hosts: tuple[str, ...] = ()
    whole: bool = True
    overlap: bool = False
    relative: int = 0
    overcommit: bool = False


@dataclass(frozen=True, slots=True)
class NodeTasks:
    """一个节点上的任务序号，以及这一步在它上面占的 CPU 数（overlap 的不占，为 0）。"""

    name: str
    ranks: tuple[int, ...]
    cpus: int


def lay_out(nodes: Sequence[StepNode], shape: StepShape) -> list[NodeTasks]:
    """摆好的节点，次序与作业的相同，每个至少一个任务。摆不下抛 LayoutError（中文原因）。"""
    if shape.hosts:
        chosen, owners = _as_listed(nodes, shape)
    else:
        chosen, owners = _dealt(nodes, shape)
    ranks: list[list[int]] = [[] for _ in chosen]
    # 成块的：各节点几个已经定了，序号改成连着的。
    for rank, index in enumerate(owners if shape.hosts or shape.plane else sorted(owners)):
        ranks[index].append(rank)
    return [
        NodeTasks(node.name, tuple(mine), _held_cpus(node, len(mine), shape))
        for node, mine in zip(chosen, ranks, strict=True)
        if mine
    ]


def _as_listed(nodes: Sequence[StepNode], shape: StepShape) -> tuple[list[StepNode], list[int]]:
    """-m arbitrary：逐个任务所在的节点。"""
    positions = {node.name: index for index, node in enumerate(nodes)}
    for name in shape.hosts:
        if name not in positions:
            raise LayoutError(f"节点 {name} 不是这个作业的", field="nodes")
    tasks = shape.tasks or len(shape.hosts)
    if tasks > len(shape.hosts):
        raise LayoutError(f"要 {tasks} 个任务，节点的列表只有 {len(shape.hosts)} 个")
    owners = [positions[name] for name in shape.hosts[:tasks]]
    counts = [owners.count(index) for index in range(len(nodes))]
    for node, count in zip(nodes, counts, strict=True):
        if count > _most(node, shape):
            raise LayoutError(f"要在 {node.name} 上放 {count} 个任务，超过了作业在它上面的 CPU")
        if not shape.overlap and count > _room(node, shape):
            raise LayoutError(f"{node.name} 此刻放不下 {count} 个任务", busy=True)
    return list(nodes), owners


def _dealt(nodes: Sequence[StepNode], shape: StepShape) -> tuple[list[StepNode], list[int]]:
    candidates = [node for node in _candidates(nodes, shape) if _most(node, shape)]
    if not candidates:
        raise LayoutError(f"每个任务 {shape.cpus_per_task} 个 CPU，作业在哪个节点上都没有这么多")
    usable = [node for node in candidates if shape.overlap or _room(node, shape) > 0]
    count = _node_count(candidates, usable, shape)
    tasks = _task_count(candidates, count, shape)
    chosen = usable[:count]
    if not shape.node_names and sum(_most(node, shape) for node in chosen) < tasks:
        # 前几个放不下：换成最大的几个。
        chosen = sorted(usable, key=lambda node: -_most(node, shape))[:count]
    chosen = [node for node in nodes if node in chosen]
    return chosen, _deal(_rooms(chosen, tasks, shape), tasks, shape)


def _candidates(nodes: Sequence[StepNode], shape: StepShape) -> list[StepNode]:
    if shape.relative:
        if shape.relative >= len(nodes):
            raise LayoutError(f"从第 {shape.relative} 个节点用起，作业只有 {len(nodes)} 个节点", field="nodes")
        nodes = nodes[shape.relative :]
    by_name = {node.name: node for node in nodes}
    missing = [name for name in shape.node_names if name not in by_name]
    if missing:
        raise LayoutError(f"节点 {missing[0]} 不是这个作业的", field="nodes")
    if set(shape.node_names) & set(shape.excluded):
        raise LayoutError("同一个节点既要用又排除", field="nodes")
    nodes = [node for node in nodes if node.name not in shape.excluded]
    if not nodes:
        raise LayoutError("作业的节点都排除掉了", field="nodes")
    wanted = [node for node in nodes if node.name in shape.node_names]
    # -w 的先用；没有写 -N 的步仍用作业的全部节点，它只说哪些一定要有（srun(1) --nodelist）。
    return wanted + [node for node in nodes if node.name not in shape.node_names]


def _most(node: StepNode, shape: StepShape) -> int:
    """节点上至多几个任务，不论此刻谁占着。"""
    if shape.overcommit:
        return shape.tasks or max(node.cpus, shape.tasks_per_node or 0)
    return node.cpus // shape.cpus_per_task


def _room(node: StepNode, shape: StepShape) -> int:
    """此刻还能放几个任务；占整节点的步只能在完全空着的节点上。"""
    if shape.whole and node.free_cpus < node.cpus:
        return 0
    if shape.overcommit:
        return (shape.tasks or max(node.free_cpus, shape.tasks_per_node or 0)) if node.free_cpus else 0
    return node.free_cpus // shape.cpus_per_task


def _node_count(candidates: list[StepNode], usable: list[StepNode], shape: StepShape) -> int:
    least = shape.nodes
    if least is None:
        count = _fewest(candidates, shape) if shape.pack else len(candidates)
        if shape.tasks is not None:
            count = min(count, shape.tasks)
        if not shape.whole and not shape.overlap:
            # --exact：用得上几个就几个，此刻满了的不等。
            return max(1, min(count, len(usable))) if usable else _refuse_busy(1)
    else:
        if least > len(candidates):
            raise LayoutError(f"要 {least} 个节点，作业只有 {len(candidates)} 个可用", field="nodes")
        # 范围之内越多越好，此刻空着的才算。
        count = max(least, min(shape.most_nodes or least, len(usable)))
    if shape.tasks is not None and shape.tasks < count:
        count = shape.tasks
    if count > len(usable):
        return _refuse_busy(count)
    return count


def _fewest(candidates: list[StepNode], shape: StepShape) -> int:
    """-m pack 没有写 -N 时只用放得下的前几个节点。"""
    room = 0
    for count, node in enumerate(candidates, 1):
        room += _most(node, shape)
        if room >= (shape.tasks or sum(each.tasks for each in candidates)):
            return count
    return len(candidates)


def _refuse_busy(count: int) -> int:
    raise LayoutError(f"要 {count} 个节点，此刻有的被别的作业步占着", busy=True)


def _task_count(candidates: list[StepNode], count: int, shape: StepShape) -> int:
    if shape.tasks is not None:
        return shape.tasks
    if shape.tasks_per_node is not None:
        return shape.tasks_per_node * count
    return max(count, sum(node.tasks for node in candidates[:count]))


def _rooms(chosen: list[StepNode], tasks: int, shape: StepShape) -> list[int]:
    """各节点可以放几个；合起来一定放得下，否则抛 LayoutError。"""
    cap = tasks if shape.tasks_per_node is None else shape.tasks_per_node
    rooms = [min(cap, _most(node, shape)) for node in chosen]
    if cap * len(chosen) < tasks:
        raise LayoutError(f"{len(chosen)} 个节点、每节点至多 {cap} 个任务，放不下 {tasks} 个")
    if sum(rooms) < tasks:
        raise LayoutError(f"要 {tasks} 个任务、每个 {shape.cpus_per_task} 个 CPU，超过了作业的分配")
    if not shape.overlap:
        rooms = [min(cap, _room(node, shape)) for node in chosen]
        if sum(rooms) < tasks:
            raise LayoutError(f"要 {tasks} 个任务、每个 {shape.cpus_per_task} 个 CPU，此刻放不下", busy=True)
    return rooms


def _deal(rooms: list[int], tasks: int, shape: StepShape) -> list[int]:
    """依次发出的任务各在第几个节点上：每个节点先有一个，再一轮一轮地发，满了的跳过（plane 一轮几个，pack 一轮发满）。

    成块的也这样定各节点几个：Slurm 缺省是摊匀，而不是放满一个再放下一个。
    """
    counts = [0] * len(rooms)
    owners: list[int] = []
    size = tasks if shape.pack and not shape.plane else max(1, shape.plane)
    if size > 1 and not shape.plane:
        _round(rooms, tasks, 1, counts, owners)
    while len(owners) < tasks:
        _round(rooms, tasks, size, counts, owners)
    return owners


def _round(rooms: list[int], tasks: int, size: int, counts: list[int], owners: list[int]) -> None:
    for index, room in enumerate(rooms):
        more = max(0, min(size, room - counts[index], tasks - len(owners)))
        counts[index] += more
        owners += [index] * more


def _held_cpus(node: StepNode, tasks: int, shape: StepShape) -> int:
    if shape.overlap:
        return 0
    if shape.whole:
        return node.cpus
    return min(tasks * shape.cpus_per_task, node.free_cpus) if shape.overcommit else tasks * shape.cpus_per_task


def repeat_list(values: Sequence[int]) -> str:
    """[2, 2, 2, 1] -> '2(x3),1'，Slurm 的 SLURM_TASKS_PER_NODE 写法。"""
    parts = []
    for value, run in groupby(values):
        count = len(list(run))
        parts.append(f"{value}(x{count})" if count > 1 else str(value))
    return ",".join(parts)
