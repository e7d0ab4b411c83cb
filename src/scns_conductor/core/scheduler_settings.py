"""调度的设置：策略、优先级、记账的核对、抢占、许可证、领导者。Settings 的一部分。"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from scns_conductor.core.setting_words import split_words

# slurm.conf(5)：写了这个，也就要那些。
_IMPLIED: dict[str, tuple[str, ...]] = {
    "associations": (),
    "limits": ("associations",),
    "qos": ("associations",),
    "safe": ("associations", "limits"),
}


def default_backfill_depth(given: Mapping[str, Any]) -> int:
    """没有写 backfill_depth 时的值，看 scheduler_policy。"""
    return 1 if given.get("scheduler_policy") == "easy_predicted" else 100


def known_enforcement(value: list[str]) -> list[str]:
    """认得的词连同它们包含的；不认得的抛 ValueError。"""
    words = [word.lower() for word in value if word.lower() != "none"]
    for word in words:
        if word not in _IMPLIED:
            raise ValueError(f"只能是 {'、'.join(_IMPLIED)}，不能是 {word!r}")
    return sorted({each for word in words for each in (word, *_IMPLIED[word])})


class SchedulerSettings(BaseSettings):
    """见模块的说明。"""

    scheduler_enabled: bool | None = Field(
        None, description="本机是否参选调度领导者；不写时 scns api 的机器参选，scns worker 的不参选"
    )
    scheduler_policy: Literal["fifo", "easy", "conservative", "easy_predicted"] = Field(
        "easy", description="排队与回填的策略；easy_predicted 是照历史预测的运行时间，短的先回填"
    )
    priority_type: Literal["basic", "multifactor"] = Field(
        "basic", description="优先级：basic 按提交先后，multifactor 多因子"
    )
    priority_weights: dict[str, float] = Field(
        default_factory=dict,
        description="multifactor 的权重：age、fairshare、job_size、partition、qos、assoc 及 tres/cpu 等",
    )
    priority_max_age_s: float = Field(7 * 86400, gt=0, description="等待因子多久到顶（秒；Slurm 的 PriorityMaxAge）")
    priority_decay_half_life_s: float = Field(
        7 * 86400, gt=0, description="用量的半衰期（秒；Slurm 的 PriorityDecayHalfLife）"
    )
    priority_calc_period_s: float = Field(
        300.0, gt=0, description="多久重算一次优先级（秒；Slurm 的 PriorityCalcPeriod）；新到的作业当场算"
    )
    priority_favor_small: bool = Field(False, description="大小因子反过来，小作业优先（Slurm 的 PriorityFavorSmall）")
    fair_shares: dict[str, int] = Field(
        default_factory=dict,
        description='没有建账户时的公平份额：{"账户": 份额, "账户/用户": 份额}，没写的是 1；没账户的作业算在 (none) 里',
    )
    accounting_storage_enforce: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="核对什么（Slurm 的 AccountingStorageEnforce），逗号分隔：associations 要有关联，limits 关联与 "
        "QOS 的上限，qos 只用许用的 QOS，safe 用量跑完也不会超才启动；后三个都含 associations。缺省什么也不核对",
    )
    placement: Literal["best_fit", "spread", "weight", "topology"] = Field("best_fit", description="放置方式")
    max_switch_wait_s: int = Field(
        300, ge=0, description="--switches 至多等多少秒（秒；Slurm 的 max_switch_wait），之后跨几个交换机都行"
    )
    backfill_depth: int = Field(
        default_factory=default_backfill_depth,
        ge=0,
        description="最多为多少个排在前面的受阻作业保留未来的资源；缺省 100，easy_predicted 是每个分区 1 个",
    )
    suspend_frees: Literal["nothing", "cpus"] = Field(
        "nothing",
        description="scns suspend（scontrol suspend）放开什么：nothing 仍占着全部，恢复不必等；"
        "cpus 把 CPU 让给别人（Slurm 的做法），内存与 GPU 仍占着，恢复要等 CPU 空出来",
    )
    preempt_type: Literal["none", "partition_prio", "qos"] = Field(
        "none",
        description="抢占的依据（Slurm 的 PreemptType）：partition_prio 按分区的层级，高的抢占低的；"
        "qos 按 QOS 的 preempt 列表",
    )
    preempt_mode: Literal["requeue", "cancel", "suspend", "off"] = Field(
        "requeue",
        description="分区（QOS）没有写 preempt_mode 时的方式；requeue 时不许重新排队的作业也只能取消；"
        "suspend 挂起并借出 CPU，抢占者结束后恢复",
    )
    preempt_exempt_time_s: int = Field(
        0, ge=0, description="作业运行满多少秒才许被抢占（Slurm 的 PreemptExemptTime）；QOS、分区写了的为准"
    )
    preempt_within: bool = Field(
        False,
        description="同一个 QOS 里优先级高的也抢占低的（PreemptMode 里的 WITHIN，要 preempt_type=qos）；"
        "只要某几个 QOS 这样的，写在它们的 preempt_mode 里",
    )
    preempt_gang: bool = Field(
        False,
        description="时间片（PreemptMode 里的 GANG）：OverSubscribe 是 FORCE:n、YES:n 的分区里，"
        "几个作业轮流用同样的 CPU",
    )
    scheduler_time_slice_s: float = Field(
        30.0, ge=1, le=65533, description="轮流用 CPU 时每次用多久（秒；Slurm 的 SchedulerTimeSlice）"
    )
    kill_invalid_dependency: bool = Field(False, description="依赖永远不能满足的作业是否直接取消")
    licenses: str = Field("", description="全集群的许可证，如 matlab:5,ansys:2（slurm.conf 的 Licenses）")
    relay: bool = Field(
        True, description="短作业一个接一个时，节点写结束的同时就地启动调度器排好的下一个（接力）；假则每个都等调度器"
    )
    scheduler_lease_s: float = Field(2.0, gt=0, description="领导者的租期（秒），过期后别的候选者接管")
    reconcile_interval_s: float = Field(10.0, gt=0, description="慢速核对的间隔（秒）")

    _enforcement_words = field_validator("accounting_storage_enforce", mode="before")(split_words)
    _enforcement = field_validator("accounting_storage_enforce")(known_enforcement)
