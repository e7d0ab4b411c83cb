"""先来先服务 + 首次适应：按提交次序，把单节点作业放到第一个放得下的节点。纯函数，没有 I/O。

队首放不下时，后面的都等它（不越过）；任何节点都不可能放下的作业不挡路。
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeSpace:
    """可用节点的容量与空闲；内存 MiB。"""

    name: str
    cpus: int
    memory: int
    free_cpus: int
    free_memory: int


@dataclass(frozen=True, slots=True)
class Need:
    """一个排队的单节点作业要多少；内存 MiB，exclusive 表示整个节点。"""

    job_id: int
    cpus: int
    memory: int
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """放到哪里、给多少。"""

    job_id: int
    node_name: str
    cpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """为什么还在等：Slurm 的原因码与中文说明。"""

    job_id: int
    reason: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """一个周期的决定。"""

    placements: tuple[Placement, ...]
    waiting: tuple[Waiting, ...]


def plan_first_fit(nodes: Sequence[NodeSpace], queue: Iterable[Need]) -> Plan:
    """queue 按提交次序给出；返回启动与等待的原因。"""
    free = {node.name: [node.free_cpus, node.free_memory] for node in nodes}
    placements: list[Placement] = []
    waiting: list[Waiting] = []
    blocked = False
    for need in queue:
        if not any(node.cpus >= need.cpus and node.memory >= need.memory for node in nodes):
            waiting.append(Waiting(need.job_id, "Resources", _shortfall(nodes, need)))
            continue
        if blocked:
            waiting.append(Waiting(need.job_id, "Priority"))
            continue
        placement = next((found for node in nodes if (found := _fit(node, free[node.name], need))), None)
        if placement is None:
            blocked = True
            waiting.append(Waiting(need.job_id, "Resources"))
            continue
        space = free[placement.node_name]
        space[0] -= placement.cpus
        space[1] -= placement.memory
        placements.append(placement)
    return Plan(tuple(placements), tuple(waiting))


def _fit(node: NodeSpace, free: Sequence[int], need: Need) -> Placement | None:
    if need.exclusive:
        whole = (
            free[0] == node.cpus and free[1] == node.memory and need.cpus <= node.cpus and need.memory <= node.memory
        )
        return Placement(need.job_id, node.name, node.cpus, need.memory) if whole else None
    fits = free[0] >= need.cpus and free[1] >= need.memory
    return Placement(need.job_id, node.name, need.cpus, need.memory) if fits else None


def _shortfall(nodes: Sequence[NodeSpace], need: Need) -> str:
    if not nodes:
        return "没有可用的节点"
    largest_cpus = max(node.cpus for node in nodes)
    largest_memory = max(node.memory for node in nodes)
    return (
        f"没有节点能同时提供 {need.cpus} 个 CPU 与 {need.memory} MiB 内存；"
        f"可用节点中 CPU 最多 {largest_cpus} 个，内存最多 {largest_memory} MiB"
    )
