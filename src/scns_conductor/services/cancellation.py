"""取消：排队的当场结束，运行的请节点结束；幂等。数组可以只取消一部分任务。"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.models import JobSpec
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.job_rows import JobRow, find_rows, multirange_text, require_owner
from scns_conductor.statements.inbox import inbox_insert, notify_inbox

_CANCEL_PENDING = sa.text(
    """
    WITH ended AS (
      UPDATE jobs SET state = 'CANCELLED', reason = 'None', error_msg = :message, end_time = clock_timestamp(),
        hold = NULL, expected_start_time = NULL, exit_status = 0, exit_signal = 0, revision = revision + 1
      WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND state = 'PENDING'
      RETURNING job_id, restart_count
    )
    INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
    SELECT job_id, restart_count, 'PENDING', 'CANCELLED', 'cancel', :actor, :message FROM ended
    """
)
# 数组里还没有启动的一部分任务：拆成一行 CANCELLED，任务在这一行的 array_remaining 里，不为每个任务各写一行。
_SHARED = [name for name in JobSpec.model_fields if name not in {"argv", "environment", "array", "hold"}]
_CANCEL_TASKS = sa.text(
    f"""
    WITH taken AS (
      UPDATE jobs SET array_remaining = array_remaining - CAST(CAST(:tasks AS text) AS int4multirange),
        revision = revision + 1
      WHERE job_id = :job_id AND state = 'PENDING'
    ), ended AS (
      INSERT INTO jobs ({", ".join(_SHARED)}, array_job_id, array_task_id, array_remaining, array_base, array_step,
        state, error_msg, submit_time, end_time, exit_status, exit_signal)
      SELECT {", ".join(_SHARED)}, array_job_id, CAST(:only AS integer),
        CASE WHEN CAST(:only AS integer) IS NULL THEN CAST(CAST(:tasks AS text) AS int4multirange) END,
        array_base, array_step, 'CANCELLED', :message,
        submit_time, clock_timestamp(), 0, 0
      FROM jobs WHERE job_id = :job_id
      RETURNING job_id
    )
    INSERT INTO job_events (job_id, from_state, to_state, cause, actor, message)
    SELECT job_id, 'PENDING', 'CANCELLED', 'cancel', :actor, :message FROM ended
    """
)
_CANCEL_ACTIVE = sa.text(
    """
    UPDATE jobs SET requested_end_state = 'CANCELLED', requested_end_reason = :message, requested_end_actor = :actor
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND state IN ('RUNNING', 'SUSPENDED')
      AND requested_end_state IS DISTINCT FROM 'CANCELLED'
    """
)


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
        await cancel_rows(connection, rows, identity.user_name)
    return Cancelled(job_id, *_outcome(rows))


async def cancel_rows(connection: AsyncConnection, rows: Sequence[JobRow], actor: str, message: str = "") -> None:
    """在调用者的事务里取消这些已经加锁的行。"""
    values = {"actor": actor, "message": message or f"由 {actor} 取消"}
    pending = [row for row in rows if row.state == JobState.PENDING]
    whole = [row.job_id for row in pending if row.tasks is None or row.tasks == row.remaining]
    active = [row.job_id for row in rows if row.state in ACTIVE_STATES]
    if whole:
        await connection.execute(_CANCEL_PENDING, {**values, "job_ids": whole})
    for row in pending:
        if row.job_id not in whole and row.tasks:
            first = row.tasks[0]
            single = row.stride.task_id(first.lower) if first.upper - first.lower == 1 == len(row.tasks) else None
            await connection.execute(
                _CANCEL_TASKS,
                {**values, "job_id": row.job_id, "tasks": multirange_text(row.tasks), "only": single},
            )
    if pending:
        await connection.execute(inbox_insert("jobs", job_ids=[row.job_id for row in pending]))
    if active:
        await connection.execute(_CANCEL_ACTIVE, {**values, "job_ids": active})
        await connection.execute(inbox_insert("cancel", job_ids=active))
    if pending or active:
        await connection.execute(notify_inbox())


def _outcome(rows: Sequence[JobRow]) -> tuple[str, str]:
    active = next((row for row in rows if row.state in ACTIVE_STATES), None)
    if active is not None:
        return active.state, "已请节点结束它；结束之后状态是 CANCELLED"
    if any(row.state == JobState.PENDING for row in rows):
        return JobState.CANCELLED.value, "已取消"
    return rows[0].state, f"作业早已结束（{rows[0].state}），没有改动"
