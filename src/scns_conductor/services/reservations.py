"""预留：列出；管理员与 Operator 新建、修改、删除。节点不得与别的预留重叠，也不得有跑不完的作业，除非写明。"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress
from scns_conductor.core.instants import utc_now
from scns_conductor.core.recurrence import RECURRING
from scns_conductor.core.reservation_flags import USER_DELETE, with_float
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.core.unix_groups import group_members, unknown_group
from scns_conductor.services.accounting_rules import require_operator
from scns_conductor.services.audit import record
from scns_conductor.services.reservation_places import current_rows, nodes_of, read_cluster, settle
from scns_conductor.services.reservation_words import IMPLIED_FLAGS, known_flags
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.accounts import LIST_ASSOCIATIONS
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.reservations import (
    ADVANCE_VERSION,
    COUNT_JOBS_IN_RESERVATION,
    DO_NOT_IDLE,
    LOCK_RESERVATIONS,
    reservation_delete,
    reservation_insert,
    reservation_update,
)

# 改了这些，节点与时间要再核对一遍。
_PLACED = frozenset(
    {
        *("start_time", "end_time", "duration", "flags", "licenses"),
        *("nodes", "node_count", "core_count", "node_cpus", "partition"),
    }
)


async def list_reservations(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """全部预留（结束了的也在，直到删除），或指名的一个（不存在抛 NotFound）。

    重复的是这一次（或下一次）的时刻；node_list 是它此刻的节点。
    """
    async with engine.connect() as connection:
        rows = await current_rows(connection, name)
        if rows:
            known, _, members = await read_cluster(connection)
    if name is not None and not rows:
        raise _unknown(name)
    return [{**row, "node_list": compress(sorted(nodes_of(row, known, members)))} for row in rows]


def _unknown(name: str) -> NotFound:
    return NotFound(f"没有预留 {name[:64]}；用 GET /reservations 查看现有的预留", code="reservation_not_found")


async def create_reservation(
    engine: Database, identity: Identity, values: Mapping[str, Any], licenses: Mapping[str, int], *, over: bool = False
) -> dict[str, Any]:
    """新建，缺省从现在开始；没有写节点时按 node_count、partition 挑最空的。licenses 是集群的许可证总数。

    已经过去的（over 时照收，cluster.yaml 里写着的）抛 InvalidRequest；
    同名的已存在、与别的重叠、节点上有跑不完的作业抛 Conflict。
    """
    if values.keys().isdisjoint({"end_time", "duration"}):
        raise InvalidRequest("end_time", "写明 end_time 或 duration", code="reservation_endless")
    require_operator(identity, "新建预留")
    row = {
        "start_time": utc_now(),
        **values,
        "flags": known_flags(values.get("flags")),
        "created_by": identity.user_name,
    }
    _apply_duration(row)
    _float(row)
    _check_groups(row)
    if not over:
        _require_future(row)
    async with engine.begin() as connection:
        await _lock(connection)
        await settle(connection, row, licenses, {"nodes", *values})
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
        await _lock(connection)
        found = next(iter(await current_rows(connection, name)), None)
        if found is None:
            raise _unknown(name)
        state = found.pop("state")
        if "start_time" in changes and state == "ACTIVE":
            raise Conflict(f"预留 {name} 已经开始，不能再改 start_time", code="reservation_active")
        row = {**found, **changes}
        _apply_duration(row)
        if "flags" in changes:
            row["flags"] = [*known_flags(changes["flags"]), *(flag for flag in IMPLIED_FLAGS if flag in found["flags"])]
        _float(row)
        _check_groups(row)
        if not _PLACED.isdisjoint(changes):
            await settle(connection, row, licenses, set(changes))
        await connection.execute(reservation_update(name, row))
        await record(connection, identity, "reservation.update", name, before=found, after=row)
        await tell_scheduler(connection, inbox_insert("config"))
    return (await list_reservations(engine, name))[0]


async def _lock(connection: AsyncConnection) -> None:
    """改预留的一个一个来；照从前的预留计划好的启动，提交在前的看得见，在后的不成立。"""
    for statement in (DO_NOT_IDLE, LOCK_RESERVATIONS, ADVANCE_VERSION):
        await connection.execute(statement)


def _float(row: dict[str, Any]) -> None:
    """TIME_FLOAT：记下开始离此刻多久，以后总是那么久之后。"""
    row["flags"] = with_float(row["flags"], (row["start_time"] - utc_now()).total_seconds())


def _require_future(row: Mapping[str, Any]) -> None:
    """再也不会生效的不收：时间多半写错了。"""
    now = utc_now()
    if row["start_time"] < row["end_time"] <= now and set(row["flags"]).isdisjoint(RECURRING):
        ended = row["end_time"].isoformat(timespec="seconds")
        raise InvalidRequest("end_time", f"结束是 {ended}，已经过去了", code="reservation_over")


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
    """删除：管理员、Operator；写了 USER_DELETE 的，许用它的人也可以。还有作业指名要用它时抛 Conflict。"""
    async with engine.begin() as connection:
        before = next(iter(await current_rows(connection, name)), None)
        if before is None:
            raise _unknown(name)
        if not await _may_delete(connection, identity, before):
            require_operator(identity, "删除预留")
        using = (await connection.execute(COUNT_JOBS_IN_RESERVATION, {"name": name})).scalar_one()
        if using:
            raise Conflict(f"还有 {using} 个作业要用预留 {name}；请先取消它们或改掉它们", code="reservation_in_use")
        await connection.execute(reservation_delete(name))
        await record(connection, identity, "reservation.delete", name, before=before)
        await tell_scheduler(connection, inbox_insert("config"))


async def _may_delete(connection: AsyncConnection, identity: Identity, row: Mapping[str, Any]) -> bool:
    """写了 USER_DELETE 的：许用它的用户（列了账户的，在其中一个账户里）。"""
    if USER_DELETE not in row["flags"]:
        return False
    users, user = {*row["users"], *group_members(row["groups"])}, identity.user_name
    if users and user not in users:
        return False
    if row["accounts"]:
        rows = await connection.execute(LIST_ASSOCIATIONS, {"account": None, "user": user})
        return not {each.account for each in rows}.isdisjoint(row["accounts"])
    return bool(users)
