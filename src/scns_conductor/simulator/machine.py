"""被模拟的机器：若干组相同的节点。写法见 parse_nodes。"""

from dataclasses import dataclass

from scns_conductor.core.units import parse_memory_mb

# 踪迹多半不记内存；没有写内存的节点按“够用”处理。
UNCOUNTED_MEMORY_MB = 2**31 - 1
MAX_NODES = 100_000
MAX_CPUS = 10_000_000


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """count 个相同的节点；memory_mb 为 UNCOUNTED_MEMORY_MB 表示不计内存。"""

    count: int
    cpus: int
    memory_mb: int = UNCOUNTED_MEMORY_MB
    gpus: int = 0


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


def parse_nodes(text: str) -> NodeGroup:
    """`节点数:每节点CPU[:gpu:数][:mem:大小]`，如 `4:64:gpu:2:mem:256G`。不合法时抛 ValueError（中文原因）。"""
    words = [word.strip() for word in text.split(":")]
    help_text = "写法是 节点数:每节点CPU[:gpu:数][:mem:大小]，例如 4:64:gpu:2:mem:256G"
    if len(words) < 2 or len(words) % 2:
        raise ValueError(f"无法识别的节点 {text!r}；{help_text}")
    count, cpus = _positive(words[0], help_text), _positive(words[1], help_text)
    memory_mb, gpus = UNCOUNTED_MEMORY_MB, 0
    for key, value in zip(words[2::2], words[3::2], strict=True):
        match key.lower():
            case "gpu":
                gpus = _positive(value, help_text)
            case "mem":
                memory_mb = parse_memory_mb(value)
                if memory_mb <= 0:
                    raise ValueError("节点的内存必须大于 0")
            case _:
                raise ValueError(f"不认识的资源 {key!r}；{help_text}")
    if count > MAX_NODES or count * cpus > MAX_CPUS:
        raise ValueError(f"节点 {text!r} 太多；至多 {MAX_NODES} 个节点、{MAX_CPUS} 个 CPU")
    return NodeGroup(count, cpus, memory_mb, gpus)


def _positive(word: str, help_text: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 9 and int(word) > 0):
        raise ValueError(f"{word!r} 应是正整数；{help_text}")
    return int(word)
