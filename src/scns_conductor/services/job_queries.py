"""查询作业：列表（键集分页）、单个的全部、历史、脚本、固定的查询回答。

列表的每一行由 PostgreSQL 直接拼成 JSON，Python 不逐行造对象：十万行的 squeue 才快得起来。
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden, InvalidRequest
from scns_conductor.core.instants import parse_instant
from scns_conductor.core.job_reference import JobReference
from scns_conductor.core.models import DEFAULT_PARTITION, Job
from scns_conductor.core.states import SHORT_STATES, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.core.units import format_duration
from scns_conductor.services.job_rows import job_not_found, job_reference, multirange_text, tasks_condition

MAX_LIMIT = 10_000
# PostgreSQL 的一次函数调用至多这么多个参数。
MAX_ROW_FIELDS = 100
PRIVATE_FIELDS = ("script", "environment", "argv")

_REMAINING = (
    "(SELECT string_agg(CASE WHEN upper(r) - lower(r) = 1 THEN lower(r)::text "
    "ELSE lower(r) || '-' || (upper(r) - 1) END, ',') FROM unnest(array_remaining) AS r)"
)
_INTERNAL = {"interactive", *PRIVATE_FIELDS}
# 字段 -> SQL 表达式；作业号一律是文字。
FIELDS: dict[str, str] = {
    **{name: f'"{name}"' for name in Job.model_fields if name not in _INTERNAL},
    "job_id": "job_id::text",
    "array_job_id": "array_job_id::text",
    "array_remaining": _REMAINING,
    "exit_code": "exit_status || ':' || coalesce(exit_signal, 0)",
    "interactive": "interactive",
}
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


async def _partitions(engine: AsyncEngine, filters: JobFilter) -> list[str] | None:
    """要的分区在作业里的写法（`p,q` 是一种写法）；缺省的分区占多数，不必这样找，是 None。"""
    if not filters.partition or DEFAULT_PARTITION in (words := _words(filters.partition)):
        return None
    async with engine.connect() as connection:
        return list(await connection.scalars(_PARTITION_WORDS, {"words": words}))


def _conditions(filters: JobFilter, partitions: list[str] | None = None) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    values: dict[str, Any] = {}
    if filters.state:
        states = _states(filters.state)
        # 只有几个词，核对过：直接写进语句，规划器才知道这个状态有多少行，也用得上部分索引。
        where.append(f"state = '{states[0]}'" if len(states) == 1 else "state = ANY(CAST(:state AS text[]))")
        if len(states) != 1:
            values["state"] = states
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
    # 字符串参数里的冒号不会被当成绑定：条件都经绑定传入，这里只有固定的表达式。
    statement = (
        f"SELECT {_array_of(chosen) if page.rows else _json_of({name: FIELDS[name] for name in chosen})}, "
        f"cursor_id, cursor_value FROM (SELECT *, job_id AS cursor_id, "
        f"{cursor_value} AS cursor_value FROM jobs {'WHERE ' + ' AND '.join(where) if where else ''} "
        f"ORDER BY {order} LIMIT {page.limit + 1}) AS j"
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
            datetime.fromisoformat(value)
        elif key != "job_id" and (not isinstance(value, str) or "\0" in value):
            raise ValueError("值的类型不对")
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise InvalidRequest(
            "cursor", "不是上一页给的 next_cursor，或排序变了；请从第一页开始", code="cursor_invalid"
        ) from error
    return value, job_id


async def read_job(engine: AsyncEngine, job_id: str, columns: str) -> Mapping[str, Any]:
    """一个作业的一行。12_3 还没有启动时是数组行。不存在抛 NotFound。"""
    reference = job_reference(job_id)
    values: dict[str, Any] = {"job_id": reference.job_id}
    where = "job_id = :job_id"
    if reference.tasks is not None:
        values["tasks"] = multirange_text(reference.tasks)
        where = tasks_condition()
    statement = f"SELECT {columns} FROM jobs WHERE {where} ORDER BY array_task_id NULLS LAST LIMIT 1".replace(
        "::", r"\:\:"
    )
    async with engine.connect() as connection:
        row = (await connection.execute(sa.text(statement), values)).mappings().one_or_none()
    if row is None:
        raise job_not_found(job_id)
    return dict(row)


# 数组任务的脚本、参数与环境存在数组行里。
_PRIVATE = {
    "script": "coalesce(script, (SELECT m.script FROM jobs AS m WHERE m.job_id = jobs.array_job_id))",
    "environment": "CASE WHEN array_job_id <> job_id THEN "
    "(SELECT m.environment FROM jobs AS m WHERE m.job_id = jobs.array_job_id) ELSE environment END",
    "argv": "CASE WHEN array_job_id <> job_id THEN "
    "(SELECT m.argv FROM jobs AS m WHERE m.job_id = jobs.array_job_id) ELSE argv END",
}
_ALLOCATIONS = (
    "(SELECT coalesce(json_agg(row_to_json(a) ORDER BY a.restart_count, a.node_index), '[]') FROM "
    "(SELECT restart_count, node_name, node_index, cpus, memory, gres, tasks, cpu_ids, gres_ids, process_id, "
    "created_at, claimed_at, released_at FROM resource_allocations AS ra WHERE ra.job_id = jobs.job_id) AS a)"
)


async def job_detail(engine: AsyncEngine, identity: Identity, job_id: str) -> bytes:
    """一个作业的一切（JSON）；脚本、环境、参数只给本人与管理员。"""
    public = _json_of({**FIELDS, "allocations": _ALLOCATIONS})
    row = await read_job(engine, job_id, f"user_name, {public} AS public, {_json_of(_PRIVATE)} AS private")
    found: str = row["public"]
    if identity.admin or identity.user_name == row["user_name"]:
        found = f"{found[:-1]},{row['private'][1:]}"
    return found.encode()


def _json_of(expressions: Mapping[str, str]) -> str:
    columns = ", ".join(f'{expression} AS "{name}"' for name, expression in expressions.items())
    return f"row_to_json((SELECT r FROM (SELECT {columns}) AS r))::text"


def require_reader(identity: Identity, user_name: str, what: str, job_id: str) -> None:
    """脚本、环境、输出只有本人与管理员能读。"""
    if not identity.admin and identity.user_name != user_name:
        raise Forbidden(f"作业 {job_id} 属于 {user_name}，你不能读它的{what}", code="not_job_owner")


async def job_script(engine: AsyncEngine, identity: Identity, job_id: str) -> str:
    """脚本原文；没有脚本的分配是空的。"""
    row = await read_job(engine, job_id, f"user_name, {_PRIVATE['script']} AS script")
    require_reader(identity, row["user_name"], "脚本", job_id)
    return row["script"] or ""


async def job_events(engine: AsyncEngine, job_id: str) -> list[dict[str, Any]]:
    """作业的历史，从早到晚。"""
    row = await read_job(engine, job_id, "job_id")
    statement = sa.text(
        "SELECT event_id, restart_count, event_time, from_state, to_state, cause, actor, message "
        "FROM job_events WHERE job_id = :job_id ORDER BY event_id"
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(statement, {"job_id": row["job_id"]})).mappings().all()
    return [dict(found) for found in rows]


_OUTPUT = (
    "(SELECT content FROM job_outputs AS o WHERE o.job_id = jobs.job_id AND o.restart_count = jobs.restart_count "
    "AND stream = '{stream}') AS {stream}"
)
_QUERY = f"""
    job_id, user_name, state, error_msg, submit_time, eligible_time, start_time, end_time, suspend_time, suspended_s,
    time_limit, name, partition, allocated_cpus, allocated_nodes, node_list, exit_status, exit_signal,
    current_working_directory, data_source, account, clock_timestamp() AS now,
    {_OUTPUT.format(stream="stdout")}, {_OUTPUT.format(stream="stderr")}
