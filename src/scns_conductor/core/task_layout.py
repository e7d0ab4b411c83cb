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

    whole 表示占住用到的节点上作业的全部 CPU（没有 --exact 也没有 --overlap 的 srun）；overlap 表示不论别的步占了多少。
    relative 是从作业的第几个节点用起（-r）；overcommit 表示任务可以比 CPU 多（-O）。
    """

    tasks: int | None = None
    nodes: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int = 1
    node_names: tuple[str, ...] = ()
    cyclic: bool = False
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
    candidates = _candidates(nodes, shape)
    usable = [node for node in candidates if shape.overlap or _room(node, shape) > 0]
    count = _node_count(candidates, usable, shape)
    tasks = _task_count(candidates, count, shape)
    chosen = usable[:count]
    counts = _counts(chosen, tasks, shape)
    ranks = _ranks(counts, cyclic=shape.cyclic)
    return [
        NodeTasks(node.name, tuple(mine), _held_cpus(node, len(mine), shape))
        for node, mine in zip(chosen, ranks, strict=True)
        if mine
    ]


def _candidates(nodes: Sequence[StepNode], shape: StepShape) -> list[StepNode]:
    if shape.relative:
        if shape.relative >= len(nodes):
            raise LayoutError(f"从第 {shape.relative} 个节点用起，作业只有 {len(nodes)} 个节点")
        nodes = nodes[shape.relative :]
    if not shape.node_names:
        return list(nodes)
    by_name = {node.name: node for node in nodes}
    missing = [name for name in shape.node_names if name not in by_name]
    if missing:
        raise LayoutError(f"节点 {missing[0]} 不是这个作业的")
    wanted = [node for node in nodes if node.name in shape.node_names]
    # -w 之外还可以用别的节点，只要 -N 要得更多（srun(1) --nodelist）。
    return wanted + [node for node in nodes if node.name not in shape.node_names]


def _room(node: StepNode, shape: StepShape) -> int:
    """此刻还能放几个任务；占整节点的步只能在完全空着的节点上。"""
    if shape.whole and node.free_cpus < node.cpus:
        return 0
    if shape.overcommit:
        return (shape.tasks or node.free_cpus) if node.free_cpus else 0
    return node.free_cpus // shape.cpus_per_task


def _node_count(candidates: list[StepNode], usable: list[StepNode], shape: StepShape) -> int:
    count = shape.nodes or len(shape.node_names) or None
    if count is None:
        count = len(candidates)
        if shape.tasks is not None:
            count = min(count, shape.tasks)
        if not shape.whole and not shape.overlap:
            # --exact：用得上几个就几个，此刻满了的不等。
            return max(1, min(count, len(usable))) if usable else _refuse_busy(1)
    if count > len(candidates):
        raise LayoutError(f"要 {count} 个节点，作业只有 {len(candidates)} 个")
    if shape.tasks is not None and shape.tasks < count:
        count = shape.tasks
    if count > len(usable):
        return _refuse_busy(count)
    return count


def _refuse_busy(count: int) -> int:
    raise LayoutError(f"要 {count} 个节点，此刻有的被别的作业步占着", busy=True)


def _task_count(candidates: list[StepNode], count: int, shape: StepShape) -> int:
    if shape.tasks is not None:
        return shape.tasks
    if shape.tasks_per_node is not None:
        return shape.tasks_per_node * count
    return max(count, sum(node.tasks for node in candidates[:count]))


def _counts(chosen: list[StepNode], tasks: int, shape: StepShape) -> list[int]:
    """每个节点几个任务：先按作业分给它的个数成块地放满，多出来的在放得下的节点上一轮一个地加。"""
    most = [tasks if shape.overcommit else max(1, node.cpus // shape.cpus_per_task) for node in chosen]
    if not shape.overlap:
        now = [_room(node, shape) for node in chosen]
        if sum(now) < tasks <= sum(most):
            raise LayoutError(f"要 {tasks} 个任务、每个 {shape.cpus_per_task} 个 CPU，此刻放不下", busy=True)
        if sum(most) < tasks:
            raise LayoutError(f"要 {tasks} 个任务、每个 {shape.cpus_per_task} 个 CPU，超过了作业的分配")
        most = now
    if shape.tasks_per_node is not None:
        most = [min(room, shape.tasks_per_node) for room in most] if not shape.overlap else most
        if shape.tasks_per_node * len(chosen) < tasks:
            raise LayoutError(f"{len(chosen)} 个节点、每节点至多 {shape.tasks_per_node} 个任务，放不下 {tasks} 个")
    quota = [shape.tasks_per_node or max(1, node.tasks) for node in chosen]
    counts = [0] * len(chosen)
    # 每个节点先有一个：要了几个节点就用几个。
    for index in range(min(len(chosen), tasks)):
        counts[index] = 1
    left = tasks - sum(counts)
    for index in range(len(chosen)):
        more = max(0, min(left, quota[index] - counts[index], most[index] - counts[index]))
        counts[index] += more
        left -= more
    while left:
        open_nodes = [index for index in range(len(chosen)) if shape.overlap or counts[index] < most[index]]
        if not open_nodes:
            raise LayoutError(f"要 {tasks} 个任务，{len(chosen)} 个节点放不下", busy=not shape.overlap)
        for index in open_nodes[:left]:
            counts[index] += 1
        left -= min(left, len(open_nodes))
    return counts


def _ranks(counts: list[int], *, cyclic: bool) -> list[list[int]]:
    ranks: list[list[int]] = [[] for _ in counts]
    if not cyclic:
        first = 0
        for index, count in enumerate(counts):
            ranks[index] = list(range(first, first + count))
            first += count
        return ranks
    rank = 0
    while rank < sum(counts):
        for index, count in enumerate(counts):
            if len(ranks[index]) < count:
                ranks[index].append(rank)
                rank += 1
    return ranks


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
