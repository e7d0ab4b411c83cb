"""就绪检查：数据库连得上，结构是这个版本要的。"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.statements import leader_select

_VERSION = sa.text("SELECT version_num FROM alembic_version")
_NODES = sa.text(
    "SELECT name, last_heartbeat > clock_timestamp() - make_interval(secs => :timeout) AND state = 'UP' AS alive, "
    "containment FROM nodes ORDER BY name"
)


async def readiness(engine: AsyncEngine, expected_version: str, lease_s: float, timeout_s: float) -> dict[str, Any]:
    """{"status": "ok" 或 "unavailable", "checks": {...}}；领导者与节点只报告，不影响就绪。"""
    async with engine.connect() as connection:
        version = (await connection.execute(_VERSION)).scalar_one_or_none()
        leader = (await connection.execute(leader_select(), {"lease": lease_s})).one_or_none()
        nodes = (await connection.execute(_NODES, {"timeout": timeout_s})).all()
    current = version == expected_version
    down = [node.name for node in nodes if not node.alive]
    missing = {node.name: node.containment for node in nodes if node.alive and node.containment}
    return {
        "status": "ok" if current else "unavailable",
        "checks": {
            "database": {"status": "ok"},
            "schema": {
                "status": "ok" if current else "failed",
                "current": version,
                "expected": expected_version,
                **({} if current else {"remedy": "执行 scns db upgrade"}),
            },
            "scheduler": {"status": "ok" if leader and leader.alive else "absent", "holder": leader and leader.holder},
            "nodes": {"status": "degraded" if down else "ok", "total": len(nodes), "down": down},
            "containment": missing,
        },
    }
