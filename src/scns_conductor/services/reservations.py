"""预留：列出；管理员与 Operator 新建、修改、删除。节点不得与别的预留重叠，也不得有跑不完的作业，除非写明。"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.instants import utc_now
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.recurrence import LONGEST, RECURRING, collide, occurrences, recurrence
from scns_conductor.core.reservation_flags import FLOAT, PURGE, floated, purge_flag, with_float
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.core.unix_groups import unknown_group
from scns_conductor.services.accounts import require_operator
from scns_conductor.services.audit import record
from scns_conductor.services.nodes import node_names
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.nodes import CPUS_OF_NODES, NAMES_EMPTIEST_FIRST
from scns_conductor.statements.partitions import MEMBERS
from scns_conductor.statements.reservations import (
    COUNT_JOBS_IN_RESERVATION,
    FIRST_JOB_IN_THE_WAY,
    LIST_RESERVATIONS,
    LOCK_RESERVATIONS,
    reservation_delete,
    reservation_insert,
    reservation_update,
)

# 写 nodes 时系统加上的，不能自己写，写了不算。
IMPLIED_FLAGS = ("SPEC_NODES", "ALL_NODES")
FLAGS = (
    *("MAINT", "IGNORE_JOBS", "OVERLAP", *RECURRING, "PART_NODES", "ANY_NODES", "LICENSE_ONLY"),
    *("FLEX", "MAGNETIC", "REPLACE", "REPLACE_DOWN", PURGE, FLOAT),
)
# 节点坏了（被占用了）就换一个：只有系统挑的节点才能换。
_REPLACING = frozenset({"REPLACE", "REPLACE_DOWN"})
_ONE_NAME = {"LICENSE_ONLY": "ANY_NODES"}
# 可以用已在别的预留里的节点（scontrol(1)）。
_SHARING = frozenset({"MAINT", "OVERLAP"})
ALL_NODES = "ALL"
# 改了这些，节点与时间要再核对一遍。
_PLACED = frozenset(
    {"start_time", "end_time", "duration", "nodes", "node_count", "core_count", "partition", "flags", "licenses"}
)


async def list_reservations(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """全部预留（结束了的也在，直到删除），或指名的一个（不存在抛 NotFound）。

    重复的是这一次（或下一次）的时刻；node_list 是它此刻的节点。
    """
    async with engine.connect() as connection:
        rows = await _rows(connection, name)
        if rows:
            known, _, members = await _cluster(connection)
    if name is not None and not rows:
        raise _unknown(name)
    return [{**row, "node_list": compress(sorted(_nodes(row, known, members)))} for row in rows]


async def _rows(connection: AsyncConnection, name: str | None = None) -> list[dict[str, Any]]:
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


def _unknown(name: str) -> NotFound:
    return NotFound(f"没有预留 {name[:64]}；用 GET /reservations 查看现有的预留", code="reservation_not_found")


async def create_reservation(
    engine: Database, identity: Identity, values: Mapping[str, Any], licenses: Mapping[str, int]
) -> dict[str, Any]:
    """新建，缺省从现在开始；没有写节点时按 node_count、partition 挑最空的。licenses 是集群的许可证总数。

    同名的已存在、与别的重叠、节点上有跑不完的作业抛 Conflict。
    """
    if values.keys().isdisjoint({"end_time", "duration"}):
        raise InvalidRequest("end_time", "写明 end_time 或 duration", code="reservation_endless")
    require_operator(identity, "新建预留")
    row = {
        "start_time": utc_now(),
        **values,
        "flags": _flags(values.get("flags")),
        "created_by": identity.user_name,
    }
    _apply_duration(row)
    _float(row)
    _check_groups(row)
    async with engine.begin() as connection:
        await connection.execute(LOCK_RESERVATIONS)
        await _settle(connection, row, licenses, {"nodes"})
        try:
            async with connection.begin_nested():
                await connection.execute(reservation_insert(row))
        except IntegrityError as error:
            raise Conflict(f"预留 {row['name']} 已存在", code="reservation_exists") from error
        await record(connection, identity, "reservation.create", row["name"], after=row)
        await tell_scheduler(connection, inbox_insert("config"))
    return (await list_reservations(engine, row["name"]))[0]


async def update_reservation(
    engine: Database, identity: Identity, name: str, changes: Mapping[str, Any], licenses: Mapping[str, int]
) -> dict[str, Any]:
    """修改；不存在抛 NotFound。duration（秒）从预留的开始算起；开始了的不能再改开始。"""
    require_operator(identity, "修改预留")
    if not changes:
        raise InvalidRequest("body", '没有要改的字段；例如 {"users": ["alice"]}', code="nothing_to_update")
    async with engine.begin() as connection:
        await connection.execute(LOCK_RESERVATIONS)
        found = next(iter(await _rows(connection, name)), None)
        if found is None:
            raise _unknown(name)
        state = found.pop("state")
        if "start_time" in changes and state == "ACTIVE":
            raise Conflict(f"预留 {name} 已经开始，不能再改 start_time", code="reservation_active")
        row = {**found, **changes}
        _apply_duration(row)
        if "flags" in changes:
            row["flags"] = [*_flags(changes["flags"]), *(flag for flag in IMPLIED_FLAGS if flag in found["flags"])]
        _float(row)
        _check_groups(row)
        if not _PLACED.isdisjoint(changes):
            await _settle(connection, row, licenses, set(changes))
        await connection.execute(reservation_update(name, row))
        await record(connection, identity, "reservation.update", name, before=found, after=row)
        await tell_scheduler(connection, inbox_insert("config"))
    return (await list_reservations(engine, name))[0]


def _float(row: dict[str, Any]) -> None:
    """TIME_FLOAT：记下开始离此刻多久，以后总是那么久之后。"""
    row["flags"] = with_float(row["flags"], (row["start_time"] - utc_now()).total_seconds())


def _check_groups(row: Mapping[str, Any]) -> None:
    """组要是本机有的；与用户只能写一样（scontrol(1)）。"""
    groups = row.get("groups") or ()
    if groups and row.get("users"):
        raise InvalidRequest("groups", "users 与 groups 只能写一样", code="flags_conflict")
    unknown = unknown_group(groups)
    if unknown is not None:
        raise InvalidRequest("groups", f"没有组 {unknown}", code="group_unknown")


def _apply_duration(row: dict[str, Any]) -> None:
    length = row.pop("duration", None)
    if length is None:
        return
    try:
        row["end_time"] = row["start_time"] + timedelta(seconds=length)
    except OverflowError as error:
        raise InvalidRequest("duration", "太长了；请写短一些", code="reservation_long") from error


async def delete_reservation(engine: Database, identity: Identity, name: str) -> None:
    """删除；还有作业指名要用它时抛 Conflict。"""
    require_operator(identity, "删除预留")
    async with engine.begin() as connection:
        using = (await connection.execute(COUNT_JOBS_IN_RESERVATION, {"name": name})).scalar_one()
        if using:
            raise Conflict(f"还有 {using} 个作业要用预留 {name}；请先取消它们或改掉它们", code="reservation_in_use")
        before = next(iter(await _rows(connection, name)), None)
        if before is None:
            raise _unknown(name)
        await connection.execute(reservation_delete(name))
        await record(connection, identity, "reservation.delete", name, before=before)
        await tell_scheduler(connection, inbox_insert("config"))


def plain_flags(words: Collection[str]) -> list[str]:
    """自己写得的标志，各一种写法；PURGE_COMP 的时长写错了的照旧，由 _flags 说。"""
    return list(dict.fromkeys(_one_form(word) for word in words if word not in IMPLIED_FLAGS))


def _one_form(word: str) -> str:
    if word.partition("=")[0] == PURGE:
        with contextlib.suppress(ValueError):
            return purge_flag(word)
    return _ONE_NAME.get(word, word)


def _flags(words: Collection[str] | None) -> list[str]:
    """认得的标志，不重复；LICENSE_ONLY 就是 ANY_NODES，PURGE_COMP 的时长写定。"""
    given = dict.fromkeys(word for word in words or () if word not in IMPLIED_FLAGS)
    unknown = next((word for word in given if word.partition("=")[0] not in FLAGS), None)
    if unknown is not None:
        raise InvalidRequest("flags", f"不支持 {unknown}；可用 {'、'.join(FLAGS)}", code="flag_unknown")
    try:
        for word in given:
            if word.partition("=")[0] == PURGE:
                purge_flag(word)
    except ValueError as error:
        raise InvalidRequest("flags", str(error), code="flag_unknown") from error
    return plain_flags(given)


async def _cluster(connection: AsyncConnection) -> tuple[list[str], str | None, dict[str, list[str]]]:
    """节点名（最空的在前）、缺省分区、分区 -> 节点名。"""
    known = list((await connection.execute(NAMES_EMPTIEST_FIRST)).scalars())
    partitions = (await connection.execute(MEMBERS)).all()
    members = {part.name: known if part.nodes == ALL_NODES else list(expand(part.nodes)) for part in partitions}
    return known, next((part.name for part in partitions if part.is_default), None), members


async def _settle(
    connection: AsyncConnection, row: dict[str, Any], licenses: Mapping[str, int], changed: Collection[str]
) -> None:
    """核对时间、许可证与节点；changed 里有 nodes 或 node_count 的，把节点挑好写进 row。"""
    _check_times(row)
    others = [
        other
        for other in await _rows(connection)
        if other["name"] != row["name"] and other["state"] != "ENDED" and _same_time(row, other)
    ]
    _check_licenses(row, licenses, others)
    known, default, members = await _cluster(connection)
    if row.get("partition") is not None and row["partition"] not in members:
        raise InvalidRequest("partition", f"没有分区 {row['partition']}", code="partition_unknown")
    taken = {
        name: other["name"]
        for other in others
        if _SHARING.isdisjoint(other["flags"])
        for name in _nodes(other, known, members)
    }
    count, cores = row.pop("node_count", None), row.pop("core_count", None)
    if count is None and cores is not None:
        count = await _nodes_for_cores(connection, cores, row, known, members, default, taken)
    if count is not None:
        _pick(row, count, known, members, default, taken)
    elif "nodes" in changed:
        _name_nodes(row, known, members)
    _check_flags(row)
    names = _nodes(row, known, members)
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        raise InvalidRequest("nodes", f"没有节点 {missing}", code="node_not_found")
    overlapping = next((name for name in names if name in taken), None)
    if overlapping and _SHARING.isdisjoint(row["flags"]):
        raise Conflict(
            f"节点 {overlapping} 在那段时间已属于预留 {taken[overlapping]}；换节点、换时间，或加 OVERLAP",
            code="reservation_overlaps",
        )
    moved = not {"nodes", "node_count", "core_count", "start_time"}.isdisjoint(changed)
    if moved and names and "IGNORE_JOBS" not in row["flags"]:
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
    if "PART_NODES" in flags and (row.get("partition") is None or row["nodes"] != ALL_NODES):
        raise InvalidRequest("flags", "PART_NODES 要同时写 partition 与 nodes=ALL", code="flags_conflict")


def _name_nodes(row: dict[str, Any], known: Sequence[str], members: Mapping[str, Sequence[str]]) -> None:
    """指名的节点照写；没有写的是分区的全部节点，或只有许可证。"""
    nodes, flags = row.get("nodes"), [flag for flag in row["flags"] if flag not in IMPLIED_FLAGS]
    if nodes:
        everything = nodes == ALL_NODES and "PART_NODES" not in flags
        row["flags"] = [*flags, *(IMPLIED_FLAGS if everything else IMPLIED_FLAGS[:1])]
        return
    row["nodes"] = ""
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
    first = _nodes(row, known, members) if row.get("nodes") else []
    pool = [name for name in known if partition is None or name in members[partition]]
    chosen = [name for name in dict.fromkeys([*first, *pool]) if name not in taken][:count]
    if len(chosen) < count:
        raise Conflict(f"要 {count} 个节点，那段时间只有 {len(chosen)} 个没有预留", code="reservation_too_large")
    row["nodes"] = compress(sorted(chosen))
    row["flags"] = [flag for flag in row["flags"] if flag not in IMPLIED_FLAGS]


async def _nodes_for_cores(
    connection: AsyncConnection,
    cores: int,
    row: Mapping[str, Any],
    known: Sequence[str],
    members: Mapping[str, Sequence[str]],
    default: str | None,
    taken: Mapping[str, str],
) -> int:
    """凑够这么多 CPU 要几个节点，按 _pick 挑的次序数；预留的是整个节点。"""
    cpus: dict[str, int] = {row.name: row.cpus for row in await connection.execute(CPUS_OF_NODES)}
    partition = row.get("partition") or default
    free = [name for name in known if name not in taken and (partition is None or name in members[partition])]
    total = 0
    for place, name in enumerate(free):
        total += cpus.get(name, 0)
        if total >= cores:
            return place + 1
    raise Conflict(f"要 {cores} 个 CPU，那段时间没有预留的节点只有 {total} 个", code="reservation_too_large")


def _nodes(row: Mapping[str, Any], known: Sequence[str], members: Mapping[str, Sequence[str]]) -> list[str]:
    """一个预留的节点名；members 是分区 -> 节点名。"""
    if "PART_NODES" in row["flags"]:
        return list(members.get(row["partition"], ()))
    return _names(row["nodes"], known)


def _names(text: str, known: Sequence[str]) -> list[str]:
    return list(known) if text == ALL_NODES else list(node_names(text, "nodes"))
