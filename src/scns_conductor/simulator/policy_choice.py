"""命令行上的策略名 -> 次序与回填。"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scns_conductor.core.replay_words import parse_policy_words
from scns_conductor.scheduling.policy import Backfill
from scns_conductor.simulator.power import PowerSaving


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
    """写法见 parse_policy_words；不认识、重复、空时抛 ValueError（中文原因）。"""
    return [PolicyChoice(each.label, each.order, each.backfill) for each in parse_policy_words(text)]


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
