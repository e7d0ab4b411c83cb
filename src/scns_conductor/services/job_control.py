"""作业的控制：保留、放行、重新排队、挂起、恢复、发信号。每个函数一个事务，返回 (作业号, 此刻的状态)。"""

import re
import signal as signals
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import Conflict, Forbidden, InvalidRequest
from scns_conductor.core.states import ACTIVE_STATES, HOLD_REASONS, TERMINAL_STATES, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.job_rows import JobRow, find_rows, require_owner
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.end_requests import REQUEUE_ACTIVE
from scns_conductor.statements.events import events_insert
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.job_control import FIRST_LENT_JOB, HOLD, RELEASE, REQUEUE_ENDED, RESUME, SUSPEND

Outcome = dict[str, str]


async def _owned(connection: AsyncConnection, identity: Identity, job_id: str) -> list[JobRow]:
    rows = await find_rows(connection, job_id)
    require_owner(rows, identity)
    return rows


def _ids(rows: Sequence[JobRow]) -> list[int]:
    return [row.job_id for row in rows]


async def _record(
    connection: AsyncConnection, rows: Sequence[JobRow], to_state: str | None, cause: str, actor: str
) -> None:
    """按原状态分组记事件；to_state 为 None 表示状态没变。"""
    for state in sorted({row.state for row in rows}):
        job_ids = [row.job_id for row in rows if row.state == state]
        await connection.execute(
            events_insert(job_ids, from_state=state, to_state=to_state or state, cause=cause, actor=actor)
        )


async def hold_job(engine: AsyncEngine, identity: Identity, job_id: str) -> Outcome:
    """保留排队的作业；管理员保留别人的作业时，本人不能放行。没有排队的部分抛 Conflict。"""
    async with engine.begin() as connection:
        rows = await _owned(connection, identity, job_id)
        pending = [row for row in rows if row.state == JobState.PENDING]
        if not pending:
            raise Conflict(f"作业 {job_id} 已是 {rows[0].state}，只有排队的作业能保留", code="job_not_pending")
        own = all(row.user_name == identity.user_name for row in pending)
        hold = "user" if own else "admin"
        reason = HOLD_REASONS[hold]
        await connection.execute(HOLD, {"job_ids": _ids(pending), "hold": hold, "reason": reason})
        await _record(connection, pending, None, "hold", identity.user_name)
        await tell_scheduler(connection, inbox_insert("jobs", job_ids=_ids(pending)))
    return {"job_id": job_id, "state": JobState.PENDING.value, "reason": reason}


async def release_job(engine: AsyncEngine, identity: Identity, job_id: str) -> Outcome:
    """放行；没有被保留的不变。被管理员保留的，只有管理员能放行。"""
    async with engine.begin() as connection:
        rows = await _owned(connection, identity, job_id)
        held = [row for row in rows if row.state == JobState.PENDING and row.hold]
        if any(row.hold == "admin" for row in held) and not identity.admin:
            raise Forbidden(f"作业 {job_id} 是管理员保留的；请联系管理员放行", code="admin_required")
        if not any(row.state == JobState.PENDING for row in rows):
            raise Conflict(f"作业 {job_id} 已是 {rows[0].state}，只有排队的作业能放行", code="job_not_pending")
        if held:
            await connection.execute(RELEASE, {"job_ids": _ids(held)})
            await _record(connection, held, None, "release", identity.user_name)
            await tell_scheduler(connection, inbox_insert("jobs", job_ids=_ids(held)))
    return {"job_id": job_id, "state": JobState.PENDING.value}


