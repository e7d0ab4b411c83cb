"""预留：列出；管理员新建、修改、删除。节点不得与别的预留重叠，也不得有跑不完的作业，除非写明。"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.models import Reservation
from scns_conductor.core.statements import inbox_insert, notify_inbox
from scns_conductor.core.tokens import Identity
from scns_conductor.services.nodes import require_admin

FLAGS = ("MAINT", "IGNORE_JOBS", "OVERLAP")
ALL_NODES = "ALL"

_LIST = sa.text(
    "SELECT *, CASE WHEN clock_timestamp() >= end_time THEN 'ENDED' WHEN clock_timestamp() >= start_time THEN 'ACTIVE' "
    "ELSE 'INACTIVE' END AS state FROM reservations "
    "WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY start_time, name"
)
_NODES = sa.text("SELECT name FROM nodes ORDER BY allocated_cpus, name")
_OTHERS = sa.text(
    "SELECT name, nodes FROM reservations "
    "WHERE name <> :name AND start_time < :end_time AND end_time > :start_time AND NOT 'OVERLAP' = ANY(flags)"
)
# 到预留开始时还可能在跑的作业；不限时的总算。
_BUSY = sa.text(
    """
    SELECT min(j.job_id) FROM resource_allocations AS a JOIN jobs AS j USING (job_id)
    WHERE a.released_at IS NULL AND a.node_name = ANY(CAST(:nodes AS text[]))
      AND (j.time_limit IS NULL OR j.start_time + make_interval(secs => j.time_limit) > :start_time)
    """
)
_IN_USE = sa.text(
    "SELECT count(*) FROM jobs WHERE state IN ('PENDING', 'RUNNING', 'SUSPENDED') AND reservation = :name"
)


async def list_reservations(engine: AsyncEngine, name: str | None = None) -> list[dict[str, Any]]:
    """全部预留（结束了的也在，直到删除），或指名的一个（不存在抛 NotFound）。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(_LIST, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _unknown(name)
    return [dict(row) for row in rows]


def _unknown(name: str) -> NotFound:
    return NotFound(f"没有预留 {name[:64]}；用 GET /reservations 查看现有的预留", code="reservation_not_found")


async def create_reservation(
    engine: AsyncEngine, identity: Identity, values: Mapping[str, Any], node_count: int | None
) -> dict[str, Any]:
    """新建；没有写节点时按 node_count 挑最空的。同名的已存在、与别的重叠、节点上有跑不完的作业抛 Conflict。"""
    require_admin(identity, "新建预留")
    row = {**values, "created_by": identity.user_name}
    async with engine.begin() as connection:
        await connection.execute(sa.text("LOCK TABLE reservations IN SHARE ROW EXCLUSIVE MODE"))
        known = list((await connection.execute(_NODES)).scalars())
        taken = await _taken(connection, row, known)
        if not row.get("nodes"):
            row["nodes"] = _pick(node_count, known, taken)
        await _check(connection, row, known, taken)
        try:
            async with connection.begin_nested():
                await connection.execute(sa.insert(Reservation).values(**row))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"预留 {row['name']} 已存在", code="reservation_exists") from error
        await _tell(connection)
    return (await list_reservations(engine, row["name"]))[0]


async def update_reservation(
    engine: AsyncEngine, identity: Identity, name: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """修改；不存在抛 NotFound。"""
    require_admin(identity, "修改预留")
    if not changes:
        raise InvalidRequest("body", '没有要改的字段；例如 {"users": ["alice"]}', code="nothing_to_update")
    async with engine.begin() as connection:
        await connection.execute(sa.text("LOCK TABLE reservations IN SHARE ROW EXCLUSIVE MODE"))
        found = (await connection.execute(_LIST, {"name": name})).mappings().one_or_none()
        if found is None:
            raise _unknown(name)
        known = list((await connection.execute(_NODES)).scalars())
        row = {**found, **changes}
        await _check(connection, row, known, await _taken(connection, row, known))
        await connection.execute(sa.update(Reservation).where(sa.column("name") == name).values(**changes))
        await _tell(connection)
    return (await list_reservations(engine, name))[0]


async def delete_reservation(engine: AsyncEngine, identity: Identity, name: str) -> None:
    """删除；还有作业指名要用它时抛 Conflict。"""
    require_admin(identity, "删除预留")
    async with engine.begin() as connection:
        using = (await connection.execute(_IN_USE, {"name": name})).scalar_one()
        if using:
            raise Conflict(f"还有 {using} 个作业要用预留 {name}；请先取消它们或改掉它们", code="reservation_in_use")
        deleted = await connection.execute(sa.delete(Reservation).where(sa.column("name") == name))
        if deleted.rowcount == 0:
            raise _unknown(name)
        await _tell(connection)


async def _tell(connection: AsyncConnection) -> None:
    await connection.execute(inbox_insert("config"))
    await connection.execute(notify_inbox())


async def _taken(connection: AsyncConnection, row: Mapping[str, Any], known: Sequence[str]) -> dict[str, str]:
    """同一段时间里被别的预留占着的节点 -> 那个预留。"""
    values = {name: row[name] for name in ("name", "start_time", "end_time")}
    found: dict[str, str] = {}
    for other in await connection.execute(_OTHERS, values):
        found |= dict.fromkeys(known if other.nodes == ALL_NODES else expand(other.nodes), other.name)
    return found


def _pick(node_count: int | None, known: Sequence[str], taken: Mapping[str, str]) -> str:
    if node_count is None:
        raise InvalidRequest("nodes", "写明节点，或用 node_count 写要几个", code="reservation_nodes_missing")
    free = [name for name in known if name not in taken]
    if len(free) < node_count:
        raise Conflict(f"要 {node_count} 个节点，那段时间只有 {len(free)} 个没有预留", code="reservation_too_large")
    return compress(sorted(free[:node_count]))


async def _check(
    connection: AsyncConnection, row: Mapping[str, Any], known: Sequence[str], taken: Mapping[str, str]
) -> None:
    start, end = row["start_time"], row["end_time"]
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    if end <= start:
        raise InvalidRequest("end_time", "结束要晚于开始", code="reservation_empty")
    unknown_flags = [flag for flag in row.get("flags") or () if flag not in FLAGS]
    if unknown_flags:
        raise InvalidRequest("flags", f"不支持 {unknown_flags[0]}；可用 {'、'.join(FLAGS)}", code="flag_unknown")
    names = _names(str(row["nodes"]), known)
    missing = [name for name in names if name not in known]
    if missing:
        raise InvalidRequest("nodes", f"没有节点 {missing[0]}", code="node_not_found")
    flags = set(row.get("flags") or ())
    overlapping = next((name for name in names if name in taken), None)
    if overlapping and "OVERLAP" not in flags:
        raise Conflict(
            f"节点 {overlapping} 在那段时间已属于预留 {taken[overlapping]}；换节点、换时间，或加 OVERLAP",
            code="reservation_overlaps",
        )
    if "IGNORE_JOBS" not in flags:
        busy = (await connection.execute(_BUSY, {"nodes": names, "start_time": start})).scalar_one()
        if busy is not None:
            raise Conflict(
                f"作业 {busy} 到预留开始时还可能在这些节点上；推迟开始，或加 IGNORE_JOBS", code="reservation_nodes_busy"
            )


def _names(text: str, known: Sequence[str]) -> list[str]:
    if text == ALL_NODES:
        return list(known)
    try:
        return list(expand(text))
    except ValueError as error:
        raise InvalidRequest("nodes", str(error)) from error
