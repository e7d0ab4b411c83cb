"""一个任务的内存放在哪些 NUMA 节点（srun(1) 的 --mem-bind）。纯计算。"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_NODES = 1024
_WORDS = frozenset({"none", "no", "local", "rank", "sort", "nosort", "v", "verbose", "q", "quiet", "p", "prefer"})
_LISTED = re.compile(r"(map_mem|mask_mem):(.+)")


@dataclass(frozen=True, slots=True)
class MemoryBind:
    """kind 为空是不绑；numbers 是 map_mem、mask_mem 列出的；prefer 是放不下时可以用别的节点。"""

    kind: str = ""
    numbers: tuple[int, ...] = ()
    prefer: bool = False

    def nodes(self, local: int, own: Sequence[int]) -> list[int] | None:
        """本节点上第 local 个任务的；own 是它的核所在的 NUMA 节点，不知道是空的。不绑是 None。"""
        if self.kind == "local":
            return list(own) or None
        if self.kind == "rank":
            return [local]
        if not self.numbers:
            return None
        number = self.numbers[local % len(self.numbers)]
        if self.kind == "map_mem":
            return [number]
        return [node for node in range(number.bit_length()) if number >> node & 1] or None


def memory_bind(text: str | None) -> MemoryBind:
    """'verbose,map_mem:0,1' -> map_mem；写错抛 ValueError（中文原因）。sort、verbose 收下不用。"""
    kind, numbers, prefer = "", [], False
    rest = (text or "").strip().lower()
    while rest:
        match = _LISTED.fullmatch(rest)
        if match is not None:
            kind, rest = match[1], ""
            numbers = [_number(word, 16 if kind == "mask_mem" else 0) for word in match[2].split(",")]
            continue
        word, _, rest = rest.partition(",")
        if word not in _WORDS:
            raise ValueError(f"不认识的 mem_bind {text!r}；可用 none、local、rank、map_mem:0,1、mask_mem:0x3、prefer")
        if word in ("local", "rank"):
            kind = word
        prefer = prefer or word in ("p", "prefer")
    return MemoryBind(kind, tuple(numbers), prefer)


def _number(word: str, base: int) -> int:
    try:
        number = int(word, base)
    except ValueError:
        raise ValueError(f"mem_bind 的 {word!r} 不是数") from None
    if number < 0 or (number >= _MOST_NODES if base == 0 else number.bit_length() > _MOST_NODES):
        raise ValueError(f"mem_bind 的 {word!r} 太大")
    return number
