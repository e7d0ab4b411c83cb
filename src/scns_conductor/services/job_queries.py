"""查询一个作业：全部字段、历史、脚本、固定的查询回答；列表见 job_list。"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden
from scns_conductor.core.models import Job
from scns_conductor.core.states import JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.core.units import format_duration
from scns_conductor.services.job_rows import job_not_found, job_reference, multirange_text, tasks_condition

PRIVATE_FIELDS = ("script", "environment", "argv")

_REMAINING = (
    "(SELECT string_agg(array_base + array_step * lower(r) || CASE WHEN upper(r) - lower(r) = 1 THEN '' "
    "ELSE '-' || array_base + array_step * (upper(r) - 1) || CASE WHEN array_step = 1 THEN '' ELSE ':' || array_step "
    "END END, ',') FROM unnest(array_remaining) AS r)"
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
    public = json_of({**FIELDS, "allocations": _ALLOCATIONS})
    row = await read_job(engine, job_id, f"user_name, {public} AS public, {json_of(_PRIVATE)} AS private")
    found: str = row["public"]
    if identity.admin or identity.user_name == row["user_name"]:
        found = f"{found[:-1]},{row['private'][1:]}"
    return found.encode()


def json_of(expressions: Mapping[str, str]) -> str:
    """字段 -> 表达式的 JSON 对象，由 PostgreSQL 拼成文字。"""
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
