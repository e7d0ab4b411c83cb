"""查询一个作业：全部字段、历史、脚本、固定的查询回答；列表见 job_list。"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden
from scns_conductor.core.states import JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.core.units import format_duration
from scns_conductor.services.job_rows import condition_of, job_not_found, job_reference, located
from scns_conductor.statements.job_detail import (
    ATTEMPT,
    DETAIL,
    EVENTS_OF_JOB,
    PAST_EVENTS_OF_JOB,
    SCRIPT,
    SUMMARY,
    job_select,
)
from scns_conductor.statements.job_rows import EXACT


async def read_job(engine: AsyncEngine, job_id: str, columns: str) -> Mapping[str, Any]:
    """一个作业的一行，columns 见 statements.job_detail。12_3 还没有启动时是数组行。不存在抛 NotFound。"""
    async with engine.connect() as connection:
        (reference,) = await located(connection, [job_reference(job_id)])
        where, values = condition_of(reference, EXACT)
        for past in (False, True):
            statement = job_select(columns, where, past=past)
            row = (await connection.execute(statement, values)).mappings().one_or_none()
            if row is not None:
                return dict(row)
    raise job_not_found(job_id)


async def job_detail(engine: AsyncEngine, identity: Identity, job_id: str) -> bytes:
    """一个作业的一切（JSON）；脚本、环境、参数只给看得了它的人。"""
    row = await read_job(engine, job_id, DETAIL)
    found: str = row["public"]
    if identity.sees(row["user_name"], row["account"]):
        found = f"{found[:-1]},{row['private'][1:]}"
    return found.encode()


def require_reader(identity: Identity, row: Mapping[str, Any], what: str, job_id: str) -> None:
    """脚本、环境、输出只有本人、它的账户的协调人、管理员与审计员能读；row 是那个作业的。"""
    if not identity.sees(row["user_name"], row["account"]):
        raise Forbidden(f"作业 {job_id} 属于 {row['user_name']}，你不能读它的{what}", code="not_job_owner")


async def job_script(engine: AsyncEngine, identity: Identity, job_id: str) -> str:
    """脚本原文；没有脚本的分配是空的。"""
    row = await read_job(engine, job_id, SCRIPT)
    require_reader(identity, row, "脚本", job_id)
    return row["script"] or ""


async def job_events(engine: AsyncEngine, job_id: str) -> list[dict[str, Any]]:
    """作业的历史，从早到晚。"""
    row = await read_job(engine, job_id, ATTEMPT)
    async with engine.connect() as connection:
        values = {"job_id": row["job_id"]}
        found = (await connection.execute(EVENTS_OF_JOB, values)).mappings().all()
        rows = found or (await connection.execute(PAST_EVENTS_OF_JOB, values)).mappings().all()
    return [dict(found) for found in rows]


async def query_job(engine: AsyncEngine, identity: Identity, job_id: str) -> dict[str, Any]:
    """固定的查询回答（design.md §1）；别人的作业看不到输出。"""
    row = await read_job(engine, job_id, SUMMARY)
    readable = identity.sees(row["user_name"], row["account"])
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
