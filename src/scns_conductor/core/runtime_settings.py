"""运行时可以改的设置：写在数据库的 cluster_settings 里（scns apply），盖过环境变量与设置文件。

API 至多一秒之后照新的办，调度器收到消息就重装；别的设置（地址、目录、节点的）要重启才变，不能写在这里。
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, field_validator

from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.scheduler_settings import default_backfill_depth, known_enforcement
from scns_conductor.core.setting_words import split_words
from scns_conductor.core.settings import Settings

RUNTIME = (
    "scheduler_policy", "placement", "backfill_depth", "max_switch_wait_s", "suspend_frees", "kill_invalid_dependency",
    "priority_type", "priority_weights", "priority_max_age_s", "priority_decay_half_life_s", "priority_calc_period_s",
    "priority_favor_small", "fair_shares", "accounting_storage_enforce", "enforce_part_limits",
    "preempt_type", "preempt_mode", "preempt_exempt_time_s", "preempt_within", "preempt_gang",
    "scheduler_time_slice_s",
    "licenses", "default_memory_mb_per_cpu", "array_max_tasks", "min_job_age_s",
)  # fmt: skip


def _licenses(text: str) -> str:
    parse_licenses(text)
    return text


class _RuntimeRules(BaseModel):
    """运行时可以改的设置；没有写的照环境变量与设置文件。"""

    # 数据库里的是校验过的值：不把 "5" 当 5，也不把 true 当 1。
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    _words = field_validator("accounting_storage_enforce", mode="before", check_fields=False)(split_words)

    @field_validator("accounting_storage_enforce", check_fields=False)
    @classmethod
    def _known_enforcement(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else known_enforcement(value)

    def given(self) -> dict[str, Any]:
        """写了的（null 等于没有写）。"""
        return {name: value for name in RUNTIME if (value := getattr(self, name, None)) is not None}


def _field(name: str) -> tuple[Any, Any]:
    info = Settings.model_fields[name]
    kind: Any = info.annotation
    for each in info.metadata:
        kind = Annotated[kind, each]
    if name == "licenses":
        kind = Annotated[kind, AfterValidator(_licenses), Field(max_length=4096)]
    return kind | None, Field(None, description=info.description)


if TYPE_CHECKING:

    class RuntimeSettings(_RuntimeRules):
        """给类型检查看的：真的由下面的 create_model 造出，各个字段同 Settings。"""
else:
    RuntimeSettings = create_model(
        "RuntimeSettings",
        __base__=_RuntimeRules,
        __doc__=_RuntimeRules.__doc__,
        **{name: _field(name) for name in RUNTIME},
    )


def effective(base: Settings, changed: Mapping[str, Any]) -> Settings:
    """base 盖上数据库里的；不认识的（别的版本写的）不管。"""
    found = {name: value for name, value in changed.items() if name in RUNTIME}
    if not found:
        return base
    if "scheduler_policy" in found and "backfill_depth" not in {*found, *base.model_fields_set}:
        found["backfill_depth"] = default_backfill_depth(found)
    return base.model_copy(update=found)
