"""策略：回填的方式与放置方式。"""

from dataclasses import dataclass
from enum import StrEnum

from scns_conductor.scheduling.placement import Placement


class Backfill(StrEnum):
    """none：队首受阻就都等；easy：为最前面的 depth 个受阻作业保留；conservative：为每个受阻作业保留。"""

    NONE = "none"
    EASY = "easy"
    CONSERVATIVE = "conservative"


@dataclass(frozen=True, slots=True)
class Policy:
    """depth 是最多为几个受阻的作业保留未来的资源；教科书的 EASY 是 1。conservative 也受它限制。"""

    backfill: Backfill = Backfill.EASY
    depth: int = 1
    placement: Placement = Placement.BEST_FIT
    # 保留的名额用完之后，余下的不再按次序，按预测的运行时间从短到长地回填；保留仍照时限，谁也不推迟它们。
    shortest_first: bool = False
    # 一个周期最多启动几个；更多的留到下一个周期，提交才不会太大。
    most_starts: int = 1_000_000
    # 受阻的是缺资源还是碰到了预留，要不要看清：重放没有人看，省一半；抢占要看。
    tells_reserved: bool = True


# 设置里的名字 -> 回填的方式，保留之外是否预测短的先。
_NAMED = {
    "fifo": (Backfill.NONE, False),
    "easy": (Backfill.EASY, False),
    "conservative": (Backfill.CONSERVATIVE, False),
    "easy_predicted": (Backfill.EASY, True),
}


def policy_named(name: str, depth: int, placement: str, most_starts: int = 1_000_000) -> Policy:
    """设置（scheduler_policy、backfill_depth、placement）-> 策略；不认识的名字抛 KeyError、ValueError。"""
    backfill, shortest_first = _NAMED[name]
    return Policy(backfill, depth, Placement(placement), shortest_first, most_starts)
