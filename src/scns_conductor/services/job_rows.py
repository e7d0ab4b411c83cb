"""按作业号的写法找到要动的行，并核对是不是本人的；在调用者的事务里加锁。"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.array_spec import CONSECUTIVE, Stride, TaskRange, intersection
from scns_conductor.core.errors import Forbidden, NotFound
from scns_conductor.core.job_reference import JobReference, parse_job_reference
from scns_conductor.core.tokens import Identity

# 按作业号的次序加锁，与 worker.ends、worker.starts 的次序一致，不会死锁。
_SELECT = """
    SELECT job_id, user_name, state, hold, revision, restart_count, array_job_id, array_task_id, array_remaining,
      array_base, array_step, requeue, interactive, requested_end_state, batch_host, time_limit, partition, start_time
    FROM jobs WHERE {where} ORDER BY job_id {lock}
"""
_WHOLE = "job_id = :job_id OR array_job_id = :job_id"
# 数组的最后一个任务就用数组的作业号：在它里面 SLURM_JOB_ID 指的是它自己。
_EXACT = "job_id = :job_id"


def tasks_condition(job_id: str = "job_id", tasks: str = "tasks") -> str:
    """数组里这些任务的 SQL 条件：已经拆出来的行，与还含有它们的数组行。两个参数是绑定的名字。"""
    wanted = f"CAST(CAST(:{tasks} AS text) AS int4multirange)"
    # 任务号的区间 w 里的任务的序号。
    slots = (
        "int4range(CAST(ceil((lower(w) - array_base) / CAST(array_step AS numeric)) AS integer), "
        "CAST(floor((upper(w) - 1 - array_base) / CAST(array_step AS numeric)) AS integer) + 1)"
    )
    return (
        f"(array_job_id = CAST(:{job_id} AS bigint) AND (array_task_id <@ {wanted} OR CASE WHEN array_step = 1 "
        f"THEN array_remaining && {wanted} "
        f"ELSE EXISTS (SELECT FROM unnest({wanted}) AS w WHERE array_remaining && {slots}) END))"
    )


@dataclass(frozen=True, slots=True)
class JobRow:
    """要动的一行。tasks 不为 None 时只涉及这一行里还没有启动的这些任务；remaining 与 tasks 是序号。"""

    job_id: int
    user_name: str
    state: str
    hold: str | None
    revision: int
    restart_count: int
    array_job_id: int | None
    array_task_id: int | None
    requeue: bool
    interactive: bool
    requested_end_state: str | None
    batch_host: str | None
    time_limit: int | None
    partition: str
    start_time: Any
    remaining: tuple[TaskRange, ...] | None
    stride: Stride = CONSECUTIVE
    tasks: tuple[TaskRange, ...] | None = None

    @property
    def label(self) -> str:
        """给人看的作业号。"""
        return str(self.job_id) if self.array_task_id is None else f"{self.array_job_id}_{self.array_task_id}"


def job_reference(text: str) -> JobReference:
    """解析作业号；不合法的当作不存在，抛 NotFound。"""
    found = parse_job_reference(text)
    if found is None:
        raise job_not_found(text)
    return found


def job_not_found(text: str) -> NotFound:
    """没有这个作业。"""
    return NotFound(f"没有作业 {text[:64]}；用 GET /jobs 或 scns jobs 查看现有的作业", code="job_not_found")


async def find_rows(
    connection: AsyncConnection, text: str, *, lock: bool = True, whole_array: bool = True
) -> list[JobRow]:
    """这个写法涉及的全部行：数组的作业号是它的全部任务，whole_array 为假时只是叫这个号的那一行。

    一个也没有抛 NotFound。
    """
    reference = job_reference(text)
    values: dict[str, Any] = {"job_id": reference.job_id}
    if reference.tasks is not None:
        values["tasks"] = multirange_text(reference.tasks)
    where = (_WHOLE if whole_array else _EXACT) if reference.tasks is None else tasks_condition()
    statement = _SELECT.format(where=where, lock="FOR UPDATE" if lock else "")
    rows = (await connection.execute(sa.text(statement), values)).mappings().all()
    if not rows:
        raise job_not_found(text)
    return [_job_row(dict(row), reference) for row in rows]


def _job_row(row: dict[str, Any], reference: JobReference) -> JobRow:
    remaining = row.pop("array_remaining")
    ranges = None if remaining is None else tuple(TaskRange(span.lower, span.upper) for span in remaining)
    stride, wanted = Stride(row.pop("array_base"), row.pop("array_step")), None
    if reference.tasks is not None and ranges is not None:
        wanted = intersection(ranges, stride.slots(reference.tasks))
    return JobRow(remaining=ranges, stride=stride, tasks=wanted, **row)


def multirange_text(ranges: Sequence[TaskRange]) -> str:
    """区间 -> int4multirange 的文字，如 {[0,5),[7,8)}。"""
    return "{" + ",".join(f"[{span.lower},{span.upper})" for span in ranges) + "}"


def require_owner(rows: Sequence[JobRow], identity: Identity) -> None:
    """只有本人与管理员能动；否则抛 Forbidden。"""
    for row in rows:
        if not identity.admin and row.user_name != identity.user_name:
            raise Forbidden(f"作业 {row.label} 属于 {row.user_name}，你不能改动它", code="not_job_owner")
