"""列出作业：条件、次序、键集分页。

每一行由 PostgreSQL 直接拼成 JSON，Python 不逐行造对象：十万行的 squeue 才快得起来。
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.instants import parse_instant
from scns_conductor.core.job_reference import JobReference
from scns_conductor.core.models import DEFAULT_PARTITION
from scns_conductor.core.states import SHORT_STATES, JobState
from scns_conductor.services.job_queries import FIELDS, json_of
from scns_conductor.services.job_rows import job_reference, multirange_text, tasks_condition

MAX_LIMIT = 10_000
# PostgreSQL 的一次函数调用至多这么多个参数。
MAX_ROW_FIELDS = 100
# 这么多以内算不多几个。
FEW = 10_000
SORT_KEYS = {
    "job_id": "bigint",
    "submit_time": "timestamptz",
    "start_time": "timestamptz",
    "end_time": "timestamptz",
    "name": "text",
    "user_name": "text",
    "state": "text",
}
_EQUALS = {"user": "user_name", "account": "account", "name": "name", "qos": "qos"}
_TIMES = ("submit", "start", "end")


# 缺省之外的分区的写法只有几种：沿索引一种一种地跳，不走过每个作业。
_PARTITION_WORDS = sa.text(
    f"""
    WITH RECURSIVE words(word) AS (
      (SELECT partition FROM jobs WHERE partition <> '{DEFAULT_PARTITION}' ORDER BY partition LIMIT 1)
      UNION ALL
      SELECT (SELECT partition FROM jobs WHERE partition <> '{DEFAULT_PARTITION}' AND partition > word
              ORDER BY partition LIMIT 1)
      FROM words WHERE word IS NOT NULL
    )
    SELECT word FROM words WHERE string_to_array(word, ',') && CAST(:words AS text[])
    """
)


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


def _states(text: str) -> list[str]:
    short = {code: state.value for state, code in SHORT_STATES.items()}
    found = [short.get(word.upper(), word.upper()) for word in _words(text)]
    for word in found:
        if word not in JobState.__members__:
            raise InvalidRequest(
                "state", f"没有状态 {word!r}；有 {'、'.join(JobState.__members__)}", code="state_unknown"
            )
    return found


def _branches(text: str | None, by_job_id: bool) -> list[str]:
    """状态的条件；不止一个时各查各的再合起来。

    只有几个词，核对过：直接写进语句，规划器才知道这个状态有多少行，也用得上部分索引。几种少见的状态按作业号取一页，合成一个条件时
    规划器以为它们散得均匀，沿主键走过一百万个结束的；各自沿索引取一页则与历史多长无关。
    """
    if not text:
        return ["true"]
    states = list(dict.fromkeys(_states(text)))
    if len(states) == 1 or (by_job_id and JobState.COMPLETED not in states):
        return [f"state = '{state}'" for state in states]
    return [f"state IN ({', '.join(repr(str(state)) for state in states)})"]


async def _are_few(engine: AsyncEngine, filters: JobFilter) -> bool:
    """按人、账户、名字、QOS 挑的只有不多几个：先挑出来再按时间排；否则沿时间的索引走，也许要走过全部历史才凑够一页。"""
    where, values = _conditions(JobFilter(**{name: getattr(filters, name) for name in _EQUALS}))
    if not where:
        return False
    statement = f"SELECT count(*) FROM (SELECT FROM jobs WHERE {' AND '.join(where)} LIMIT {FEW + 1}) AS f"
    async with engine.connect() as connection:
        return int(await connection.scalar(sa.text(statement), values) or 0) <= FEW


async def _partitions(engine: AsyncEngine, filters: JobFilter) -> list[str] | None:
    """要的分区在作业里的写法（`p,q` 是一种写法）；缺省的分区占多数，不必这样找，是 None。"""
    if not filters.partition or DEFAULT_PARTITION in (words := _words(filters.partition)):
        return None
    async with engine.connect() as connection:
        return list(await connection.scalars(_PARTITION_WORDS, {"words": words}))


def _conditions(filters: JobFilter, partitions: list[str] | None = None) -> tuple[list[str], dict[str, Any]]:
    """状态之外的条件，与其中的值。"""
    where: list[str] = []
    values: dict[str, Any] = {}
    for key, column in _EQUALS.items():
        if text := getattr(filters, key):
            words = _words(text) if key != "name" else list(dict.fromkeys([text, *_words(text)]))
            # 只有一个值时写成等号：索引本来就按作业号排好，不必再排。
            where.append(f"{column} = :{key}" if len(words) == 1 else f"{column} = ANY(CAST(:{key} AS text[]))")
            values[key] = words[0] if len(words) == 1 else words
    if partitions is not None:
        where.append(f"partition <> '{DEFAULT_PARTITION}'")
        one = len(partitions) == 1
        where.append("partition = :partition" if one else "partition = ANY(CAST(:partition AS text[]))")
        values["partition"] = partitions[0] if one else partitions
    elif filters.partition:
        where.append("string_to_array(partition, ',') && CAST(:partition AS text[])")
        values["partition"] = _words(filters.partition)
    if filters.node:
        where.append("job_id IN (SELECT job_id FROM resource_allocations WHERE node_name = ANY(CAST(:node AS text[])))")
        values["node"] = _words(filters.node)
    if filters.job_id:
        references = [job_reference(word) for word in _job_words(filters.job_id)]
        where.append(_reference_condition(references, values))
    for key in _TIMES:
        for side, comparison in (("after", ">="), ("before", "<")):
            text = getattr(filters, f"{key}_{side}")
            if text:
                where.append(f"{key}_time {comparison} CAST(:{key}_{side} AS timestamptz)")
                values[f"{key}_{side}"] = _instant(f"{key}_{side}", text)
                if (key, side) == ("start", "after"):
                    # 开始得不比它早的，要么还在运行，要么结束得也不比它早：这样就用得上结束时刻与运行中的索引。
                    where.append("(state IN ('RUNNING', 'SUSPENDED') OR end_time >= CAST(:start_after AS timestamptz))")
    for value in values.values():
        if any("\0" in str(item) for item in (value if isinstance(value, list) else [value])):
            raise InvalidRequest("query", "条件里含有 NUL 字节")
    return where, values


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


def _reference_condition(references: Sequence[JobReference], values: dict[str, Any]) -> str:
    whole = [reference.job_id for reference in references if reference.tasks is None]
    parts = ["job_id = ANY(CAST(:ids AS bigint[])) OR array_job_id = ANY(CAST(:ids AS bigint[]))"]
    values["ids"] = whole
    for index, reference in enumerate(reference for reference in references if reference.tasks is not None):
        parts.append(tasks_condition(f"array{index}", f"tasks{index}"))
        values[f"array{index}"] = reference.job_id
        values[f"tasks{index}"] = multirange_text(reference.tasks or ())
    return f"({' OR '.join(parts)})"


def _instant(field: str, text: str) -> datetime:
    try:
        return parse_instant(text, datetime.now(UTC).astimezone())
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
    descending = page.sort.startswith("-")
    direction, comparison = ("DESC", "<") if descending else ("ASC", ">")
    chosen = _chosen_fields(page.fields)
    partitions = await _partitions(engine, filters)
    few = key != "job_id" and await _are_few(engine, filters)
    where, values = _conditions(filters, partitions)
    if key in ("start_time", "end_time"):
        where.append(f"{key} IS NOT NULL")
    if page.cursor:
        last_value, last_id = _decode_cursor(page.cursor, key)
        values |= {"last_id": last_id}
        if key == "job_id":
            where.append(f"job_id {comparison} CAST(:last_id AS bigint)")
        else:
            where.append(
                f"({key}, job_id) {comparison} (CAST(:last_value AS {SORT_KEYS[key]}), CAST(:last_id AS bigint))"
            )
            values["last_value"] = datetime.fromisoformat(last_value) if key.endswith("_time") else last_value
    order = f"job_id {direction}" if key == "job_id" else f"{key} {direction}, job_id {direction}"
    cursor_value = "NULL" if key == "job_id" else f"{key}::text"
    one_page = f"ORDER BY {order} LIMIT {page.limit + 1}"
    found = " UNION ALL ".join(
        # OFFSET 0：先挑出来，再排。
        f"(SELECT * FROM jobs WHERE {' AND '.join([branch, *where])} {'OFFSET 0' if few else one_page})"
        for branch in _branches(filters.state, key == "job_id")
    )
    # 字符串参数里的冒号不会被当成绑定：条件都经绑定传入，这里只有固定的表达式。
    statement = (
        f"SELECT {_array_of(chosen) if page.rows else json_of({name: FIELDS[name] for name in chosen})}, "
        f"cursor_id, cursor_value FROM (SELECT *, job_id AS cursor_id, {cursor_value} AS cursor_value "
        f"FROM ({found}) AS jobs {one_page}) AS j"
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.text(statement), values)).all()
    cursor = None
    if len(rows) > page.limit:
        rows = rows[: page.limit]
        cursor = _encode_cursor(key, rows[-1][2], rows[-1][1])
    body = ",".join(row[0] for row in rows)
    names = f'"fields":{json.dumps(chosen)},' if page.rows else ""
    return f'{{{names}"jobs":[{body}],"next_cursor":{json.dumps(cursor)}}}'.encode()


def _array_of(names: Sequence[str]) -> str:
    """各个字段的值排成的 JSON 数组。"""
    if len(names) > MAX_ROW_FIELDS:
        raise InvalidRequest("fields", f"layout=rows 至多 {MAX_ROW_FIELDS} 个字段，现在是 {len(names)} 个")
    return f"json_build_array({', '.join(FIELDS[name] for name in names)})::text"


def _encode_cursor(key: str, value: str | None, job_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([key, value, job_id]).encode()).decode().rstrip("=")


def _decode_cursor(text: str, key: str) -> tuple[Any, int]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        sorted_by, value, job_id = found
        if sorted_by != key or not isinstance(job_id, int) or not 0 <= job_id < 2**63:
            raise ValueError("不是这个次序的")
        if key.endswith("_time"):
            datetime.fromisoformat(value).astimezone(UTC)
        elif key != "job_id" and (not isinstance(value, str) or "\0" in value):
            raise ValueError("值的类型不对")
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError) as error:
        raise InvalidRequest(
            "cursor", "不是上一页给的 next_cursor，或排序变了；请从第一页开始", code="cursor_invalid"
        ) from error
    return value, job_id
