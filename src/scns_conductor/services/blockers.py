"""谁锁着：等锁超时之后，找出锁着那一行的会话。看不见的（别的用户的会话只看得见名字与进程号）照实不写。"""

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.database import APPLICATION_NAME
from scns_conductor.statements.blockers import HOLDERS, LOCKABLE_TABLES, blockers_of_waiters, lockers_of_row

# 锁着行的事务开始了这么久（秒）就说出来：别人的；我们自己的会话停着这么久。
OTHERS_S = 1.0
OWN_S = 10.0
# PostgreSQL 的上下文（英文关键字之外的会随 lc_messages 变）：while updating tuple (0,1) in relation "jobs"。
_TUPLE = re.compile(r'\((\d+),(\d+)\)[^"«„“]*["«„“](\w+)')


@dataclass(frozen=True, slots=True)
class Blocker:
    """锁着的会话：held_s 是它的事务开始以来的秒数，看不见是 None。"""

    pid: int
    application_name: str
    held_s: float | None

    def __str__(self) -> str:
        name = self.application_name or "没有写 application_name 的程序"
        since = "" if self.held_s is None else f"，已 {self.held_s:.0f} 秒"
        return f"{name}（数据库会话 {self.pid}{since}）"


async def find_blocker(engine: AsyncEngine, context: str | None) -> Blocker | None:
    """context 是等锁超时的错误里的上下文；找不到（已经放开）是 None。"""
    match = _TUPLE.search(context or "")
    row = None
    if match and match[3] in LOCKABLE_TABLES:
        row = await _first(engine, lockers_of_row(match[3]), ctid=f"({match[1]},{match[2]})")
    row = row or await _first(engine, blockers_of_waiters())
    return None if row is None else Blocker(row.pid, row.application_name or "", row.held_s)


async def _first(engine: AsyncEngine, statement: sa.TextClause, **values: str) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(statement, values)).first()


async def holders(connection: AsyncConnection) -> list[dict[str, object]]:
    """锁着我们的表里的行、又不在做我们的事的会话；held_s 看不见是 None。"""
    values = {"own": f"{APPLICATION_NAME}/%", "own_s": OWN_S, "others_s": OTHERS_S, "tables": sorted(LOCKABLE_TABLES)}
    return [dict(row) for row in (await connection.execute(HOLDERS, values)).mappings()]
