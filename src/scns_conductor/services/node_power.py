"""节点的电源：人要开、要关；预先声明要用时才有的节点。开与关由后台进程做（worker/background/power）。"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.core.states import NodeAvailability, PowerState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import many, record
from scns_conductor.services.nodes import list_nodes, node_names, require_admin
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.nodes import NODES_TO_CHANGE, nodes_insert
from scns_conductor.statements.power import POWER_TOTALS

# 一次至多声明几个。
DECLARED_MOST = 10_000


@dataclass(frozen=True, slots=True)
class PowerTotals:
    """nodes：电源状态 -> 节点数；off_s 一共关了多久（节点·秒），boots 开成了几次，boot_s 一共用了多久（秒）。"""

    nodes: dict[str, int]
    off_s: float
    boots: int
    boot_s: float


async def power_totals(engine: AsyncEngine) -> PowerTotals:
    """全部节点的合计。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(POWER_TOTALS)).all()
    return PowerTotals(
        {state.value: 0 for state in PowerState} | {row.power_state: int(row.nodes) for row in rows},
        float(sum(row.off_s or 0 for row in rows)),
        int(sum(row.boots or 0 for row in rows)),
        float(sum(row.boot_s or 0 for row in rows)),
    )


async def declare_nodes(
    engine: AsyncEngine, identity: Identity, text: str, values: dict[str, Any]
) -> list[dict[str, Any]]:
    """声明节点（可写 n[1-3]，要么都声明、要么都不），返回它们；已经有的抛 Conflict。

    values 是 cpus、memory（MiB）、gres、features、weight、topology。它们关着，分配了作业才开机；登记时以实际的为准。
    """
    require_admin(identity, "声明节点")
    names = list(dict.fromkeys(node_names(text, "name")))
    if not names:
        raise InvalidRequest("name", "没有写节点名；例如 n1 或 n[1-3]")
    if len(names) > DECLARED_MOST:
        raise InvalidRequest("name", f"一次至多声明 {DECLARED_MOST} 个节点，这里有 {len(names)} 个")
    rows = [
        {
            **values,
            "name": name,
            "address": name,
            "sockets": 1,
            "cores_per_socket": values["cpus"],
            "threads_per_core": 1,
            "cloud": True,
            # 登记时大小以实际的为准，这几样声明的算数：按它们分配了作业，才把它开起来。
            "pinned": {name: True for name in ("features", "weight", "topology") if values[name] is not None},
            "state": NodeAvailability.UNKNOWN.value,
            "power_state": PowerState.OFF.value,
        }
        for name in names
    ]
    async with engine.begin() as connection:
        known = [row.name for row in (await connection.execute(NODES_TO_CHANGE, {"names": names})).all()]
        if known:
            raise Conflict(f"节点 {known[0]} 已经有了", code="node_exists")
        try:
            await connection.execute(nodes_insert(rows))
        except IntegrityError as error:
            raise Conflict("有人同时声明了这些节点", code="node_exists") from error
        await record(connection, identity, "node.declare", many(names), after=values)
        await tell_scheduler(connection, inbox_insert("nodes", node_names=names))
    wanted = set(names)
    return [node for node in await list_nodes(engine) if node["name"] in wanted]
