"""被模拟的机器：若干组相同的节点。写法见 core/replay_words。"""

from dataclasses import dataclass

from scns_conductor.core.replay_words import MAX_CPUS, UNCOUNTED_MEMORY_MB, NodeGroup


@dataclass(frozen=True, slots=True)
class Machine:
    """机器。SWF 只记处理器数，所以缺省把整台机器当作一个大节点（处理器池），处理器够就放得下。"""

    groups: tuple[NodeGroup, ...]

    @property
    def cpus(self) -> int:
        """CPU 总数。"""
        return sum(group.count * group.cpus for group in self.groups)

    @property
    def gpus(self) -> int:
        """GPU 总数。"""
        return sum(group.count * group.gpus for group in self.groups)

    @property
    def nodes(self) -> int:
        """节点总数；处理器池算一个。"""
        return sum(group.count for group in self.groups)

    def describe(self) -> str:
        """给人看的一句话。"""
        return "，".join(
            f"{group.count} 个节点 × {group.cpus} CPU"
            + (f" + {group.gpus} GPU" if group.gpus else "")
            + (f" + {group.memory_mb} MiB" if group.memory_mb != UNCOUNTED_MEMORY_MB else "")
            for group in self.groups
        )


def processor_pool(cpus: int, gpus: int = 0) -> NodeGroup:
    """cpus 个处理器的池子。不是正数或太大时抛 ValueError（中文原因）。"""
    if not 1 <= cpus <= MAX_CPUS:
        raise ValueError(f"处理器数 {cpus} 应在 1 与 {MAX_CPUS} 之间")
    return NodeGroup(1, cpus, gpus=gpus)
