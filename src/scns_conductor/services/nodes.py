"""节点：列出；管理员排空、恢复、下线、改权重与特性、删除。"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.answers.cluster import NodeEvent
from scns_conductor.core.answers.writing import rows_of
from scns_conductor.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.states import NodeAvailability, node_state
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import many, record
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.nodes import (
    DELETABLE_NODES,
    LIST_NODES,
    NODE_EVENTS,
    NODES_IN_USE,
    NOW,
    POWER_REQUESTS,
    RESUMED_STATE,
    node_update,
    nodes_delete,
    nodes_pin,
)
from scns_conductor.statements.partitions import PARTITIONS_WITH_NODES, partition_update
from scns_conductor.statements.reservations import RESERVED_NODES

ACTIONS = ("DRAIN", "RESUME", "UNDRAIN", "DOWN", *POWER_REQUESTS)


def require_admin(identity: Identity, what: str) -> None:
    """只有管理员能做；否则抛 Forbidden。"""
    if not identity.admin:
        raise Forbidden(f"{what}要管理员的令牌；请联系管理员，或用 scns token --admin 签发", code="admin_required")


async def list_nodes(engine: AsyncEngine, name: str | None = None) -> list[dict[str, Any]]:
    """节点及其上的作业号；指名的不存在抛 NotFound。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_NODES, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise node_unknown(name)
    return [_view(dict(row)) for row in rows]


async def node_events(engine: AsyncEngine, name: str, limit: int) -> list[NodeEvent]:
    """节点的上线、下线、排空、恢复，新的在前（删了的节点的也还在）；从来没有这个节点抛 NotFound。"""
    async with engine.connect() as connection:
        found = (await connection.execute(NODE_EVENTS, {"name": name, "limit": limit})).mappings().all()
    if not found:
        await list_nodes(engine, name)
    return rows_of(NodeEvent, found)


def _view(row: dict[str, Any]) -> dict[str, Any]:
    row["availability"], row["state"] = row["state"], node_state(row)
    return row


def node_unknown(name: str) -> NotFound:
    """没有这个节点。"""
    return NotFound(f"没有节点 {name[:64]}；用 GET /nodes 或 scns nodes 查看现有的节点", code="node_not_found")


async def update_node(
    engine: AsyncEngine,
    identity: Identity,
    name: str,
    *,
    state: str | None = None,
    reason: str | None = None,
    weight: int | None = None,
    features: list[str] | None = None,
    topology: str | None = None,
    elastic: bool = False,
) -> dict[str, Any]:
    """state：DRAIN 不再接新作业；RESUME 恢复；DOWN 下线，其上的作业按节点故障结束。DRAIN 与 DOWN 要写原因。

    POWER_UP 开机；POWER_DOWN 空了就关，_ASAP 从此不接新作业，_FORCE 结束其上的作业；没有节能（elastic）抛 Conflict。
    """
    require_admin(identity, "修改节点")
    values: dict[str, Any] = {}
    if state in ("DRAIN", "DOWN"):
        if not reason:
            raise InvalidRequest("reason", f'{state} 要写明原因，例如 "更换内存"', code="reason_required")
        values = {"drain": True} if state == "DRAIN" else {"state": NodeAvailability.DOWN.value}
        values |= {"reason": reason, "reason_user": identity.user_name, "reason_time": NOW}
    elif state in ("RESUME", "UNDRAIN"):
        values = {"drain": False, "reason": None, "reason_user": None, "reason_time": None}
        if state == "RESUME":
            values["state"] = RESUMED_STATE
    elif state is not None and state in POWER_REQUESTS:
        if not elastic:
            raise Conflict(
                "没有设置 suspend_program 与 resume_program，开关不了节点；见 docs/elastic.md",
                code="power_unconfigured",
            )
        values = dict(POWER_REQUESTS[state])
        if state == "POWER_DOWN_FORCE":
            values |= {"reason": reason or state, "reason_user": identity.user_name, "reason_time": NOW}
    elif state is not None:
        raise InvalidRequest("state", f"不认识 {state!r}；可用 {'、'.join(ACTIONS)}", code="state_unknown")
    elif reason is not None:
        values = {"reason": reason, "reason_user": identity.user_name, "reason_time": NOW}
    if weight is not None:
        values["weight"] = weight
    if features is not None:
        values["features"] = features
    if topology is not None:
        values["topology"] = topology
    if not values:
        raise InvalidRequest(
            "body", '没有要改的字段；例如 {"state": "DRAIN", "reason": "更换内存"}', code="nothing_to_update"
        )
    async with engine.begin() as connection:
        before = await _written(connection, name, values)
        await connection.execute(node_update(name, values))
        after = await _written(connection, name, values)
        await record(connection, identity, "node.update", name, before, after)
        await tell_scheduler(connection, inbox_insert("nodes", node_names=[name]))
    return (await list_nodes(engine, name))[0]


