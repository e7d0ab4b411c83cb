"""就绪检查：数据库连得上，结构是这个版本要的；调度器没有被别的会话的锁挡住。"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.row_locks import advisory_lockers, lockers
from scns_conductor.core.statements import LEADER_LOCK, leader_select

_VERSION = sa.text("SELECT version_num FROM alembic_version")
_NODES = sa.text(
    "SELECT name, last_heartbeat > clock_timestamp() - make_interval(secs => :timeout) AND state = 'UP' AS alive, "
    "containment FROM nodes ORDER BY name"
)
_LEADER_FREE = sa.text("SELECT 1 FROM scheduler_leader FOR NO KEY UPDATE SKIP LOCKED")


async def readiness(engine: AsyncEngine, expected_version: str, lease_s: float, timeout_s: float) -> dict[str, Any]:
    """{"status": "ok" 或 "unavailable", "checks": {...}}；领导者与节点只报告，不影响就绪。

    例外：调度整个被别的会话的锁挡住时也是 unavailable，checks.scheduler.blocked_by 说是谁。"""
    async with engine.connect() as connection:
        version = (await connection.execute(_VERSION)).scalar_one_or_none()
        leader = (await connection.execute(leader_select(), {"lease": lease_s})).one_or_none()
        scheduler = await _scheduler(connection, leader)
        nodes = (await connection.execute(_NODES, {"timeout": timeout_s})).all()
    current = version == expected_version
    down = [node.name for node in nodes if not node.alive]
    missing = {node.name: node.containment for node in nodes if node.alive and node.containment}
    return {
        "status": "ok" if current and scheduler["status"] != "blocked" else "unavailable",
        "checks": {
            "database": {"status": "ok"},
            "schema": {
                "status": "ok" if current else "failed",
                "current": version,
                "expected": expected_version,
                **({} if current else {"remedy": "执行 scns db upgrade"}),
            },
            "scheduler": scheduler,
            "nodes": {"status": "degraded" if down else "ok", "total": len(nodes), "down": down},
            "containment": missing,
        },
    }


async def _scheduler(connection: AsyncConnection, leader: Any) -> dict[str, Any]:
    """ok；degraded：绕开了几行，别的照常；blocked：整个停着；absent：没有领导者。blocked_by 是锁着它们的会话。"""
    if leader is None:
        return {"status": "absent", "holder": None}
    found: dict[str, Any] = {"status": "ok" if leader.alive else "absent", "holder": leader.holder}
    blocked = list(leader.blocked) if leader.alive else await _blockers(connection, leader.backend_pid)
    if not blocked:
        return found
    whole = not leader.alive or any(not block["rows"] for block in blocked)
    return {**found, "status": "blocked" if whole else "degraded", "blocked_by": blocked}


async def _blockers(connection: AsyncConnection, backend_pid: int | None) -> list[dict[str, Any]]:
    """没有领导者在续租时，谁锁着领导者的行，或占着选举的锁。"""
    if (await connection.execute(_LEADER_FREE)).first() is None:
        who = (await connection.execute(lockers("scheduler_leader", "singleton"))).mappings().all()
        return [_block("scheduler_leader", row) for row in who]
    who = (await connection.execute(advisory_lockers(), {"key": LEADER_LOCK})).mappings().all()
    return [_block("advisory", row) for row in who if row["pid"] != backend_pid]


def _block(table: str, row: Any) -> dict[str, Any]:
    return {"table": table, "rows": [], **{name: row[name] for name in ("pid", "application_name", "user_name")}}
