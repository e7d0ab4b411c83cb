"""就绪检查：数据库连得上、可写、结构是这个版本要的；别的只报告。"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.schema_version import CURRENT_VERSION, mismatch_text
from scns_conductor.core.server_facts import SELECT_FACTS, database_report, notify_report
from scns_conductor.core.settings import Settings
from scns_conductor.core.statements import leader_select
from scns_conductor.services.blockers import idle_holders

_HAS_VERSION = sa.text("SELECT to_regclass('alembic_version') IS NOT NULL")
_NODES = sa.text(
    "SELECT name, last_heartbeat > clock_timestamp() - make_interval(secs => :timeout) AND state = 'UP' AS alive, "
    "containment FROM nodes ORDER BY name"
)
# 停在事务里、锁着我们的行这么久的，说出来。
IDLE_HOLDER_S = 10.0


async def server_facts(engine: AsyncEngine) -> dict[str, Any]:
    """服务器此刻的样子。池里的会话是只读的那阵子开的，就全换掉再看。"""
    facts: dict[str, Any] = {}
    for _ in range(2):
        async with engine.connect() as connection:
            facts = dict((await connection.execute(SELECT_FACTS)).mappings().one())
            if not facts["read_only"]:
                break
            await connection.invalidate()
        await engine.dispose()
    return facts


async def readiness(engine: AsyncEngine, settings: Settings, expected_version: str) -> dict[str, Any]:
    """{"status": "ok" 或 "unavailable", "checks": {...}}；领导者、节点、锁、通知的队列只报告，不影响就绪。"""
    facts = await server_facts(engine)
    version = leader = None
    nodes: list[Any] = []
    async with engine.connect() as connection:
        if (await connection.execute(_HAS_VERSION)).scalar_one():
            version = (await connection.execute(CURRENT_VERSION)).scalar_one_or_none()
        current = version == expected_version
        if current:
            lease = {"lease": settings.scheduler_lease_s}
            leader = (await connection.execute(leader_select(), lease)).one_or_none()
            nodes = list((await connection.execute(_NODES, {"timeout": settings.node_timeout_s})).all())
        held = await idle_holders(connection, IDLE_HOLDER_S)
    down = [node.name for node in nodes if not node.alive]
    missing = {node.name: node.containment for node in nodes if node.alive and node.containment}
    database = database_report(facts, len(nodes), settings.database_pool_size)
    return {
        "status": "ok" if current and database["status"] in ("ok", "degraded") else "unavailable",
        "checks": {
            "database": database,
            "schema": {
                "status": "ok" if current else "failed",
                "current": version,
                "expected": expected_version,
                **({} if current else {"remedy": mismatch_text(version, expected_version)}),
            },
            "scheduler": {"status": "ok" if leader and leader.alive else "absent", "holder": leader and leader.holder},
            "nodes": {
                "status": "absent" if len(down) == len(nodes) else "degraded" if down else "ok",
                "total": len(nodes),
                "down": down,
            },
            "locks": {"status": "held" if held else "ok", "held": held},
            "notify_queue": notify_report(facts),
            "containment": missing,
        },
    }
