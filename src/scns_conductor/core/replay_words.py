"""重放（scns simulate、API 的「假如」）里用户写的词：策略、节点、时长。只认写法，不碰模拟器：写错了，API 当场就答。"""

import re
from dataclasses import dataclass

from scns_conductor.core.units import parse_memory_mb, parse_time_limit

# 排队的次序；fifo 之外的按分数，见 scheduling/policy。
ORDERS = ("fifo", "sjf", "wfp3", "f1", "unicep", "multifactor")
BACKFILLS = ("none", "easy", "easy_predicted", "conservative")
# 照线上的次序与回填（--live）。
LIVE = "live"
_SHORT = {
    "live": (LIVE, LIVE),
    "fifo": ("fifo", "none"),
    "easy": ("fifo", "easy"),
    "easy_predicted": ("fifo", "easy_predicted"),
    "conservative": ("fifo", "conservative"),
}
# 踪迹多半不记内存；没有写内存的节点按“够用”处理。
UNCOUNTED_MEMORY_MB = 2**31 - 1
MAX_NODES = 100_000
MAX_CPUS = 10_000_000
_SPAN = re.compile(r"^(\d{1,9})([smhd])$", re.IGNORECASE)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class PolicyWords:
    """label 是用户的写法，order 与 backfill 是它说的次序与回填。"""

    label: str
    order: str
    backfill: str


def parse_policy_words(text: str) -> list[PolicyWords]:
    """逗号分隔的策略名。sjf、wfp3、f1、unicep、multifactor 缺省配 EASY 回填，也可写 `sjf+none`、`sjf+conservative`。

    不认识、重复、空时抛 ValueError（中文原因）。
    """
    found: list[PolicyWords] = []
    for word in (part.strip().lower() for part in text.split(",")):
        if not word:
            raise ValueError("策略名不能为空")
        order, plus, backfill = word.partition("+")
        if not plus:
            order, backfill = _SHORT.get(word, (word, "easy"))
        if (order, backfill) != (LIVE, LIVE) and (order not in ORDERS or backfill not in BACKFILLS):
            raise ValueError(
                f"不认识的策略 {word!r}；可用 {'、'.join(name for name in _SHORT if name != LIVE)}、"
                f"{'、'.join(ORDERS[1:])}，以及“次序+回填”的写法，回填可为 {'、'.join(BACKFILLS)}"
            )
        if any(each.label == word for each in found):
            raise ValueError(f"策略 {word!r} 写了两次")
        found.append(PolicyWords(word, order, backfill))
    return found


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """count 个相同的节点；memory_mb 为 UNCOUNTED_MEMORY_MB 表示不计内存。"""

    count: int
    cpus: int
    memory_mb: int = UNCOUNTED_MEMORY_MB
    gpus: int = 0


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


def parse_span(text: str) -> int:
    """时长 -> 秒：`90s`、`30m`、`24h`、`2d`，或 Slurm 的写法（无单位是分钟）。不合法时抛 ValueError（中文原因）。"""
    if found := _SPAN.match(text.strip()):
        seconds: int | None = int(found[1]) * _UNIT_S[found[2].lower()]
    else:
        seconds = parse_time_limit(text)
    if not seconds:
        raise ValueError(f"{text!r} 应是大于 0 的时长，例如 24h、2d、1-00:00:00")
    return seconds
