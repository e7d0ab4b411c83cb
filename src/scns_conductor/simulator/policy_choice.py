"""命令行上的策略名 -> 次序与回填。"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scns_conductor.scheduling.policy import Backfill
from scns_conductor.simulator.power import PowerSaving

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


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """label 是用户的写法（节能的后面是 @ 与空闲多久关机），也是 JSON 里的键。"""

    label: str
    order: str
    backfill: str
    # 假如这样节能；不节能是 None。
    power: PowerSaving | None = None

    @property
    def shortest_first(self) -> bool:
        """保留的名额之外，预测短的先回填。"""
        return self.backfill == "easy_predicted"

    @property
    def core_backfill(self) -> Backfill:
        """核心的回填方式。"""
        return Backfill.EASY if self.shortest_first else Backfill(self.backfill)


def parse_policies(text: str) -> list[PolicyChoice]:
    """逗号分隔的策略名。sjf、wfp3、f1、unicep、multifactor 缺省配 EASY 回填，也可写 `sjf+none`、`sjf+conservative`。

    不认识、重复、空时抛 ValueError（中文原因）。
    """
    choices: list[PolicyChoice] = []
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
        if any(choice.label == word for choice in choices):
            raise ValueError(f"策略 {word!r} 写了两次")
        choices.append(PolicyChoice(word, order, backfill))
    return choices


def with_power(choices: list[PolicyChoice], spans: Mapping[str, float], boot_s: float) -> list[PolicyChoice]:
    """每个策略，与它在各种节能之下：spans 是写法 -> 空闲多久关机（秒）。"""
    return [
        each
        for choice in choices
        for each in (
            choice,
            *(
                replace(choice, label=f"{choice.label}@{word}", power=PowerSaving(suspend_s, boot_s))
                for word, suspend_s in spans.items()
            ),
        )
    ]
