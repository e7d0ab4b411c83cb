"""cluster.yaml 的样子：各节用的就是各端点的请求模型，校验也是它们的。"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scns_conductor.api.field_forms import Instant
from scns_conductor.api.partition_request import NewPartition
from scns_conductor.api.routers.accounting import NewAccount, NewAssociation, NewQos, Slug, UserUpdate
from scns_conductor.api.routers.cluster import NodeTraits
from scns_conductor.api.routers.reservations import NewReservation
from scns_conductor.core.hostlist import expand
from scns_conductor.core.runtime_settings import RuntimeSettings
from scns_conductor.services.cluster_content import SECTIONS, Content, Entry

_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{9,}")


def _absolute(value: Any) -> Any:
    """now+1hour 每次都不同：文件里只写得定的时刻。"""
    if isinstance(value, str) and not _DATE.match(value.strip()):
        raise ValueError("要写定的时刻，如 2026-12-24T08:00:00+08:00")
    return value


class AccountEntry(NewAccount):
    """账户。"""

    coordinators: list[Slug] | None = Field(None, max_length=10_000, description="协调人：有关联的用户")


class NodeEntry(NodeTraits):
    """节点的特性、权重、位置；没有写的照节点自己登记的。"""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=1_000_000)] = Field(description="节点，可写 n[1-4]")

    @model_validator(mode="after")
    def _expands(self) -> "NodeEntry":
        expand(self.name)
        return self


class UserEntry(UserUpdate):
    """用户：有关联的才有。"""

    name: Slug = Field(description="名字")


class ReservationEntry(NewReservation):
    """预留。"""

    start_time: Annotated[Instant, BeforeValidator(_absolute)] = Field(
        description="开始：ISO 8601 或 Unix 秒；重复的是第一次"
    )
    end_time: Annotated[Instant, BeforeValidator(_absolute)] = Field(None, description="结束，写法同上")

    @model_validator(mode="after")
    def _bounded(self) -> "ReservationEntry":
        if self.start_time is None:
            raise ValueError("start_time 要写明")
        if self.end_time is None and "duration" not in self.model_fields_set:
            raise ValueError("写明 end_time 或 duration")
        return self


class ClusterFile(BaseModel):
    """集群的配置。没有写的节不动；写了的对象就是它的全部，没有写的字段取缺省值（节点的照它自己登记的）。"""

    model_config = ConfigDict(extra="forbid", title="cluster.yaml")

    version: Literal[1] = Field(1, description="文件的版本")
    settings: RuntimeSettings | None = Field(None, description="运行时可以改的设置，盖过环境变量与设置文件")
    nodes: list[NodeEntry] | None = Field(None, max_length=65_536, description="节点")
    qos: list[NewQos] | None = Field(None, max_length=10_000, description="QOS")
    accounts: list[AccountEntry] | None = Field(None, max_length=100_000, description="账户")
    associations: list[NewAssociation] | None = Field(None, max_length=200_000, description="谁在哪个账户里")
    users: list[UserEntry] | None = Field(None, max_length=200_000, description="用户的管理级别与缺省账户")
    partitions: list[NewPartition] | None = Field(None, max_length=10_000, description="分区")
    reservations: list[ReservationEntry] | None = Field(None, max_length=10_000, description="预留")

    def content(self) -> Content:
        """写了的各节 -> 各个对象。"""
        found: dict[str, Sequence[Entry]] = {}
        for section in SECTIONS:
            given = getattr(self, section)
            if given is not None:
                found[section] = _ENTRIES.get(section, _named)(section, given)
        return found


def _named(section: str, given: Sequence[Any]) -> list[Entry]:
    return [
        Entry(f"{section}[{index}]", (each.name,), _columns(each.changes(), "name")) for index, each in enumerate(given)
    ]


def _columns(changes: Mapping[str, Any], *omit: str) -> dict[str, Any]:
    """null 等于没有写；TRES 里的 -1 也是。"""
    return {
        name: {tres: amount for tres, amount in value.items() if amount is not None} if "tres" in name else value
        for name, value in changes.items()
        if value is not None and name not in omit
    }


def _settings(_section: str, given: RuntimeSettings) -> list[Entry]:
    return [Entry(f"settings.{name}", (name,), {"value": value}) for name, value in given.given().items()]


def _nodes(section: str, given: Sequence[NodeEntry]) -> list[Entry]:
    return [
        Entry(f"{section}[{index}]", (name,), each.traits())
        for index, each in enumerate(given)
        for name in expand(each.name)
    ]


def _associations(section: str, given: Sequence[NewAssociation]) -> list[Entry]:
    return [
        Entry(f"{section}[{index}]", (each.account, each.user, each.partition or ""), _columns(each.changes()))
        for index, each in enumerate(given)
    ]


def _users(section: str, given: Sequence[UserEntry]) -> list[Entry]:
    return [
        Entry(f"{section}[{index}]", (each.name,), _columns(each.model_dump(exclude_unset=True), "name"))
        for index, each in enumerate(given)
    ]


_ENTRIES: dict[str, Any] = {
    "settings": _settings, "nodes": _nodes, "associations": _associations, "users": _users,
}  # fmt: skip