async def requeue_job(engine: AsyncEngine, identity: Identity, job_id: str, *, hold: bool = False) -> Outcome:
    """重新排队：运行中的先由节点结束，结束了的当场排队；作业号不变，restart_count 加一。"""
    async with engine.begin() as connection:
        rows = await _owned(connection, identity, job_id)
        ready = [row for row in rows if row.state != JobState.PENDING]
        if not ready:
            raise Conflict(f"作业 {job_id} 本来就在排队", code="job_pending")
        for row in ready:
            if row.interactive or (not row.requeue and not identity.admin):
                raise Conflict(
                    f"作业 {row.label} 不许重新排队（提交时写了 requeue=false，或没有脚本）", code="requeue_disabled"
                )
            if row.remaining is not None and row.job_id != row.array_job_id:
                raise Conflict(
                    f"数组里取消了的一段任务（作业 {row.job_id}）不能重新排队；请重新提交", code="requeue_disabled"
                )
        active = [row for row in ready if row.state in ACTIVE_STATES]
        ended = [row for row in ready if row.state in TERMINAL_STATES]
        values = {"hold": "user" if hold else None}
        if active:
            message = f"由 {identity.user_name} 重新排队"
            await connection.execute(
                REQUEUE_ACTIVE, {**values, "job_ids": _ids(active), "message": message, "actor": identity.user_name}
            )
            await tell_scheduler(connection, inbox_insert("requeue", job_ids=_ids(active)))
        if ended:
            await _record(connection, ended, JobState.PENDING.value, "requeue", identity.user_name)
            await connection.execute(
                REQUEUE_ENDED, {**values, "job_ids": _ids(ended), "reason": HOLD_REASONS["user"] if hold else None}
            )
            await tell_scheduler(connection, inbox_insert("jobs", job_ids=_ids(ended)))
    return {"job_id": job_id, "state": active[0].state if active else JobState.PENDING.value}


async def suspend_job(engine: AsyncEngine, identity: Identity, job_id: str) -> Outcome:
    """挂起运行中的作业；它仍占着分配。"""
    return await _switch(engine, identity, job_id, JobState.RUNNING, JobState.SUSPENDED)


async def resume_job(engine: AsyncEngine, identity: Identity, job_id: str) -> Outcome:
    """恢复挂起的作业。"""
    return await _switch(engine, identity, job_id, JobState.SUSPENDED, JobState.RUNNING)


async def _switch(engine: AsyncEngine, identity: Identity, job_id: str, source: JobState, target: JobState) -> Outcome:
    suspending = target == JobState.SUSPENDED
    async with engine.begin() as connection:
        rows = await _owned(connection, identity, job_id)
        chosen = [row for row in rows if row.state == source]
        if not chosen and not any(row.state == target for row in rows):
            verb = "挂起" if suspending else "恢复"
            raise Conflict(f"作业 {job_id} 是 {rows[0].state}，不能{verb}", code=f"job_not_{source.value.lower()}")
        lent = (
            None if suspending else (await connection.execute(FIRST_LENT_JOB, {"job_ids": _ids(chosen)})).scalar_one()
        )
        if lent is not None:
            raise Conflict(f"作业 {lent} 是被抢占而挂起的；抢占者用完了自己会恢复", code="job_preempted")
        if chosen:
            await connection.execute(SUSPEND if suspending else RESUME, {"job_ids": _ids(chosen)})
            verb = "suspend" if suspending else "resume"
            await _record(connection, chosen, target.value, verb, identity.user_name)
            await tell_scheduler(connection, inbox_insert(verb, job_ids=_ids(chosen)))
    return {"job_id": job_id, "state": target.value}


def signal_number(text: str) -> int:
    """信号的名字或号 -> 号；认不出抛 InvalidRequest。"""
    word = text.strip().upper().removeprefix("SIG")
    if re.fullmatch(r"\d{1,2}", word) and 1 <= int(word) < signals.NSIG:
        return int(word)
    found = getattr(signals, f"SIG{word}", None)
    if not isinstance(found, signals.Signals):
        raise InvalidRequest("signal", f"无法识别的信号 {text[:32]!r}；例如 USR1、TERM 或 10", code="signal_unknown")
    return int(found)


async def signal_job(engine: AsyncEngine, identity: Identity, job_id: str, signal: str, target: str = "all") -> Outcome:
    """给运行中的作业发信号；target：batch 只发给脚本，steps 只发给作业步，all 是全部进程。

    job 是 Slurm 的缺省：有作业步时只给作业步，没有时是全部进程。
    """
    number = signal_number(signal)
    async with engine.begin() as connection:
        rows = await _owned(connection, identity, job_id)
        active = [row for row in rows if row.state in ACTIVE_STATES]
        if not active:
            raise Conflict(f"作业 {job_id} 是 {rows[0].state}，没有进程可以收信号", code="job_not_running")
        await tell_scheduler(
            connection, inbox_insert("signal", job_ids=_ids(active), payload={"signal": number, "target": target})
        )
    return {"job_id": job_id, "state": active[0].state}
