"""数组里还没有启动的几个任务单独拆成行：要对其中几个做什么，先拆开，其余的不受牵连。"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.array_spec import TaskRange, count_tasks, merge_ranges
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.services.job_rows import JobRow
from scns_conductor.statements.array_tasks import SPLIT_TASKS, multirange_text

# 几个字节的写法（12_[0-9999999]）不能变成几百万行。
MOST_APART = 100_000


def merged(rows: Sequence[JobRow]) -> list[JobRow]:
    """同一行写了几次（12_3 与 12_5、12 与 12_3）的并成一次；次序照作业号。"""
    found: dict[int, JobRow] = {}
    parts: dict[int, list[TaskRange]] = {}
    for row in rows:
        if row.job_id not in found or row.tasks is None:
            found[row.job_id] = row
        parts.setdefault(row.job_id, []).extend(row.tasks or ())
    for job_id, row in found.items():
        if row.tasks is not None:
            found[job_id] = replace(row, tasks=merge_ranges(parts[job_id]))
    return [found[job_id] for job_id in sorted(found)]


async def split(connection: AsyncConnection, rows: Sequence[JobRow]) -> tuple[list[JobRow], list[int]]:
    """rows（已经加锁、并过）里只涉及一部分任务的拆开：(要动的行，留下其余任务的行的作业号)。"""
    apart = sum(count_tasks(row.tasks or ()) for row in rows if row.partial)
    if apart > MOST_APART:
        raise InvalidRequest(
            "job_id",
            f"要从数组里拆出 {apart} 个任务各成一行，一次至多 {MOST_APART} 个；请写整个数组，或分几次",
            code="tasks_too_many",
        )
    found: list[JobRow] = []
    left: list[int] = []
    for row in rows:
        if not row.partial:
            found.append(row)
            continue
        values = {"job_id": row.job_id, "tasks": multirange_text(row.tasks or ())}
        for made in await connection.execute(SPLIT_TASKS, values):
            found.append(replace(row, job_id=made.job_id, array_task_id=made.array_task_id, remaining=None, tasks=None))
        left.append(row.job_id)
    return found, left
