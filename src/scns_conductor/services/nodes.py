"""节点：列出；管理员排空、恢复、下线、改权重与特性。"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden, InvalidRequest, NotFound
from scns_conductor.core.models import Node
from scns_conductor.core.statements import inbox_insert, notify_inbox
from scns_conductor.core.states import NodeAvailability, node_state
from scns_conductor.core.tokens import Identity

ACTIONS = ("DRAIN", "RESUME", "UNDRAIN", "DOWN")
_LIST = sa.text(
    """
    SELECT n.*, (SELECT coalesce(array_agg(job_id::text ORDER BY job_id), '{}') FROM resource_allocations AS a
                 WHERE a.node_name = n.name AND a.released_at IS NULL) AS jobs
    FROM nodes AS n WHERE CAST(:name AS text) IS NULL OR n.name = :name ORDER BY n.name
    """
)


def require_admin(identity: Identity, what: str) -> None:
    """只有管理员能做；否则抛 Forbidden。"""
    if not identity.admin:
        raise Forbidden(f"{what}要管理员的令牌；请联系管理员，或用 scns token --admin 签发", code="admin_required")


async def list_nodes(engine: AsyncEngine, name: str | None = None) -> list[dict[str, Any]]:
    """节点及其上的作业号；指名的不存在抛 NotFound。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(_LIST, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _unknown(name)
    return [_view(dict(row)) for row in rows]


def _view(row: dict[str, Any]) -> dict[str, Any]:
    row["availability"] = row["state"]
    row["state"] = node_state(row["state"], drain=row["drain"], allocated_cpus=row["allocated_cpus"], cpus=row["cpus"])
    return row


def _unknown(name: str) -> NotFound:
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
) -> dict[str, Any]:
    """state：DRAIN 不再接新作业；RESUME 恢复；DOWN 下线，其上的作业按节点故障结束。DRAIN 与 DOWN 要写原因。"""
    require_admin(identity, "修改节点")
    values: dict[str, Any] = {}
    if state in ("DRAIN", "DOWN"):
        if not reason:
            raise InvalidRequest("reason", f'{state} 要写明原因，例如 "更换内存"', code="reason_required")
        values = {"drain": True} if state == "DRAIN" else {"state": NodeAvailability.DOWN.value}
        values |= {"reason": reason, "reason_user": identity.user_name, "reason_time": sa.func.clock_timestamp()}
    elif state in ("RESUME", "UNDRAIN"):
        values = {"drain": False, "reason": None, "reason_user": None, "reason_time": None}
        if state == "RESUME":
            # 心跳还新鲜的立即可用；失联的等它自己登记。
            values["state"] = sa.text(
                "CASE WHEN state = 'DOWN' AND last_heartbeat > clock_timestamp() - interval '1 minute' "
                "THEN 'UP' ELSE state END"
            )
    elif state is not None:
        raise InvalidRequest("state", f"不认识 {state!r}；可用 {'、'.join(ACTIONS)}", code="state_unknown")
    elif reason is not None:
        values = {"reason": reason, "reason_user": identity.user_name, "reason_time": sa.func.clock_timestamp()}
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
        changed = await connection.execute(sa.update(Node).where(sa.column("name") == name).values(**values))
        if changed.rowcount == 0:
            raise _unknown(name)
        await connection.execute(inbox_insert("nodes", node_names=[name]))
        await connection.execute(notify_inbox())
    return (await list_nodes(engine, name))[0]
