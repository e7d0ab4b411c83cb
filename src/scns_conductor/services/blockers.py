"""谁锁着：等锁超时之后，找出锁着那一行的会话。看不见的（别的用户的会话只看得见名字与进程号）照实不写。"""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

# PostgreSQL 的上下文（英文关键字之外的会随 lc_messages 变）：while updating tuple (0,1) in relation "jobs"。
_TUPLE = re.compile(r'\((\d+),(\d+)\)[^"«„“]*["«„“](\w+)')
_TABLES = frozenset({"jobs", "nodes", "resource_allocations", "scheduler_leader", "partitions", "job_steps", "accounts",
                     "associations", "qos", "users", "reservations", "idempotency_keys"})  # fmt: skip

_SESSION = (
    "pid, a.application_name, "
    "CAST(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start)) AS float) AS since_s"
)
# 锁着某一行的事务号在那一行的 xmax 里（几个会话共享时是一个 multixact，拆开来看）；持有这个事务号的锁的就是它。
_HOLDER = (
    "JOIN pg_locks AS k ON k.locktype = 'transactionid' AND k.granted "
    "AND CAST(k.transactionid AS text) = CAST({} AS text) "
    "JOIN pg_stat_activity AS a USING (pid)"
)
_BY_ROW = (
    f"SELECT {_SESSION} FROM {{table}} AS t {_HOLDER.format('t.xmax')} WHERE t.ctid = CAST(CAST(:ctid AS text) AS tid)",
    f"SELECT {_SESSION} FROM {{table}} AS t CROSS JOIN LATERAL pg_get_multixact_members(t.xmax) AS m "
    f"{_HOLDER.format('m.xid')} WHERE t.ctid = CAST(CAST(:ctid AS text) AS tid)",
)
# 不知道是哪一行（排在另一个等待者后面）：挡着别人、自己不等的。
_ANY = f"""
    WITH waiting AS (SELECT pid, pg_blocking_pids(pid) AS blockers FROM pg_locks WHERE NOT granted)
    SELECT a.{_SESSION} FROM pg_stat_activity AS a
    WHERE a.pid IN (SELECT unnest(blockers) FROM waiting) AND a.pid NOT IN (SELECT pid FROM waiting)
    ORDER BY since_s DESC NULLS LAST LIMIT 1
"""
# 停在事务里、锁着（或改过）我们的行的会话；别的用户的看不见状态，不列。
_IDLE = sa.text(
    f"""
    SELECT a.{_SESSION}, array_agg(DISTINCT CAST(CAST(k.relation AS regclass) AS text)) AS tables
    FROM pg_stat_activity AS a JOIN pg_locks AS k ON k.pid = a.pid AND k.granted AND k.locktype = 'relation'
      AND k.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareLock', 'ExclusiveLock', 'AccessExclusiveLock')
    WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
      AND a.state_change < clock_timestamp() - make_interval(secs => :idle_s)
      AND k.relation IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
    GROUP BY a.pid, a.application_name, a.xact_start, a.backend_start ORDER BY since_s DESC LIMIT 10
    """
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """锁着的会话：since_s 是它的事务（看不见时是会话）开始以来的秒数。"""

    pid: int
    application_name: str
    since_s: float | None

    def __str__(self) -> str:
        name = self.application_name or "没有写 application_name 的程序"
        since = "" if self.since_s is None else f"，已 {self.since_s:.0f} 秒"
        return f"{name}（数据库会话 {self.pid}{since}）"


async def find_blocker(engine: AsyncEngine, context: str | None) -> Blocker | None:
    """context 是等锁超时的错误里的上下文；找不到（已经放开）是 None。"""
    match = _TUPLE.search(context or "")
    row = None
    if match and match[3] in _TABLES:
        for statement in _BY_ROW:
            # xmax 不是 multixact 时第二条会报错：那就是已经放开了。
            with contextlib.suppress(sa.exc.DBAPIError):
                row = await _first(engine, statement.format(table=match[3]), ctid=f"({match[1]},{match[2]})")
            if row is not None:
                break
    row = row or await _first(engine, _ANY)
    return None if row is None else Blocker(row.pid, row.application_name or "", row.since_s)


async def _first(engine: AsyncEngine, statement: str, **values: str) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(sa.text(statement), values)).first()


async def idle_holders(connection: AsyncConnection, idle_s: float) -> list[dict[str, object]]:
    """停在事务里 idle_s 秒以上、锁着我们的表里的行的会话。"""
    rows = await connection.execute(_IDLE, {"idle_s": idle_s, "tables": sorted(_TABLES)})
    return [dict(row) for row in rows.mappings()]
