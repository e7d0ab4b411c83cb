"""几个作业合用一块卡：shard（Slurm 的 gres/shard）与 mps（CUDA MPS 的百分之几）。纯计算。"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

KINDS = ("shard", "mps")
_ITEM = re.compile(r"(\d{1,4}):(shard|mps):(\d{1,5})")


def parse_shares(text: str) -> dict[int, tuple[str, int]]:
    """'0:shard:4,1:mps:100' -> 卡的序号：（怎样合用, 几份）；写错抛 ValueError（中文原因）。"""
    found: dict[int, tuple[str, int]] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        match = _ITEM.fullmatch(part)
        if match is None or int(match[3]) < 1 or int(match[1]) in found:
            raise ValueError(
                f"合用的卡 {part!r} 无法识别；写成 序号:shard:几份 或 序号:mps:100，逗号相隔，一块卡写一次"
            )
        found[int(match[1])] = (match[2], int(match[3]))
    return found


def choose_shares(free: Mapping[int, int], count: int) -> list[int] | None:
    """free 是各块卡还剩几份；返回各份在哪块卡（一份一个序号）。一块放得下就在一块上，剩得少的先；不够是 None。"""
    enough = [card for card, left in free.items() if left >= count]
    if enough:
        return [min(enough, key=lambda card: (free[card], card))] * count
    chosen: list[int] = []
    for card in sorted(free, key=lambda card: (-free[card], card)):
        chosen += [card] * min(free[card], count - len(chosen))
    return sorted(chosen) if len(chosen) == count else None


def variables(gres_ids: Mapping[str, Sequence[int]], totals: Mapping[int, int]) -> dict[str, str]:
    """作业里的变量：SLURM_SHARDS_ON_NODE；mps 的一份是一块卡的几分之一，写成百分数。"""
    found: dict[str, str] = {}
    for name, ids in gres_ids.items():
        kind = name.partition(":")[0]
        if kind == "shard" and ids:
            found["SLURM_SHARDS_ON_NODE"] = str(int(found.get("SLURM_SHARDS_ON_NODE", "0")) + len(ids))
        elif kind == "mps" and ids:
            card, count = Counter(ids).most_common()[-1]
            found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, 100 * count // max(1, totals.get(card, count))))
    return found
