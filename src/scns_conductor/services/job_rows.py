"""按作业号的写法找到要动的行，并核对是不是本人的；在调用者的事务里加锁。"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.array_spec import CONSECUTIVE, Stride, TaskRange, intersection
from scns_conductor.core.errors import Forbidden, NotFound
from scns_conductor.core.job_reference import JobReference, parse_job_reference
from scns_conductor.core.tokens import Identity
from scns_conductor.statements.array_tasks import multirange_text
from scns_conductor.statements.job_rows import EXACT, TASKS, WHOLE, rows_select


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
    where = (WHOLE if whole_array else EXACT) if reference.tasks is None else TASKS
    rows = (await connection.execute(rows_select(where, lock=lock), values)).mappings().all()
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


def require_owner(rows: Sequence[JobRow], identity: Identity) -> None:
    """只有本人与管理员能动；否则抛 Forbidden。"""
    for row in rows:
        if not identity.admin and row.user_name != identity.user_name:
            raise Forbidden(f"作业 {row.label} 属于 {row.user_name}，你不能改动它", code="not_job_owner")
