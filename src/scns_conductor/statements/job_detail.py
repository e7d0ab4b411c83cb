"""一个作业的各个字段怎样从行里取：全部字段、脚本与环境、分配、历史、固定的查询回答。"""

import functools
from collections.abc import Mapping

import sqlalchemy as sa

from scns_conductor.core.models import ALLOCATION_COLUMNS, EVENT_COLUMNS, Job, JobEvent, ResourceAllocation
from scns_conductor.statements.archive import archived
from scns_conductor.statements.job_rows import EXACT
from scns_conductor.statements.node_jobs import OUTPUT_COLUMNS

PRIVATE_FIELDS = ("script", "environment", "argv")

_REMAINING = (
    "CASE WHEN array_step = 0 THEN scns_listed_text(array_job_id, array_remaining) "
    "ELSE (SELECT string_agg(array_base + array_step * lower(r) || CASE WHEN upper(r) - lower(r) = 1 THEN '' "
    "ELSE '-' || array_base + array_step * (upper(r) - 1) || CASE WHEN array_step = 1 THEN '' ELSE ':' || array_step "
    "END END, ',') FROM unnest(array_remaining) AS r) END"
)
_INTERNAL = {"interactive", "array_listed", *PRIVATE_FIELDS}
# 字段 -> SQL 表达式；作业号一律是文字。
FIELDS: dict[str, str] = {
    **{name: f'"{name}"' for name in Job.model_fields if name not in _INTERNAL},
    "job_id": "job_id::text",
    "array_job_id": "array_job_id::text",
    "het_job_id": "het_job_id::text",
    # 多数作业不是数组：不为它们各做一次子查询。
    "array_remaining": f"CASE WHEN array_remaining IS NOT NULL THEN {_REMAINING} END",
    "exit_code": "exit_status || ':' || coalesce(exit_signal, 0)",
    "interactive": "interactive",
    # 后台进程稍后才记下不再等了。
    "configuring": "configuring AND state = 'RUNNING'",
    # 还在等的，连现在的这一段。
    "wait_breakdown": "CASE WHEN state = 'PENDING' "
    "THEN scns_waited(wait_breakdown, reason, coalesce(reason_since, submit_time)) ELSE wait_breakdown END",
}
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
    f"(SELECT {', '.join(ALLOCATION_COLUMNS)} FROM {ResourceAllocation.__tablename__} AS ra "
    "WHERE ra.job_id = jobs.job_id) AS a)"
)
_OUTPUT = (
    "(SELECT content FROM job_outputs AS o WHERE o.job_id = jobs.job_id AND o.restart_count = jobs.restart_count "
    "AND stream = '{stream}') AS {stream}"
)


def json_of(expressions: Mapping[str, str]) -> str:
    """字段 -> 表达式的 JSON 对象，由 PostgreSQL 拼成文字。"""
    columns = ", ".join(f'{expression} AS "{name}"' for name, expression in expressions.items())
    return f"row_to_json((SELECT r FROM (SELECT {columns}) AS r))::text"


# job_select 要的列，各是一种回答。
# 只要作业号与第几次尝试。
ATTEMPT = "job_id, restart_count"
# 采样是谁的、哪一次尝试的。
SAMPLED = "job_id, user_name, account, state, restart_count"
# 为什么还没有开始，先看在不在排队。
REASON = (
    "job_id, user_name, account, state, reason, error_msg, wait_breakdown, "
    "configuring AND state = 'RUNNING' AS configuring"
)
# 一切：public 谁都能看，private 只给看得了它的人（Identity.sees）。
DETAIL = (
    f"user_name, account, {json_of({**FIELDS, 'allocations': _ALLOCATIONS})} AS public, {json_of(_PRIVATE)} AS private"
)
# 脚本原文。
SCRIPT = f"user_name, account, {_PRIVATE['script']} AS script"
# 找到输出的文件要的；own_node 表示跑过它的节点是单用户的。
OUTPUT_PLACE = f"""{OUTPUT_COLUMNS},
    account, batch_host, exit_status, exit_signal,
    (SELECT CAST(n.containment ->> 'single_user' AS boolean) FROM nodes AS n WHERE n.name = batch_host) AS own_node
"""
# 固定的查询回答（design.md §1）。
SUMMARY = f"""
    job_id, user_name, state, error_msg, submit_time, eligible_time, start_time, end_time, suspend_time, suspended_s,
    time_limit, name, partition, allocated_cpus, allocated_nodes, node_list, exit_status, exit_signal,
    current_working_directory, data_source, account, clock_timestamp() AS now,
    {_OUTPUT.format(stream="stdout")}, {_OUTPUT.format(stream="stderr")}
"""


@functools.cache
def job_select(columns: str, where: str = EXACT, *, past: bool = False) -> sa.TextClause:
    """一个作业的这些列，past 时从历史里找；where 是 EXACT、COMPONENT，或 TASKS（还没有启动的是数组行）。"""
    statement = f"SELECT {columns} FROM jobs WHERE {where} ORDER BY array_task_id NULLS LAST LIMIT 1"
    return sa.text((archived(statement) if past else statement).replace("::", r"\:\:"))


# 作业的变化，从早到晚；已经移进历史的见 PAST_EVENTS_OF_JOB。
_EVENTS = f"SELECT {', '.join(EVENT_COLUMNS)} FROM {JobEvent.__tablename__} WHERE job_id = :job_id ORDER BY event_id"
EVENTS_OF_JOB = sa.text(_EVENTS)
PAST_EVENTS_OF_JOB = sa.text(archived(_EVENTS))
# 结束时收集的一路输出的尾部，与文件的总长。
_STORED = (
    "SELECT content, total_bytes FROM job_outputs "
    "WHERE job_id = :job_id AND restart_count = :restart_count AND stream = :stream"
)
STORED_OUTPUT = sa.text(f"{_STORED} UNION ALL {archived(_STORED)}")
