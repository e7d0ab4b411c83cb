"""设置里的策略与抢占，换成调度核心的值。"""

from scns_conductor.core.settings import Settings
from scns_conductor.scheduling.policy import Policy, policy_named
from scns_conductor.scheduling.preemption import Rules

# 一个周期最多启动几个：提交的一批不太大，节点早些开工。
MOST_STARTS = 1000


def policy_of(settings: Settings) -> Policy:
    """设置 -> 核心的策略。"""
    return policy_named(settings.scheduler_policy, settings.backfill_depth, settings.placement, MOST_STARTS)


def rules_of(settings: Settings) -> Rules | None:
    """设置 -> 抢占的规则；不抢占是 None。"""
    if settings.preempt_type == "none":
        return None
    return Rules(
        settings.preempt_type == "qos",
        settings.preempt_mode,
        settings.preempt_exempt_time_s,
        within=settings.preempt_within,
    )
