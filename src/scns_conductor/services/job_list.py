"""列出作业：解析条件与次序，键集分页；语句见 statements.job_list。"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.instants import local_now, parse_instant
from scns_conductor.core.models import DEFAULT_PARTITION
from scns_conductor.core.states import SHORT_STATES, JobState
from scns_conductor.services.job_rows import JobRow, job_reference, job_row, located
from scns_conductor.statements.conditions import states as states_sql
from scns_conductor.statements.job_detail import FIELDS
from scns_conductor.statements.job_list import (
    EQUALS,
    FEW,
    PARTITION_WORDS,
    SORT_KEYS,
    JobConditions,
    JobPage,
    few_count,
    jobs_page,
)
from scns_conductor.statements.job_rows import rows_select

MAX_LIMIT = 10_000
# PostgreSQL 的一次函数调用至多这么多个参数。
MAX_ROW_FIELDS = 100
_TIMES = ("submit", "start", "end")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """列表的条件；都可以省略，列表写成逗号分隔。"""

    state: str | None = None
    user: str | None = None
    account: str | None = None
    partition: str | None = None
    name: str | None = None
    qos: str | None = None
    node: str | None = None
    job_id: str | None = None
    submit_after: str | None = None
    submit_before: str | None = None
    start_after: str | None = None
    start_before: str | None = None
    end_after: str | None = None
    end_before: str | None = None
    arrays: Literal["tasks", "folded"] = "tasks"


@dataclass(frozen=True, slots=True)
class Page:
    """要哪一页：sort 前面的 - 是从大到小；cursor 是上一页给的。

    rows 为真时每个作业是一个数组，字段的次序写在回答的 fields 里：十万个作业省去重复的字段名。
    """

    limit: int = 100
    sort: str = "-job_id"
    cursor: str | None = None
    fields: str | None = None
    rows: bool = False


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _values(text: str) -> list[str]:
    """要与列里的值比的词；含有 NUL 的抛 InvalidRequest。"""
    if "\0" in text:
        raise InvalidRequest("query", "条件里含有 NUL 字节")
    return _words(text)


def _states(text: str | None) -> list[JobState]:
    short = {code: state.value for state, code in SHORT_STATES.items()}
    found = [short.get(word.upper(), word.upper()) for word in _words(text or "")]
    for word in found:
        if word not in JobState.__members__:
            raise InvalidRequest(
                "state", f"没有状态 {word!r}；有 {'、'.join(JobState.__members__)}", code="state_unknown"
            )
    return [JobState(word) for word in dict.fromkeys(found)]


def _equals(filters: JobFilter) -> dict[str, list[str]]:
    found = {}
    for key in EQUALS:
        if text := getattr(filters, key):
            found[key] = _values(text) if key != "name" else list(dict.fromkeys([text, *_values(text)]))
    return found


async def _are_few(connection: AsyncConnection, filters: JobFilter) -> bool:
    """按人、账户、名字、QOS 挑的只有不多几个：先挑出来再按时间排；否则沿时间的索引走，也许要走过全部历史才凑够一页。"""
    where, values = JobConditions(equals=_equals(filters)).sql()
    if not where:
        return False
    return int(await connection.scalar(few_count(where), values) or 0) <= FEW


async def _partition_words(connection: AsyncConnection, filters: JobFilter) -> list[str] | None:
    """要的分区在作业里的写法（`p,q` 是一种写法）；缺省的分区占多数，不必这样找，是 None。"""
    if not filters.partition or DEFAULT_PARTITION in (words := _values(filters.partition)):
        return None
    return list(await connection.scalars(PARTITION_WORDS, {"words": words}))


async def _conditions(connection: AsyncConnection, filters: JobFilter) -> JobConditions:
    """状态之外的条件。"""
    references = None
    if filters.job_id:
        references = await located(connection, [job_reference(word) for word in _job_words(filters.job_id)])
    times = {}
    for name in (f"{key}_{side}" for key in _TIMES for side in ("after", "before")):
        if text := getattr(filters, name):
            times[name] = _instant(name, text)
    return JobConditions(
        _equals(filters),
        _values(filters.partition) if filters.partition else None,
        await _partition_words(connection, filters),
        _values(filters.node) if filters.node else None,
        references,
        times,
        filters.arrays == "folded",
    )


def _job_words(text: str) -> list[str]:
    """按方括号之外的逗号切开：12,13_[1,3] -> 12 与 13_[1,3]。"""
    words, depth = [""], 0
    for char in text:
        depth += {"[": 1, "]": -1}.get(char, 0)
        if char == "," and depth == 0:
            words.append("")
        else:
            words[-1] += char
    return [word.strip() for word in words if word.strip()]


def _instant(field: str, text: str) -> datetime:
    try:
        return parse_instant(text, local_now())
    except ValueError as error:
        raise InvalidRequest(field, str(error)) from error


def _chosen_fields(text: str | None) -> list[str]:
    if not text:
        return list(FIELDS)
    chosen = list(dict.fromkeys(["job_id", *_words(text)]))
    for name in chosen:
        if name not in FIELDS:
            raise InvalidRequest("fields", f"没有字段 {name!r}；见 /docs 里 GET /jobs 的说明", code="field_unknown")
    return chosen


async def list_jobs(engine: AsyncEngine, filters: JobFilter, page: Page) -> bytes:
    """{"jobs": [...], "next_cursor": 文字或 null} 的 JSON，page.rows 时另有 fields。条件写错抛 InvalidRequest。"""
    key = page.sort.removeprefix("-")
    if key not in SORT_KEYS:
        raise InvalidRequest(
            "sort", f"不能按 {key!r} 排序；可用 {'、'.join(SORT_KEYS)}，前面加 - 是从大到小", code="sort_unknown"
        )
    chosen = _chosen_fields(page.fields)
    if page.rows and len(chosen) > MAX_ROW_FIELDS:
        raise InvalidRequest("fields", f"layout=rows 至多 {MAX_ROW_FIELDS} 个字段，现在是 {len(chosen)} 个")
    after = _decode_cursor(page.cursor, key) if page.cursor else None
    async with engine.connect() as connection:
        conditions = await _conditions(connection, filters)
        statement, values = jobs_page(
            JobPage(key, page.sort.startswith("-"), page.limit, chosen, page.rows),
            _states(filters.state),
            conditions,
            few=key != "job_id" and await _are_few(connection, filters),
            after=after,
        )
        rows = (await connection.execute(statement, values)).all()
    cursor = None
    if len(rows) > page.limit:
        rows = rows[: page.limit]
        cursor = _encode_cursor(key, rows[-1][2], rows[-1][1])
    body = ",".join(row[0] for row in rows)
    names = f'"fields":{json.dumps(chosen)},' if page.rows else ""
    return f'{{{names}"jobs":[{body}],"next_cursor":{json.dumps(cursor)}}}'.encode()


async def chosen_rows(
    connection: AsyncConnection, filters: JobFilter, default_states: Iterable[JobState]
) -> list[JobRow]:
    """符合条件的作业的行，在调用者的事务里加锁；没有写状态的看 default_states。

    一行就是一个：数组还没有启动的任务合在一行里。
    """
    conditions = await _conditions(connection, filters)
    where, values = conditions.sql()
    wanted = _states(filters.state) or list(default_states)
    clause = " AND ".join([f"state IN {states_sql(wanted)}", *where])
    return [job_row(row) for row in await connection.execute(rows_select(clause, lock=True), values)]


def _encode_cursor(key: str, value: str | None, job_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([key, value, job_id]).encode()).decode().rstrip("=")


def _decode_cursor(text: str, key: str) -> tuple[Any, int]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        sorted_by, value, job_id = found
        if sorted_by != key or not isinstance(job_id, int) or not 0 <= job_id < 2**63:
            raise ValueError("不是这个次序的")
        if key.endswith("_time"):
            value = datetime.fromisoformat(value).astimezone(UTC)
        elif key != "job_id" and (not isinstance(value, str) or "\0" in value):
            raise ValueError("值的类型不对")
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError) as error:
        raise InvalidRequest(
            "cursor", "不是上一页给的 next_cursor，或排序变了；请从第一页开始", code="cursor_invalid"
        ) from error
    return value, job_id
