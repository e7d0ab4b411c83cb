"""预留此刻的样子，它的时间、许可证与节点：核对，没有指名的挑好。"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.recurrence import LONGEST, collide, occurrences, recurrence
from scns_conductor.core.reservation_flags import STATIC, floated
from scns_conductor.services.nodes import node_names
from scns_conductor.services.reservation_cores import Room, cpus_per_core, reserve_cores
from scns_conductor.services.reservation_words import IMPLIED_FLAGS
from scns_conductor.statements.nodes import NAMES_EMPTIEST_FIRST
from scns_conductor.statements.partitions import MEMBERS
from scns_conductor.statements.reservations import (
    CPUS_IN_THE_WAY,
    FIRST_JOB_IN_THE_WAY,
    LIST_RESERVATIONS,
)

# 节点坏了（被占用了）就换一个：只有系统挑的节点才能换。
_REPLACING = frozenset({"REPLACE", "REPLACE_DOWN"})
# 可以用已在别的预留里的节点（scontrol(1)）。
_SHARING = frozenset({"MAINT", "OVERLAP"})
ALL_NODES = "ALL"
# 改了这些，正在跑的作业也许挡着。
_MOVING = frozenset({"nodes", "node_count", "core_count", "node_cpus", "start_time"})


async def current_rows(connection: AsyncConnection, name: str | None = None) -> list[dict[str, Any]]:
    """全部预留，或叫 name 的；重复的是这一次（或下一次）的时刻。"""
    return [_current(dict(row)) for row in (await connection.execute(LIST_RESERVATIONS, {"name": name})).mappings()]


async def first_times(connection: AsyncConnection) -> list[dict[str, Any]]:
    """全部预留，重复的写着第一次的时刻（不随此刻变）；state 同 list_reservations。"""
    rows = (await connection.execute(LIST_RESERVATIONS, {"name": None})).mappings()
    return [{**row, "state": _current(dict(row))["state"]} for row in rows]


def _current(row: dict[str, Any]) -> dict[str, Any]:
    now = row.pop("now")
    span = floated(row["start_time"], row["end_time"], row["flags"], now)
    if span is not None:
        return {**row, "start_time": span[0], "end_time": span[1], "state": "INACTIVE"}
    found = next(occurrences(row["start_time"], row["end_time"], row["flags"], now), None)
    if found is None:
        return {**row, "state": "ENDED"}
    return {**row, "start_time": found[0], "end_time": found[1], "state": "ACTIVE" if found[0] <= now else "INACTIVE"}


async def read_cluster(connection: AsyncConnection) -> tuple[list[str], str | None, dict[str, list[str]]]:
    """节点名（最空的在前）、缺省分区、分区 -> 节点名。"""
    known = list((await connection.execute(NAMES_EMPTIEST_FIRST)).scalars())
    partitions = (await connection.execute(MEMBERS)).all()
    members = {part.name: known if part.nodes == ALL_NODES else list(expand(part.nodes)) for part in partitions}
    return known, next((part.name for part in partitions if part.is_default), None), members


async def settle(
    connection: AsyncConnection, row: dict[str, Any], licenses: Mapping[str, int], changed: Collection[str]
) -> None:
    """核对时间、许可证与节点；changed 里有 nodes 或 node_count 的，把节点挑好写进 row。"""
    _check_times(row)
    others = [
        other
        for other in await current_rows(connection)
        if other["name"] != row["name"] and other["state"] != "ENDED" and _same_time(row, other)
    ]
    _check_licenses(row, licenses, others)
    known, default, members = await read_cluster(connection)
    if row.get("partition") is not None and row["partition"] not in members:
        raise InvalidRequest("partition", f"没有分区 {row['partition']}", code="partition_unknown")
    count, cores = row.pop("node_count", None), row.pop("core_count", None)
    if not {"nodes", "node_count", "partition"}.isdisjoint(changed) and "node_cpus" not in changed:
        # 换了节点而没有说要几个核的，是整个节点。
        row["node_cpus"] = None
    by_cores = cores is not None or bool(row.get("node_cpus"))
    moved = not _MOVING.isdisjoint(changed)
    if by_cores and "PART_NODES" in row["flags"]:
        raise InvalidRequest("flags", "PART_NODES 是整个节点，不能与 core_count 同用", code="flags_conflict")
    exclusive = [other for other in others if _SHARING.isdisjoint(other["flags"])]
    taken = {
        name: other["name"]
        for other in exclusive
        if not (by_cores and other["node_cpus"])
        for name in nodes_of(other, known, members)
    }
    if count is not None and cores is None:
        _pick(row, count, known, members, default, taken)
    elif "nodes" in changed:
        _name_nodes(row, known, members, anywhere=by_cores)
    if by_cores:
        if cores is not None and not row["nodes"]:
            row["partition"] = row.get("partition") or default
        within = None if row.get("partition") is None else members[row["partition"]]
        barred = {} if _SHARING & {*row["flags"]} else taken
        room = Room(await cpus_per_core(connection), await _left(connection, row, exclusive, moved=moved))
        named = nodes_of(row, known, members)
        if cores is not None:
            rest = [name for name in known if within is None or name in within]
            pool = dict.fromkeys(named if named and count is None else [*named, *rest])
            row["node_cpus"] = reserve_cores(cores, count, named, [name for name in pool if name not in barred], room)
        if cores is not None or "node_cpus" in changed:
            row["nodes"] = compress(sorted(row["node_cpus"]))
            chosen = "node_cpus" not in changed and (IMPLIED_FLAGS[0] not in row["flags"] or count is not None)
            row["flags"] = [flag for flag in row["flags"] if flag not in IMPLIED_FLAGS]
            row["flags"] += [] if chosen else IMPLIED_FLAGS[:1]
        room.check(row["node_cpus"])
    _check_flags(row)
    names = nodes_of(row, known, members)
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        raise InvalidRequest("nodes", f"没有节点 {missing}", code="node_not_found")
    overlapping = next((name for name in names if name in taken), None)
    if overlapping and _SHARING.isdisjoint(row["flags"]):
        raise Conflict(
            f"节点 {overlapping} 在那段时间已属于预留 {taken[overlapping]}；换节点、换时间，或加 OVERLAP",
            code="reservation_overlaps",
        )
    if moved and names and not by_cores and "IGNORE_JOBS" not in row["flags"]:
        values = {"nodes": names, "start_time": row["start_time"], "name": row["name"]}
        job_id = (await connection.execute(FIRST_JOB_IN_THE_WAY, values)).scalar_one()
        if job_id is not None:
            raise Conflict(
                f"作业 {job_id} 到预留开始时还可能在这些节点上；推迟开始，或加 IGNORE_JOBS",
                code="reservation_nodes_busy",
            )


def _check_times(row: Mapping[str, Any]) -> None:
    start, end = row["start_time"], row["end_time"]
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    if end <= start:
        raise InvalidRequest("end_time", "结束要晚于开始", code="reservation_empty")
    try:
        kind = recurrence(row["flags"])
    except ValueError as error:
        raise InvalidRequest("flags", str(error), code="flags_conflict") from error
    if kind is not None and end - start > LONGEST[kind]:
        raise InvalidRequest("duration", f"{kind} 的一次至多 {LONGEST[kind]}，不能碰到下一次", code="reservation_long")


def _same_time(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = ((each["start_time"], each["end_time"], each["flags"]) for each in (row, other))
    return collide(first, second)


def _check_licenses(row: Mapping[str, Any], total: Mapping[str, int], others: Sequence[Mapping[str, Any]]) -> None:
    """许可证要有，而且与同一段时间里别的预留加在一起不超过总数。"""
    try:
        wanted = parse_licenses(row.get("licenses"))
    except ValueError as error:
        raise InvalidRequest("licenses", str(error)) from error
    for name, count in wanted:
        if name not in total:
            known = "、".join(sorted(total)) or "（没有）"
            raise InvalidRequest("licenses", f"没有许可证 {name!r}；现有 {known}", code="license_unknown")
        taken = sum(dict(parse_licenses(other["licenses"])).get(name, 0) for other in others)
        if count + taken > total[name]:
            raise Conflict(
                f"许可证 {name} 总共 {total[name]} 个，那段时间别的预留占了 {taken} 个，不够再留 {count} 个",
                code="reservation_too_large",
            )


def _check_flags(row: Mapping[str, Any]) -> None:
    """只预留许可证的不占节点；PART_NODES 的节点跟着分区变。"""
    flags = row["flags"]
    if "ANY_NODES" in flags and (row["nodes"] or not row.get("licenses")):
        raise InvalidRequest(
            "flags", "ANY_NODES（LICENSE_ONLY）只预留许可证：写 licenses，不写节点与分区", code="flags_conflict"
        )
    if "MAGNETIC" in flags and not (row.get("users") or row.get("accounts") or row.get("groups")):
        raise InvalidRequest("flags", "MAGNETIC 要写明给谁：users、groups 或 accounts", code="flags_conflict")
    if not _REPLACING.isdisjoint(flags) and (not row["nodes"] or "SPEC_NODES" in flags):
        raise InvalidRequest(
            "flags",
            "REPLACE、REPLACE_DOWN 的节点由系统挑：写 node_count 或 core_count，不写 nodes",
            code="flags_conflict",
        )
    if STATIC in flags and not _REPLACING.isdisjoint(flags):
        raise InvalidRequest("flags", "STATIC_ALLOC 与 REPLACE、REPLACE_DOWN 只能写一样", code="flags_conflict")
    if "PART_NODES" in flags and (row.get("partition") is None or row["nodes"] != ALL_NODES):
        raise InvalidRequest("flags", "PART_NODES 要同时写 partition 与 nodes=ALL", code="flags_conflict")


def _name_nodes(
    row: dict[str, Any], known: Sequence[str], members: Mapping[str, Sequence[str]], *, anywhere: bool
) -> None:
    """指名的节点照写；没有写的是分区的全部节点，或只有许可证；按核留的（anywhere）随后再挑。"""
    nodes, flags = row.get("nodes"), [flag for flag in row["flags"] if flag not in IMPLIED_FLAGS]
    if nodes:
        everything = nodes == ALL_NODES and "PART_NODES" not in flags
        row["flags"] = [*flags, *(IMPLIED_FLAGS if everything else IMPLIED_FLAGS[:1])]
        return
    row["nodes"] = ""
    if anywhere:
        return
    if row.get("partition") is not None:
        row["nodes"] = compress(sorted(name for name in known if name in members[row["partition"]]))
    if not row["nodes"] and "ANY_NODES" not in flags:
        raise InvalidRequest(
            "nodes",
            "写明节点，或用 node_count 写要几个，或用 partition 写哪个（有节点的）分区；"
            "只预留许可证的写 flags LICENSE_ONLY",
            code="reservation_nodes_missing",
        )


def _pick(
    row: dict[str, Any],
    count: int,
    known: Sequence[str],
    members: Mapping[str, Sequence[str]],
    default: str | None,
    taken: Mapping[str, str],
) -> None:
    """挑 count 个：写了节点的（修改时是原来的）先从里面挑，再挑分区里最空的。"""
    # 不指名的节点都在一个分区里（scontrol(1)）：没有写的是缺省分区。
    row["partition"] = partition = row.get("partition") or default
    first = nodes_of(row, known, members) if row.get("nodes") else []
    pool = [name for name in known if partition is None or name in members[partition]]
    chosen = [name for name in dict.fromkeys([*first, *pool]) if name not in taken][:count]
    if len(chosen) < count:
        raise Conflict(f"要 {count} 个节点，那段时间只有 {len(chosen)} 个没有预留", code="reservation_too_large")
    row["nodes"] = compress(sorted(chosen))
    row["flags"] = [flag for flag in row["flags"] if flag not in IMPLIED_FLAGS]


async def _left(
    connection: AsyncConnection, row: Mapping[str, Any], others: Sequence[Mapping[str, Any]], *, moved: bool
) -> dict[str, int]:
    """各节点上，到时别的按核留的与（moved 才看）跑不完的作业占着几个 CPU。"""
    found: Counter[str] = Counter()
    if _SHARING.isdisjoint(row["flags"]):
        for other in others:
            found.update(other["node_cpus"] or {})
    if moved and "IGNORE_JOBS" not in row["flags"]:
        values = {"start_time": row["start_time"], "name": row["name"]}
        found.update({each.node_name: each.cpus for each in await connection.execute(CPUS_IN_THE_WAY, values)})
    return found


def nodes_of(row: Mapping[str, Any], known: Sequence[str], members: Mapping[str, Sequence[str]]) -> list[str]:
    """一个预留的节点名；members 是分区 -> 节点名。"""
    if "PART_NODES" in row["flags"]:
        return list(members.get(row["partition"], ()))
    return _names(row["nodes"], known)


def _names(text: str, known: Sequence[str]) -> list[str]:
    return list(known) if text == ALL_NODES else list(node_names(text, "nodes"))
