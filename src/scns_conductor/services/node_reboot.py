"""重启节点：要求、撤销。等它空下来、运行 RebootProgram 的是节点的代理，没有回来由领导者发现。"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.core.states import RebootStage
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import many, record
from scns_conductor.services.nodes import list_nodes, node_names, node_unknown, require_admin
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.nodes import NO_REBOOT, NODES_TO_CHANGE, NOW, nodes_update

NEXT_STATES = ("RESUME", "DOWN")


async def request_reboot(
    engine: AsyncEngine, identity: Identity, text: str, *, asap: bool, next_state: str | None, reason: str | None
) -> list[dict[str, Any]]:
    """要这些节点（可写 n[1-3]）空下来之后重启，返回它们。

    asap 是从此不接新作业；next_state 是回来之后 RESUME（撤掉排空）或 DOWN（下线）。要么都要，要么都不要：
    没有的抛 NotFound，已经在重启的、关着机的抛 Conflict。
    """
    require_admin(identity, "重启节点")
    values = {
        "reboot": RebootStage.REQUESTED.value,
        "reboot_asap": asap,
        "reboot_next_state": next_state,
        "reboot_reason": reason,
        "reboot_since": NOW,
    }
    return await _change(engine, identity, "node.reboot", text, values, issued="已经在重启了，等它回来")


async def cancel_reboot(engine: AsyncEngine, identity: Identity, text: str) -> list[dict[str, Any]]:
    """撤销还没有开始的重启，返回这些节点；已经在重启的抛 Conflict。"""
    require_admin(identity, "撤销重启")
    return await _change(engine, identity, "node.reboot_cancel", text, dict(NO_REBOOT), issued="已经在重启了，撤销不了")


async def _change(
    engine: AsyncEngine, identity: Identity, action: str, text: str, values: dict[str, Any], issued: str
) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(node_names(text, "name")))
    if not names:
        raise InvalidRequest("name", "没有写节点名；例如 n1 或 n[1-3]")
    async with engine.begin() as connection:
        found = {row.name: row for row in (await connection.execute(NODES_TO_CHANGE, {"names": names})).all()}
        for name in names:
            if name not in found:
                raise node_unknown(name)
            if found[name].reboot == RebootStage.ISSUED:
                raise Conflict(f"节点 {name} {issued}", code="node_rebooting")
            if found[name].power_state != "ON":
                raise Conflict(f"节点 {name} 没有开着（{found[name].power_state}）", code="node_powered_down")
        await connection.execute(nodes_update(names, values))
        await record(connection, identity, action, many(names), after=values)
        await tell_scheduler(connection, inbox_insert("nodes", node_names=names))
    return [node for node in await list_nodes(engine) if node["name"] in found]
