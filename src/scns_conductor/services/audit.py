"""审计：管理的与关乎安全的事，各写一条，与那件事在同一个事务里。"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.job_rows import JobRow
from scns_conductor.statements.audit import AUDIT_AFTER, AUDIT_INSERT, AUDIT_PAGE

# 一次至多列这么多条。
MOST_LISTED = 1000
# 事务再久也到不了这么久（秒）：语句、闲着的事务各至多一分钟。
SETTLED_S = 180.0
# 对许多东西做的事，target 至多写这么长，其余只写一共几个。
_TARGET_MOST = 1000


@dataclass(frozen=True, slots=True)
class Origin:
    """一个请求从哪里来；address 没有（本机套接字）是 None。"""

    address: str | None = None
    request_id: str | None = None


# 这个请求的来处，由 API 的入口写下。
ORIGIN: ContextVar[Origin] = ContextVar("scns_origin", default=Origin())  # noqa: B039 - 不可变


async def record(
    connection: AsyncConnection,
    identity: Identity,
    action: str,
    target: str,
    before: Mapping[Any, Any] | None = None,
    after: Mapping[Any, Any] | None = None,
) -> None:
    """写一条，在调用者的事务里：那件事没有做成，它也就没有。

    action 是 东西.动作（node.update）。before、after 是之前、之后的一行，两样都有时只留下不同的那几项。
    """
    if before is not None and after is not None:
        changed = [name for name in after if name in before and before[name] != after[name]]
        before, after = ({name: row[name] for name in changed} for row in (before, after))
    await connection.execute(AUDIT_INSERT, _row(identity, action, target, before, after))


async def record_each(
    connection: AsyncConnection, identity: Identity, action: str, made: Sequence[tuple[str, Mapping[Any, Any]]]
) -> None:
    """一次做了许多件同样的事：各一条，一起写。made 是（target, after）。"""
    if made:
        await connection.execute(AUDIT_INSERT, [_row(identity, action, target, None, after) for target, after in made])


def _row(
    identity: Identity,
    action: str,
    target: str,
    before: Mapping[Any, Any] | None,
    after: Mapping[Any, Any] | None,
) -> dict[str, Any]:
    origin = ORIGIN.get()
    return {
        "actor": identity.user_name,
        "role": identity.role,
        "method": identity.method,
        "token_id": identity.token_id,
        "address": origin.address,
        "request_id": origin.request_id,
        "action": action,
        "target": target,
        "before": _json(before),
        "after": _json(after),
    }


async def record_jobs(
    connection: AsyncConnection,
    identity: Identity,
    action: str,
    rows: Iterable[JobRow],
    after: Mapping[str, Any] | None = None,
) -> None:
    """动了别人的作业的写一条，几个作业一条；自己的不写（作业的历史里有）。"""
    others = [row for row in rows if row.user_name != identity.user_name]
    if others:
        told = {"users": sorted({row.user_name for row in others}), **(after or {})}
        await record(connection, identity, action, many([row.label for row in others]), after=told)


def many(names: Sequence[str]) -> str:
    """许多东西的名字，作 target。"""
    text = ",".join(names)
    return text if len(text) <= _TARGET_MOST else f"{text[:_TARGET_MOST].rpartition(',')[0]},…（{len(names)}）"


def _json(value: Mapping[Any, Any] | None) -> str | None:
    # 时刻、SQL 的表达式（数据库的钟）写成文字。
    return None if value is None else json.dumps(dict(value), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


async def list_audit(
    engine: Database, conditions: Mapping[str, Any], limit: int, before: int | None
) -> list[dict[str, Any]]:
    """符合 actor、action、target、since、until（没有的写 None）的，新的在前；before 是上一页最后一条的号。"""
    values = {**conditions, "limit": limit, "before": 2**62 if before is None else before}
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(AUDIT_PAGE, values)).mappings()]


async def audit_after(engine: Database, after: int, limit: int) -> list[dict[str, Any]]:
    """号比 after 大的，旧的在前，接着导出不漏：号缺着的也许还没有提交，等过了 SETTLED_S 秒才越过它。"""
    async with engine.connect() as connection:
        values = {"after": after, "limit": limit, "settled_s": SETTLED_S}
        rows = (await connection.execute(AUDIT_AFTER, values)).mappings().all()
    found: list[dict[str, Any]] = []
    for row in rows:
        if row["audit_id"] != after + 1 and not row["settled"]:
            break
        after = row["audit_id"]
        found.append({name: value for name, value in row.items() if name != "settled"})
    return found