"""


async def query_job(engine: AsyncEngine, identity: Identity, job_id: str) -> dict[str, Any]:
    """固定的查询回答（design.md §1）；别人的作业看不到输出。"""
    row = await read_job(engine, job_id, _QUERY)
    readable = identity.admin or identity.user_name == row["user_name"]
    return {
        "job_id": str(row["job_id"]),
        "state": row["state"],
        "error_msg": row["error_msg"],
        "time": {
            **{name: _iso(row[name]) for name in ("submit_time", "eligible_time", "start_time", "end_time")},
            "elapsed_time": format_duration(elapsed_s(row), always_days=True),
            "limit_time": format_duration(row["time_limit"], always_days=True),
        },
        "job_log": {
            "stdout": _text(row["stdout"]) if readable else None,
            "stderr": _text(row["stderr"]) if readable else None,
        },
        "detail": {
            "job_name": row["name"],
            "user": row["user_name"],
            "partition": row["partition"],
            "allocated_cpus": row["allocated_cpus"],
            "allocated_nodes": row["allocated_nodes"],
            "node_list": row["node_list"],
            "exit_code": None if row["exit_status"] is None else f"{row['exit_status']}:{row['exit_signal'] or 0}",
            "work_dir": row["current_working_directory"],
            "data_source": row["data_source"],
            "account": row["account"],
        },
    }


def elapsed_s(row: Mapping[str, Any]) -> float:
    """运行了多少秒，不含挂起的时间；没有开始是 0。"""
    if row["start_time"] is None:
        return 0
    until = row["end_time"] or (row["suspend_time"] if row["state"] == JobState.SUSPENDED else None) or row["now"]
    return max(0.0, float((until - row["start_time"]).total_seconds() - row["suspended_s"]))


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
