"""提交时要对照的集群情况：分区与节点的大小。缓存一小会儿，提交的热路径不为它查库。"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden, InvalidRequest

FRESH_S = 1.0

_PARTITIONS = sa.text(
    "SELECT name, is_default, max_time, default_time, min_nodes, max_nodes, allow_accounts, deny_accounts, allow_qos "
    "FROM partitions"
)
_NODES = sa.text("SELECT name, cpus, memory FROM nodes")
_RESERVATIONS = sa.text("SELECT name, users, accounts FROM reservations WHERE end_time > clock_timestamp()")


@dataclass(frozen=True, slots=True)
class PartitionLimits:
    """一个分区里与提交有关的部分；时间单位秒。"""

    name: str
    is_default: bool
    max_time: int | None
    default_time: int | None
    min_nodes: int
    max_nodes: int | None
    allow_accounts: list[str] | None
    deny_accounts: list[str] | None
    allow_qos: list[str] | None


@dataclass(frozen=True, slots=True)
class NodeSize:
    """一个节点的大小；内存 MiB。"""

    name: str
    cpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """某一刻的分区、节点与没有结束的预留（名字 -> 许用的用户与账户）。"""

    partitions: dict[str, PartitionLimits]
    nodes: tuple[NodeSize, ...]
    reservations: dict[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)

    @property
    def default_partition(self) -> str | None:
        """缺省分区的名字；没有则为 None。"""
        return next((name for name, partition in self.partitions.items() if partition.is_default), None)

    def require_partitions(self, names: Iterable[str], field: str) -> None:
        """这些分区都要有；否则抛 InvalidRequest，field 是用户所写的字段。"""
        for name in names:
            if name not in self.partitions:
                known = "、".join(sorted(self.partitions)) or "（没有分区）"
                raise InvalidRequest(field, f"没有分区 {name!r}；现有 {known}", code="partition_unknown")

    def require_reservation(self, name: str, user: str, account: str | None, field_name: str) -> None:
        """预留要有，而且许这个用户（账户）用；否则抛 InvalidRequest 或 Forbidden。"""
        found = self.reservations.get(name)
        if found is None:
            known = "、".join(sorted(self.reservations)) or "（没有预留）"
            raise InvalidRequest(field_name, f"没有预留 {name!r}；现有 {known}", code="reservation_unknown")
        users, accounts = found
        if (users and user not in users) or (accounts and account not in accounts) or not (users or accounts):
            raise Forbidden(
                f"{field_name}：预留 {name} 不许你（账户 {account or '没有写'}）用", code="reservation_denied"
            )


class LimitsCache:
    """ClusterLimits 的缓存：最多旧 FRESH_S 秒；要找的分区不在缓存里时重读一次。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._read_at = -FRESH_S
        self._limits = ClusterLimits({}, ())

    async def get(
        self, partitions: frozenset[str] = frozenset(), reservations: frozenset[str] = frozenset()
    ) -> ClusterLimits:
        """当前的情况；partitions 与 reservations 是一定要认得的名字。"""
        known = partitions <= self._limits.partitions.keys() and reservations <= self._limits.reservations.keys()
        if not known or time.monotonic() - self._read_at > FRESH_S:
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_PARTITIONS)).all()
                nodes = (await connection.execute(_NODES)).all()
                reserved = (await connection.execute(_RESERVATIONS)).all()
            self._limits = ClusterLimits(
                {row.name: PartitionLimits(*row) for row in rows},
                tuple(NodeSize(*row) for row in nodes),
                {row.name: (frozenset(row.users), frozenset(row.accounts)) for row in reserved},
            )
            self._read_at = time.monotonic()
        return self._limits
