"""提交时要对照的集群情况：分区、节点、许可证、预留。缓存一小会儿，提交的热路径不为它查库。"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden, InvalidRequest
from scns_conductor.core.hostlist import expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.unix_groups import group_members
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.services.live_settings import LiveSettings
from scns_conductor.services.refreshed import Refreshed
from scns_conductor.statements.nodes import NODE_GROUPS
from scns_conductor.statements.partitions import PARTITION_LIMITS
from scns_conductor.statements.reservations import RESERVATION_ACCESS


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
    state: str = "UP"
    nodes: str = "ALL"
    max_cpus_per_node: int | None = None
    exclusive: bool = False

    @property
    def node_names(self) -> frozenset[str] | None:
        """它的节点，登记了的与还没有登记的；None 是全部。"""
        return _expanded(self.nodes)


@lru_cache(maxsize=256)
def _expanded(text: str) -> frozenset[str] | None:
    return None if text == "ALL" else frozenset(expand(text))


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """某一刻的分区、节点、许可证与没有结束的预留（名字 -> 许用的用户与账户、分区）。

    cluster 只有节点的总量，不记分配；verdicts 是要求 -> 能不能有一天启动的判定，随 cluster 的版本作废。
    """

    partitions: dict[str, PartitionLimits] = field(default_factory=dict)
    reservations: dict[str, tuple[frozenset[str], frozenset[str], str | None]] = field(default_factory=dict)
    cluster: Cluster = field(default_factory=Cluster)
    licenses: Mapping[str, int] = field(default_factory=dict)
    verdicts: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    # 缺省分区的名字；没有则为 None。每个提交都要问，所以算好放着。
    default_partition: str | None = field(init=False)

    def __post_init__(self) -> None:
        found = next((name for name, partition in self.partitions.items() if partition.is_default), None)
        object.__setattr__(self, "default_partition", found)

    def partition_of(self, reservation: str | None) -> str | None:
        """没有写分区的作业的分区：所用预留的，否则是缺省的（Slurm 也是）；没有则为 None。"""
        found = None if reservation is None else self.reservations.get(reservation.split(",")[0])
        return self.default_partition if found is None or found[2] is None else found[2]

    def require_partitions(self, names: Iterable[str], field: str) -> None:
        """这些分区都要有，而且有一个接受提交（UP 或 DOWN）；否则抛 InvalidRequest，field 是用户所写的字段。"""
        closed = []
        for name in names:
            if name not in self.partitions:
                known = "、".join(sorted(self.partitions)) or "（没有分区）"
                raise InvalidRequest(field, f"没有分区 {name!r}；现有 {known}", code="partition_unknown")
            closed.append(self.partitions[name].state in ("INACTIVE", "DRAIN"))
        if closed and all(closed):
            raise InvalidRequest(
                field, f"分区 {','.join(names)} 现在不接受提交（INACTIVE 或 DRAIN）", code="partition_unavailable"
            )

    def require_reservation(self, name: str, user: str, account: str | None, field_name: str) -> None:
        """预留要有，而且许这个用户（账户）用；否则抛 InvalidRequest 或 Forbidden。列了几个的，个个都要。"""
        if "," in name:
            for each in name.split(","):
                self.require_reservation(each, user, account, field_name)
            return
        found = self.reservations.get(name)
        if found is None:
            known = "、".join(sorted(self.reservations)) or "（没有预留）"
            raise InvalidRequest(field_name, f"没有预留 {name!r}；现有 {known}", code="reservation_unknown")
        users, accounts, _ = found
        if (users and user not in users) or (accounts and account not in accounts) or not (users or accounts):
            raise Forbidden(
                f"{field_name}：预留 {name} 不许你（账户 {account or '没有写'}）用", code="reservation_denied"
            )


class LimitsCache:
    """ClusterLimits 的缓存：最多旧一秒；要找的名字不在缓存里、或要求 fresh 时重读。"""

    def __init__(self, engine: AsyncEngine, settings: LiveSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._shown = Refreshed(self._read, ClusterLimits())
        self._nodes: dict[str, NodeFacts] = {}
        self._groups: Sequence[Any] = ()

    async def get(
        self,
        partitions: frozenset[str] = frozenset(),
        reservations: frozenset[str] = frozenset(),
        *,
        fresh: bool = False,
    ) -> ClusterLimits:
        """当前的情况；partitions 与 reservations 是一定要认得的名字。"""
        last = self._shown.last
        known = partitions <= last.partitions.keys() and reservations <= last.reservations.keys()
        return await self._shown.get(fresh=fresh or not known)

    async def _read(self) -> ClusterLimits:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(PARTITION_LIMITS)).all()
            groups = (await connection.execute(NODE_GROUPS)).all()
            reserved = (await connection.execute(RESERVATION_ACCESS)).all()
        licenses = dict(parse_licenses((await self._settings.get()).licenses))
        return self._absorb(rows, groups, reserved, licenses)

    def _absorb(
        self, rows: Sequence[Any], groups: Sequence[Any], reserved: Sequence[Any], licenses: Mapping[str, int]
    ) -> ClusterLimits:
        last = self._shown.last
        cluster = last.cluster
        verdicts = last.verdicts if licenses == last.licenses else {}
        if groups != self._groups:
            found = {
                name: NodeFacts(
                    name,
                    group.cpus,
                    group.memory,
                    json.loads(group.gres_text),
                    frozenset(group.features),
                    temporary_disk=group.temporary_disk,
                    layout=(group.sockets, group.cores_per_socket, group.threads_per_core),
                )
                for group in groups
                for name in group.names
            }
            if not self._nodes.keys() <= found.keys():
                cluster, self._nodes = Cluster(), {}
            for name, facts in found.items():
                if self._nodes.get(name) != facts:
                    cluster.upsert_node(facts)
            self._nodes, self._groups = found, groups
            verdicts = {}
        partitions = {row.name: PartitionLimits(*row) for row in rows}
        if partitions != last.partitions or cluster is not last.cluster:
            cluster.set_partitions(
                PartitionFacts(
                    partition.name,
                    partition.node_names,
                    exclusive=partition.exclusive,
                    max_cpus_per_node=partition.max_cpus_per_node,
                )
                for partition in partitions.values()
            )
            verdicts = {}
        return ClusterLimits(
            partitions,
            {
                row.name: (frozenset(row.users) | group_members(row.groups), frozenset(row.accounts), row.partition)
                for row in reserved
            },
            cluster,
            licenses,
            verdicts,
        )
