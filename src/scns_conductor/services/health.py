"""就绪检查：数据库连得上、可写、结构是这个版本要的，调度器没有被别的会话的锁挡住；别的只报告。"""

import time
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.answers.health import Block, Readiness, SchedulerHealth, SchemaHealth
from scns_conductor.core.database import is_pooled
from scns_conductor.core.schema_version import CURRENT_VERSION, HAS_SCHEMA, mismatch_text
from scns_conductor.core.settings import Settings
from scns_conductor.services.blockers import holders
from scns_conductor.services.server_facts import database_report, notify_report
from scns_conductor.services.valkey_health import valkey_health
from scns_conductor.statements.blockers import advisory_lockers, lockers
from scns_conductor.statements.health import NODES_ALIVE
from scns_conductor.statements.incarnation import CURRENT_INCARNATION
from scns_conductor.statements.leadership import LEADER_LOCK, LEADER_ROW_UNLOCKED, leader_select
from scns_conductor.statements.queue_metrics import ROUNDTRIP
from scns_conductor.statements.server_facts import SERVER_FACTS

# 数据库说盘满了，这么久（秒）以内都说出来：就绪检查自己只读，看不出。
FULL_S = 60.0
_full_since: WeakKeyDictionary[AsyncEngine, float] = WeakKeyDictionary()
_NO_SCHEDULER: SchedulerHealth = {"status": "absent", "holder": None}


def note_full_disk(engine: AsyncEngine) -> None:
    """数据库刚刚因为盘满拒绝了一次写。"""
    _full_since[engine] = time.monotonic()


async def server_facts(engine: AsyncEngine) -> dict[str, Any]:
    """服务器此刻的样子。池里的会话是只读的那阵子开的，就全换掉再看。"""
    facts: dict[str, Any] = {}
    for _ in range(2):
        async with engine.connect() as connection:
            facts = dict((await connection.execute(SERVER_FACTS)).mappings().one())
            if not facts["read_only"]:
                break
            await connection.invalidate()
        await engine.dispose()
    return facts


async def current_version(connection: AsyncConnection) -> str | None:
    """数据库的结构是哪个版本；空库是 None。"""
    if not (await connection.execute(HAS_SCHEMA)).scalar_one():
        return None
    found: str | None = (await connection.execute(CURRENT_VERSION)).scalar_one_or_none()
    return found


async def readiness(engine: AsyncEngine, settings: Settings, expected_version: str) -> Readiness:
    """领导者、节点、锁、通知的队列、Valkey 只报告，不影响就绪。

    例外：调度整个被别的会话的锁挡住时也是 unavailable，checks.scheduler.blocked_by 说是谁。
    """
    # 先量：库一停一走的时候，挨着别的语句的都恰好赶在它走的时候。
    async with engine.connect() as connection:
        began = time.perf_counter()
        await connection.execute(ROUNDTRIP)
        roundtrip_ms = (time.perf_counter() - began) * 1e3
    facts = await server_facts(engine)
    scheduler = _NO_SCHEDULER
    nodes: list[Any] = []
    incarnation: str | None = None
    async with engine.connect() as connection:
        version = await current_version(connection)
        current = version == expected_version
        if current:
            lease = {"lease": settings.scheduler_lease_s}
            leader = (await connection.execute(leader_select(), lease)).one_or_none()
            scheduler = await _scheduler(connection, leader, read_only=facts["read_only"])
            nodes = list((await connection.execute(NODES_ALIVE, {"timeout": settings.node_timeout_s})).all())
            incarnation = await connection.scalar(CURRENT_INCARNATION)
        held = await holders(connection)
    valkey = await valkey_health(settings, incarnation, [node.name for node in nodes])
    down = [node.name for node in nodes if not node.alive]
    missing = {node.name: node.containment for node in nodes if node.alive and node.containment}
    database = database_report(facts, 0 if is_pooled(settings) else len(nodes), settings.database_pool_size)
    database["roundtrip_ms"] = round(roundtrip_ms, 1)
    # 只读的、太旧的更要紧：那样就绪不了。
    full = engine in _full_since and time.monotonic() - _full_since[engine] < FULL_S
    if full and database["status"] in ("ok", "degraded"):
        database["status"], database["remedy"] = "full", "数据库服务器的磁盘满了，收不下新的作业；请清出空间"
    schema: SchemaHealth = {
        "status": "ok" if current else "failed",
        "current": version,
        "expected": expected_version,
    }
    if not current:
        schema["remedy"] = mismatch_text(version, expected_version)
    return {
        "status": "ok"
        if current and database["status"] in ("ok", "degraded", "full") and scheduler["status"] != "blocked"
        else "unavailable",
        "checks": {
            "database": database,
            "schema": schema,
            "scheduler": scheduler,
            "nodes": {
                "status": "absent" if len(down) == len(nodes) else "degraded" if down else "ok",
                "total": len(nodes),
                "down": down,
            },
            "locks": {"status": "held" if held else "ok", "held": held},
            "notify_queue": notify_report(facts),
            "valkey": valkey,
            "containment": missing,
        },
    }


async def _scheduler(connection: AsyncConnection, leader: Any, *, read_only: bool) -> SchedulerHealth:
    """ok；degraded：绕开了几行，别的照常；blocked：整个停着；absent：没有领导者。blocked_by 是锁着它们的会话。"""
    if leader is None:
        return _NO_SCHEDULER
    found: SchedulerHealth = {"status": "ok" if leader.alive else "absent", "holder": leader.holder}
    if leader.alive:
        blocked = list(leader.blocked)
    else:
        # 只读的服务器上不能试着锁行：那时也没有人选得上。
        blocked = [] if read_only else await _blockers(connection, leader.backend_pid)
    if not blocked:
        return found
    whole = not leader.alive or any(not block["rows"] for block in blocked)
    return {**found, "status": "blocked" if whole else "degraded", "blocked_by": blocked}


async def _blockers(connection: AsyncConnection, backend_pid: int | None) -> list[Block]:
    """没有领导者在续租时，谁锁着领导者的行，或占着选举的锁。"""
    if (await connection.execute(LEADER_ROW_UNLOCKED)).first() is None:
        who = (await connection.execute(lockers("scheduler_leader", "singleton"))).mappings().all()
        return [_block("scheduler_leader", row) for row in who]
    who = (await connection.execute(advisory_lockers(), {"key": LEADER_LOCK})).mappings().all()
    return [_block("advisory", row) for row in who if row["pid"] != backend_pid]


def _block(table: str, row: Any) -> Block:
    return {
        "table": table,
        "rows": [],
        "pid": row["pid"],
        "application_name": row["application_name"],
        "user_name": row["user_name"],
    }
