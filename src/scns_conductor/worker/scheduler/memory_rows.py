"""调度器从数据库里读什么：节点、分区、预留、排队与运行的作业，读成调度核心的值。只读。"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.hostlist import expand
from scns_conductor.core.job_limits import demand_of
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.sharing import shared_by
from scns_conductor.core.unix_groups import group_members
from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.job_requirements import COLUMNS
from scns_conductor.scheduling.limit_pools import Runner
from scns_conductor.scheduling.reservation_rows import advance_reservation
from scns_conductor.statements.hot_statement import ids_text
from scns_conductor.statements.queue import (
    ALL_PARTITIONS,
    ALL_RESERVATIONS,
    JOBS_HOLDING,
    JOBS_IN_INBOX,
    LIVE_COMPONENTS,
    PENDING_CHECKSUM,
    PENDING_REVISIONS,
    RUNNING_SHARES,
    SCHEDULABLE_NODES,
    jobs_of,
    pending_jobs,
)
from scns_conductor.statements.reservations import CURRENT_VERSION

# 装载时一次取这么多行，不把一百万行一起摊在内存里。
LOAD_ROWS = 2000
_PENDING = pending_jobs(COLUMNS)
_SOME = jobs_of(COLUMNS)


def nodes(connection: Connection, names: Sequence[str] | None, boot_s: float | None) -> Iterator[NodeFacts]:
    """这些节点；None 是全部。boot_s 是没有开过机的要多久（秒），None 是不节能：关着的不能用。"""
    values = {
        "names": None if names is None else list(names),
        "elastic": boot_s is not None,
        "boot_s": boot_s or 0.0,
    }
    for row in connection.execute(SCHEDULABLE_NODES, values):
        yield NodeFacts(
            row.name,
            row.cpus,
            row.memory,
            row.gres,
            frozenset(row.features),
            row.weight,
            row.topology or "",
            row.temporary_disk,
            row.usable,
            (row.sockets, row.cores_per_socket, row.threads_per_core),
            row.boot_s,
        )


def partitions(connection: Connection) -> list[PartitionFacts]:
    """全部分区。"""
    return [_partition_facts(dict(row)) for row in connection.execute(ALL_PARTITIONS).mappings()]


def reservations(
    connection: Connection, partitions: Mapping[str, PartitionFacts], now: float
) -> list[AdvanceReservation]:
    """全部没有结束的预留；重复的是从 now（Unix 秒）起的各次。"""
    moment = datetime.fromtimestamp(now, UTC)
    found = (
        advance_reservation(dict(row), frozenset(row["users"]) | group_members(row["groups"]), partitions, moment)
        for row in connection.execute(ALL_RESERVATIONS).mappings()
    )
    return [each for each in found if each is not None]


def reservations_version(connection: Connection) -> int:
    """预留改过几次。"""
    return int(connection.execute(CURRENT_VERSION).scalar_one())


def pending(connection: Connection) -> Iterator[dict[str, Any]]:
    """全部排队的作业（COLUMNS），按作业号，一批一批地取。"""
    rows = connection.execute(_PENDING, execution_options={"yield_per": LOAD_ROWS}).mappings()
    return (dict(row) for row in rows)


def jobs(connection: Connection, job_ids: Collection[int]) -> list[dict[str, Any]]:
    """这些作业（COLUMNS），不论状态；没有的不在其中。"""
    return _SOME.mappings(connection, {"job_ids": ids_text(job_ids)})


def running(connection: Connection, job_ids: Sequence[int] | None) -> dict[int, list[Any]]:
    """占着资源的作业 -> 各节点的行（RUNNING_SHARES），按节点在作业里的次序；job_ids 为 None 是全部。"""
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(RUNNING_SHARES, {"job_ids": None if job_ids is None else list(job_ids)}):
        found[row.job_id].append(row)
    return found


def revisions(connection: Connection) -> dict[int, int]:
    """排队的作业 -> 版本。"""
    return {row.job_id: row.revision for row in connection.execute(PENDING_REVISIONS)}


def live_components(connection: Connection, heads: Sequence[int]) -> dict[int, int]:
    """异构作业 -> 没有结束的部分有几个。"""
    rows = connection.execute(LIVE_COMPONENTS, {"het_job_ids": list(heads)})
    return {row.het_job_id: row.live for row in rows}


def checksum(connection: Connection) -> tuple[int, int]:
    """排队的作业有几个，以及它们的 checksum_of 之和。"""
    count, total = connection.execute(PENDING_CHECKSUM).one()
    return count, total


def checksum_of(job_id: int, revision: int) -> int:
    """一个排队的作业在校验和里的一份：少一个、多一个、改过一个，和都不同。"""
    return job_id * (revision + 1)


def holders(connection: Connection) -> set[int]:
    """占着资源的作业号。"""
    return set(connection.scalars(JOBS_HOLDING))


def told(connection: Connection) -> set[int]:
    """收件箱里还没有取走的变化说的作业。"""
    return set(connection.scalars(JOBS_IN_INBOX))


def runner_of(parts: Sequence[Any]) -> Runner:
    """运行中的作业的各行（RUNNING_SHARES）；借出的 CPU 仍算它的。"""
    first = parts[0]
    gres: dict[str, int] = defaultdict(int)
    for part in parts:
        for name, count in part.gres.items():
            gres[name] += count
    demand = demand_of(
        cpus=sum(part.cpus + part.lent_cpus for part in parts),
        nodes=len(parts),
        memory_mb=sum(part.memory for part in parts),
        gres=gres,
        licenses=dict(parse_licenses(first.licenses)),
        time_limit_s=first.time_limit,
    )
    start = (first.start_time or 0.0) + first.suspended_s
    return Runner(first.account, first.user_name, first.qos, first.partition.split(",")[0], demand, start)


def _partition_facts(row: Mapping[str, Any]) -> PartitionFacts:
    most, asked = shared_by(row["oversubscribe"])
    return PartitionFacts(
        name=row["name"],
        nodes=None if row["nodes"] == "ALL" else frozenset(expand(row["nodes"])),
        up=row["state"] == "UP",
        max_time=row["max_time"],
        min_nodes=row["min_nodes"],
        max_nodes=row["max_nodes"],
        tier=row["priority_tier"],
        exclusive=row["exclusive"],
        max_cpus_per_node=row["max_cpus_per_node"],
        allow_accounts=None if row["allow_accounts"] is None else frozenset(row["allow_accounts"]),
        deny_accounts=frozenset(row["deny_accounts"] or ()),
        allow_qos=None if row["allow_qos"] is None else frozenset(row["allow_qos"]),
        job_factor=row["priority_job_factor"],
        preempt_mode=row["preempt_mode"],
        grace_time=row["grace_time"],
        preempt_exempt_time=row["preempt_exempt_time"],
        share_most=most,
        share_asked=asked,
    )
