"""取消：排队的当场结束，运行的请节点结束；幂等。数组可以只取消一部分任务。"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import record_jobs
from scns_conductor.services.job_rows import JobRow, find_rows, job_row, require_owner, require_whole
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.array_tasks import multirange_text
from scns_conductor.statements.cancellation import CANCEL_PENDING, CANCEL_TASKS
from scns_conductor.statements.end_requests import CANCEL_ACTIVE
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.job_rows import SIBLINGS, rows_select


@dataclass(frozen=True, slots=True)
class Cancelled:
    """取消的结果：state 是此刻的状态；运行中的作业由节点结束之后才是 CANCELLED。"""

    job_id: str
    state: str
    message: str


async def cancel_job(engine: AsyncEngine, identity: Identity, job_id: str) -> Cancelled:
    """取消一个作业、一个数组或数组的若干任务；已经结束的不变。不存在抛 NotFound，别人的抛 Forbidden。"""
    async with engine.begin() as connection:
        rows = await find_rows(connection, job_id)
        require_owner(rows, identity)
        require_whole(job_id, [row for row in rows if row.state == JobState.PENDING])
        await cancel_rows(connection, rows, identity.user_name)
        await record_jobs(connection, identity, "job.cancel", rows)
    return Cancelled(job_id, *outcome(rows))


async def with_siblings(connection: AsyncConnection, rows: Sequence[JobRow]) -> list[JobRow]:
    """加上排队的异构作业没有挑到的部分（按条件挑的也许只挑到一个），一并加锁：少了一个部分就再也启动不了。"""
    heads = {row.het_job_id for row in rows if row.het_job_id is not None and row.state == JobState.PENDING}
    if not heads:
        return list(rows)
    found = (await connection.execute(rows_select(SIBLINGS, lock=True), {"het_job_ids": sorted(heads)})).all()
    known = {row.job_id for row in rows}
    return [*rows, *(row for row in (job_row(each) for each in found) if row.job_id not in known)]


async def cancel_rows(connection: AsyncConnection, rows: Sequence[JobRow], actor: str, message: str = "") -> None:
    """在调用者的事务里取消这些已经加锁的行；异构作业还在排队的，别的部分也取消。"""
    rows = await with_siblings(connection, rows)
    values = {"actor": actor, "message": message or f"由 {actor} 取消"}
    pending = [row for row in rows if row.state == JobState.PENDING]
    whole = [row.job_id for row in pending if not row.partial]
    active = [row.job_id for row in rows if row.state in ACTIVE_STATES]
    if whole:
        await connection.execute(CANCEL_PENDING, {**values, "job_ids": whole})
    for row in pending:
        if row.partial and row.tasks:
            first = row.tasks[0]
            single = row.stride.task_id(first.lower) if first.upper - first.lower == 1 == len(row.tasks) else None
            await connection.execute(
                CANCEL_TASKS,
                {**values, "job_id": row.job_id, "tasks": multirange_text(row.tasks), "only": single},
            )
    changes = [inbox_insert("jobs", job_ids=[row.job_id for row in pending])] if pending else []
    if active:
        await connection.execute(CANCEL_ACTIVE, {**values, "job_ids": active})
        changes.append(inbox_insert("cancel", job_ids=active))
    await tell_scheduler(connection, *changes)


def outcome(rows: Sequence[JobRow]) -> tuple[str, str]:
    """取消之后的状态，与给人看的话。"""
    active = next((row for row in rows if row.state in ACTIVE_STATES), None)
    if active is not None:
        return active.state, "已请节点结束它；结束之后状态是 CANCELLED"
    if any(row.state == JobState.PENDING for row in rows):
        return JobState.CANCELLED.value, "已取消"
    return rows[0].state, f"作业早已结束（{rows[0].state}），没有改动"
