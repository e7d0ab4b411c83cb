"""分区：列出；管理员新建、修改、删除。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.models import Partition
from scns_conductor.core.tokens import Identity
from scns_conductor.services.nodes import require_admin
from scns_conductor.statements.inbox import RESERVATION_LIVES, inbox_insert, notify_inbox

_LIST = sa.text("SELECT * FROM partitions WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY name")
_IN_USE = sa.text(
    "SELECT count(*) FROM jobs WHERE state IN ('PENDING', 'RUNNING', 'SUSPENDED') "
    "AND :name = ANY(string_to_array(partition, ','))"
)
_UNKNOWN_NODES = sa.text("SELECT unnest(CAST(:names AS text[])) EXCEPT SELECT name FROM nodes ORDER BY 1")
_RESERVED = sa.text(f"SELECT min(name) FROM reservations WHERE partition = :name AND {RESERVATION_LIVES}")


async def list_partitions(engine: AsyncEngine, name: str | None = None) -> list[dict[str, Any]]:
    """全部分区，或指名的一个（不存在抛 NotFound）。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(_LIST, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _unknown(name)
    return [dict(row) for row in rows]


def _unknown(name: str) -> NotFound:
    return NotFound(f"没有分区 {name[:64]}；用 GET /partitions 查看现有的分区", code="partition_not_found")


async def create_partition(engine: AsyncEngine, identity: Identity, values: Mapping[str, Any]) -> dict[str, Any]:
    """新建；同名的已存在抛 Conflict。"""
    require_admin(identity, "新建分区")
    names = _check_nodes(values)
    async with engine.begin() as connection:
        await _require_nodes(connection, names)
        await _clear_default(connection, values)
        try:
            async with connection.begin_nested():
                await connection.execute(sa.insert(Partition).values(**values))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"分区 {values['name']} 已存在", code="partition_exists") from error
        await _tell(connection)
    return (await list_partitions(engine, values["name"]))[0]


async def update_partition(
    engine: AsyncEngine, identity: Identity, name: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """修改；不存在抛 NotFound。"""
    require_admin(identity, "修改分区")
    if not values:
        raise InvalidRequest("body", '没有要改的字段；例如 {"state": "DOWN"}', code="nothing_to_update")
    names = _check_nodes(values)
    async with engine.begin() as connection:
        await _require_nodes(connection, names)
        await _clear_default(connection, values)
        changed = await connection.execute(sa.update(Partition).where(sa.column("name") == name).values(**values))
        if changed.rowcount == 0:
            raise _unknown(name)
        await _tell(connection)
    return (await list_partitions(engine, name))[0]


async def delete_partition(engine: AsyncEngine, identity: Identity, name: str) -> None:
    """删除；还有作业或没有结束的预留在用抛 Conflict。"""
    require_admin(identity, "删除分区")
    async with engine.begin() as connection:
        used = (await connection.execute(_IN_USE, {"name": name})).scalar_one()
        if used:
            raise Conflict(
                f"分区 {name} 还有 {used} 个没有结束的作业；先把它们移走或等它们结束", code="partition_in_use"
            )
        reserved = (await connection.execute(_RESERVED, {"name": name})).scalar_one()
        if reserved is not None:
            raise Conflict(f"预留 {reserved} 用着分区 {name}；先删除它或给它换分区", code="partition_in_use")
        deleted = await connection.execute(sa.delete(Partition).where(sa.column("name") == name))
        if deleted.rowcount == 0:
            raise _unknown(name)
        await _tell(connection)


def _check_nodes(values: Mapping[str, Any]) -> list[str]:
    """写明的节点名；写法有误抛 InvalidRequest。"""
    for name, value in values.items():
        if any(isinstance(text, str) and "\0" in text for text in (value if isinstance(value, list) else [value])):
            raise InvalidRequest(name, "含有 NUL 字节")
    nodes = values.get("nodes")
    if nodes is None or nodes == "ALL":
        return []
    try:
        return expand(nodes)
    except ValueError as error:
        raise InvalidRequest("nodes", str(error)) from error


async def _require_nodes(connection: AsyncConnection, names: list[str]) -> None:
    missing = (await connection.execute(_UNKNOWN_NODES, {"names": names})).scalars().all()
    if missing:
        raise InvalidRequest(
            "nodes",
            f"没有节点 {compress(missing)}；节点登记之后才能写进分区（scns nodes 看有哪些）",
            code="node_unknown",
        )


async def _clear_default(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    if values.get("is_default"):
        await connection.execute(sa.text("UPDATE partitions SET is_default = false WHERE is_default"))


async def _tell(connection: AsyncConnection) -> None:
    await connection.execute(inbox_insert("config"))
    await connection.execute(notify_inbox())
