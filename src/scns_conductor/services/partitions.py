"""分区：列出；管理员新建、修改、删除。"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.audit import record
from scns_conductor.services.nodes import node_names, require_admin
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.partitions import (
    CLEAR_DEFAULT,
    COUNT_JOBS_IN_PARTITION,
    FIRST_RESERVATION,
    LIST_PARTITIONS,
    UNKNOWN_NODES,
    partition_delete,
    partition_insert,
    partition_update,
)


async def list_partitions(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """全部分区，或指名的一个（不存在抛 NotFound）。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_PARTITIONS, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _unknown(name)
    return [dict(row) for row in rows]


def _unknown(name: str) -> NotFound:
    return NotFound(f"没有分区 {name[:64]}；用 GET /partitions 查看现有的分区", code="partition_not_found")


async def create_partition(engine: Database, identity: Identity, values: Mapping[str, Any]) -> dict[str, Any]:
    """新建；同名的已存在抛 Conflict。"""
    require_admin(identity, "新建分区")
    names = _check_nodes(values)
    async with engine.begin() as connection:
        await _require_nodes(connection, names)
        await _clear_default(connection, values)
        try:
            async with connection.begin_nested():
                await connection.execute(partition_insert(values))
        except IntegrityError as error:
            raise Conflict(f"分区 {values['name']} 已存在", code="partition_exists") from error
        await record(connection, identity, "partition.create", values["name"], after=values)
        await tell_scheduler(connection, inbox_insert("config"))
    return (await list_partitions(engine, values["name"]))[0]


async def update_partition(
    engine: Database, identity: Identity, name: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """修改；不存在抛 NotFound。"""
    require_admin(identity, "修改分区")
    if not values:
        raise InvalidRequest("body", '没有要改的字段；例如 {"state": "DOWN"}', code="nothing_to_update")
    names = _check_nodes(values)
    async with engine.begin() as connection:
        await _require_nodes(connection, names)
        await _clear_default(connection, values)
        before = (await connection.execute(LIST_PARTITIONS, {"name": name})).mappings().one_or_none()
        if before is None:
            raise _unknown(name)
        await connection.execute(partition_update(name, values))
        await record(connection, identity, "partition.update", name, before=before, after=values)
        await tell_scheduler(connection, inbox_insert("config"))
    return (await list_partitions(engine, name))[0]


async def delete_partition(engine: Database, identity: Identity, name: str) -> None:
    """删除；还有作业或没有结束的预留在用抛 Conflict。"""
    require_admin(identity, "删除分区")
    async with engine.begin() as connection:
        used = (await connection.execute(COUNT_JOBS_IN_PARTITION, {"name": name})).scalar_one()
        if used:
            raise Conflict(
                f"分区 {name} 还有 {used} 个没有结束的作业；先把它们移走或等它们结束", code="partition_in_use"
            )
        reserved = (await connection.execute(FIRST_RESERVATION, {"name": name})).scalar_one()
        if reserved is not None:
            raise Conflict(f"预留 {reserved} 用着分区 {name}；先删除它或给它换分区", code="partition_in_use")
        before = (await connection.execute(LIST_PARTITIONS, {"name": name})).mappings().one_or_none()
        if before is None:
            raise _unknown(name)
        await connection.execute(partition_delete(name))
        await record(connection, identity, "partition.delete", name, before=before)
        await tell_scheduler(connection, inbox_insert("config"))


def _check_nodes(values: Mapping[str, Any]) -> tuple[str, ...]:
    """写明的节点名；写法有误抛 InvalidRequest。"""
    for name, value in values.items():
        if any(isinstance(text, str) and "\0" in text for text in (value if isinstance(value, list) else [value])):
            raise InvalidRequest(name, "含有 NUL 字节")
    nodes = values.get("nodes")
    if nodes is None or nodes == "ALL":
        return ()
    return node_names(nodes, "nodes")


async def _require_nodes(connection: AsyncConnection, names: Sequence[str]) -> None:
    missing = (await connection.execute(UNKNOWN_NODES, {"names": list(names)})).scalars().all()
    if missing:
        raise InvalidRequest(
            "nodes",
            f"没有节点 {compress(missing)}；节点登记之后才能写进分区（scns nodes 看有哪些）",
            code="node_unknown",
        )


async def _clear_default(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    if values.get("is_default"):
        await connection.execute(CLEAR_DEFAULT)
