"""作业步从作业的分配里分到的内存与通用资源（srun(1) 的 --mem*、--gpus*、--gres）。纯计算。

没有写的不细分：步看得见作业的全部，也不占；写了的归它独用，直到它结束，--overlap 的不占。
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scns_conductor.core.task_layout import LayoutError


@dataclass(frozen=True, slots=True)
class StepShare:
    """一个节点上分给一步的。memory 单位 MiB，0 表示不细分；gres 是数目，ids 是其中加速卡的序号。

    divided 表示 GPU 细分了：看得见的只有 ids 里的。
    """

    memory: int = 0
    gres: dict[str, int] = field(default_factory=dict)
    ids: dict[str, list[int]] = field(default_factory=dict)
    divided: bool = False

    def to_json(self) -> dict[str, Any]:
        """存进数据库、交给节点的样子。"""
        return {"memory": self.memory, "gres": self.gres, "ids": self.ids, "divided": self.divided}


@dataclass(frozen=True, slots=True)
class NodeShare:
    """作业在一个节点上的内存（MiB）、通用资源、加速卡的序号，以及正在跑的各步占着的份额。"""

    name: str
    memory: int
    gres: Mapping[str, int]
    ids: Mapping[str, Sequence[int]]
    taken: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class StepWants:
    """每一步要的；None 与空的不细分。per_step 是各节点合计，memory 单位 MiB。

    nothing 表示写了 --gres=none：看不见任何 GPU。
    """

    per_step: Mapping[str, int] = field(default_factory=dict)
    per_node: Mapping[str, int] = field(default_factory=dict)
    per_task: Mapping[str, int] = field(default_factory=dict)
    memory_per_node: int | None = None
    memory_per_cpu: int | None = None
    memory_per_gpu: int | None = None
    nothing: bool = False
    overlap: bool = False

    @property
    def empty(self) -> bool:
        """什么也没写。"""
        return not (self.per_step or self.per_node or self.per_task or self.nothing) and (
            self.memory_per_node is self.memory_per_cpu is self.memory_per_gpu is None
        )


def share_out(nodes: Sequence[tuple[NodeShare, int, int]], wants: StepWants) -> list[StepShare]:
    """nodes 是（节点, 任务数, CPU 数）；返回各节点上的份额，次序相同。

    此刻被别的步占着抛 LayoutError(busy)，作业根本没有这么多抛 LayoutError。
    """
    spread = _spread(nodes, wants)
    return [_share(node, tasks, cpus, extra, wants) for (node, tasks, cpus), extra in zip(nodes, spread, strict=True)]


def _spread(nodes: Sequence[tuple[NodeShare, int, int]], wants: StepWants) -> list[dict[str, int]]:
    """--gpus=N 分到各节点：每个节点先有一个，余下的按次序放到还有的节点上。"""
    found: list[dict[str, int]] = [{} for _ in nodes]
    for name, total in wants.per_step.items():
        left = total
        room = [_total(node.gres, name) for node, _, _ in nodes]
        now = [_total(_free(node, wants), name) for node, _, _ in nodes]
        if total > sum(room):
            raise LayoutError(f"要 {name}:{total}，作业在这些节点上只有 {sum(room)} 个", field="gres")
        if total > sum(now):
            raise LayoutError(f"要 {name}:{total}，此刻有的被别的作业步占着", busy=True)
        for index in range(len(nodes)):
            # 后面的节点各留一个；前面的能放多少放多少。
            behind = sum(1 for each in now[index + 1 :] if each)
            part = max(0, min(now[index], left - behind)) or min(now[index], left)
            found[index][name] = part
            left -= part
    return found


def _share(node: NodeShare, tasks: int, cpus: int, extra: Mapping[str, int], wants: StepWants) -> StepShare:
    gres: dict[str, int] = {}
    for wanted, times in ((wants.per_node, 1), (wants.per_task, tasks), (extra, 1)):
        for name, count in wanted.items():
            gres[name] = gres.get(name, 0) + count * times
    counts: dict[str, int] = {}
    ids: dict[str, list[int]] = {}
    free, free_ids = _free(node, wants), _free_ids(node, wants)
    for name, count in gres.items():
        if count > _total(node.gres, name):
            raise LayoutError(
                f"节点 {node.name} 上要 {name}:{count}，作业只有 {_total(node.gres, name)} 个", field="gres"
            )
        if count > _total(free, name):
            raise LayoutError(f"节点 {node.name} 上要 {name}:{count}，此刻有的被别的作业步占着", busy=True)
        for kind in _matching(node.gres, name):
            part = min(count, free.get(kind, 0))
            if not part:
                continue
            counts[kind] = counts.get(kind, 0) + part
            free[kind] -= part
            count -= part
            if kind in free_ids:
                ids[kind] = sorted([*ids.get(kind, []), *free_ids[kind][:part]])
                del free_ids[kind][:part]
    divided = wants.nothing or any(name.split(":")[0] == "gpu" for name in gres)
    gpus = sum(count for name, count in counts.items() if name.split(":")[0] == "gpu")
    return StepShare(_memory(node, cpus, gpus, wants), counts, ids, divided)


def _memory(node: NodeShare, cpus: int, gpus: int, wants: StepWants) -> int:
    if wants.memory_per_node is not None:
        wanted = wants.memory_per_node or node.memory
    elif wants.memory_per_cpu is not None:
        wanted = wants.memory_per_cpu * max(1, cpus)
    elif wants.memory_per_gpu is not None:
        wanted = wants.memory_per_gpu * gpus
    else:
        return 0
    if not node.memory:
        # 作业没有内存的额度：步的上限照写的执行，没有可分的。
        return wanted
    if wanted > node.memory:
        raise LayoutError(f"节点 {node.name} 上要 {wanted} MiB 内存，作业只有 {node.memory} MiB", field="memory")
    taken = 0 if wants.overlap else sum(int(each.get("memory") or 0) for each in node.taken)
    if wanted > node.memory - taken:
        raise LayoutError(f"节点 {node.name} 上要 {wanted} MiB 内存，此刻有的被别的作业步占着", busy=True)
    return wanted


def _matching(gres: Mapping[str, int], name: str) -> list[str]:
    """gpu 也指 gpu:a100；gpu:a100 在作业只写了 gpu 时指那些没有型号的。"""
    kind, _, model = name.partition(":")
    exact = [each for each in gres if each == name]
    if not model:
        return exact + sorted(each for each in gres if each.startswith(f"{kind}:"))
    return exact or [each for each in gres if each == kind]


def _total(gres: Mapping[str, int], name: str) -> int:
    return sum(gres[each] for each in _matching(gres, name))


def _free(node: NodeShare, wants: StepWants) -> dict[str, int]:
    free = dict(node.gres)
    if not wants.overlap:
        for taken in node.taken:
            for name, count in (taken.get("gres") or {}).items():
                free[name] = max(0, free.get(name, 0) - count)
    return free


def _free_ids(node: NodeShare, wants: StepWants) -> dict[str, list[int]]:
    busy: set[tuple[str, int]] = set()
    if not wants.overlap:
        for taken in node.taken:
            busy |= {(name, index) for name, ids in (taken.get("ids") or {}).items() for index in ids}
    return {name: [index for index in ids if (name, index) not in busy] for name, ids in node.ids.items()}