async def _written(connection: AsyncConnection, name: str, columns: Iterable[str]) -> dict[str, Any]:
    """这个节点的这几列；不存在抛 NotFound。"""
    row = (await connection.execute(LIST_NODES, {"name": name})).mappings().one_or_none()
    if row is None:
        raise node_unknown(name)
    return {column: row[column] for column in columns}


async def delete_nodes(engine: AsyncEngine, identity: Identity, text: str, *, node_timeout_s: float) -> list[str]:
    """删除节点（可写 n[1-3]，要么都删、要么都不删），返回删掉的名字；作业、用量与历史不动。

    还有作业在上面的、还在接作业的、没有结束的预留用着的抛 Conflict。分区的节点列表里去掉它们。
    """
    require_admin(identity, "删除节点")
    names = list(dict.fromkeys(node_names(text, "name")))
    if not names:
        raise InvalidRequest("name", "没有写节点名；例如 n1 或 n[1-3]")
    async with engine.begin() as connection:
        rows = (await connection.execute(DELETABLE_NODES, {"names": names, "timeout": node_timeout_s})).all()
        missing = next((name for name in names if name not in {row.name for row in rows}), None)
        if missing is not None:
            raise node_unknown(missing)
        using = (await connection.execute(NODES_IN_USE, {"names": names})).first()
        if using is not None:
            raise Conflict(
                f"节点 {using.node_name} 上还有 {using.jobs} 个作业；先排空它，等它们结束或取消它们", code="node_busy"
            )
        serving = next((row.name for row in rows if row.serving), None)
        if serving is not None:
            raise Conflict(
                f"节点 {serving} 还在接作业；先排空它（scns nodes {serving} --drain --reason …），或停下它的代理",
                code="node_alive",
            )
        for reservation in (await connection.execute(RESERVED_NODES)).all():
            if not set(names).isdisjoint(expand(reservation.nodes)):
                raise Conflict(f"预留 {reservation.name} 用着这些节点；先删除它或给它换节点", code="node_reserved")
        await _leave_partitions(connection, set(names))
        await connection.execute(nodes_delete(names))
        await record(connection, identity, "node.delete", many(names))
        await tell_scheduler(connection, inbox_insert("nodes", node_names=names))
    return names


async def pin_nodes(
    connection: AsyncConnection, identity: Identity, names: Sequence[str], traits: Mapping[str, Any]
) -> None:
    """写定这些节点的 features、weight、topology：代理重新登记时不再改它们。不存在的不管；在调用者的事务里。"""
    require_admin(identity, "修改节点")
    await connection.execute(nodes_pin(names, traits))
    await tell_scheduler(connection, inbox_insert("nodes", node_names=names))


def node_names(text: str | None, field: str) -> tuple[str, ...]:
    """节点列表；写错了抛 InvalidRequest。"""
    try:
        return tuple(expand(text)) if text else ()
    except ValueError as error:
        raise InvalidRequest(field, str(error)) from error


async def _leave_partitions(connection: AsyncConnection, names: set[str]) -> None:
    for partition in (await connection.execute(PARTITIONS_WITH_NODES)).all():
        members = expand(partition.nodes)
        left = [name for name in members if name not in names]
        if len(left) == len(members):
            continue
        if not left:
            raise Conflict(
                f"分区 {partition.name} 只有这些节点；先给它换节点（scns partitions update）或删除它",
                code="partition_in_use",
            )
        await connection.execute(partition_update(partition.name, {"nodes": compress(left)}))
