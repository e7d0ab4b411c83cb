"""新建与修改分区的请求体：字段由 Partition 而来；时间写法同 --time，内存写法同 --mem。"""

from typing import TYPE_CHECKING, Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from scns_conductor.api.derived import Form, request_fields
from scns_conductor.core.models import Partition
from scns_conductor.core.sharing import OVERSUBSCRIBE, oversubscribe


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _sharing(value: Any) -> Any:
    return oversubscribe(value) if isinstance(value, str) else value


_FORMS = {
    "state": Form(Annotated[str, Field(pattern="^(UP|DOWN|DRAIN|INACTIVE)$"), BeforeValidator(_upper)]),
    "preempt_mode": Form(
        Annotated[str, Field(pattern="^(requeue|cancel|suspend|off)$"), BeforeValidator(_lower)],
    ),
    "oversubscribe": Form(
        Annotated[str, Field(pattern=OVERSUBSCRIBE), BeforeValidator(_sharing)],
        how="；没有写 n 是 4",
    ),
}
# 写成 null 有意义的列：不限、都许、按全局。
_NULLABLE = frozenset(column.name for column in sa.inspect(Partition).columns if column.nullable)


class _PartitionRules(BaseModel):
    """分区的设置；时间写法同 --time，内存写法同 --mem。"""

    model_config = ConfigDict(extra="forbid")

    def changes(self) -> dict[str, Any]:
        """写了的字段 -> 要改的列。"""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in found.items() if value is not None or name in _NULLABLE}


if TYPE_CHECKING:

    class PartitionValues(_PartitionRules):
        """给类型检查看的：真的由下面的 create_model 造出，多出 Partition 的各个字段。"""
else:
    PartitionValues = create_model(
        "PartitionValues",
        __base__=_PartitionRules,
        __doc__=_PartitionRules.__doc__,
        **request_fields(Partition, _FORMS, omit=("name",)),
    )


class NewPartition(PartitionValues):
    """新分区。"""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")] = Field(description="分区名")
