"""作业的控制：保留、放行、重新排队、挂起、恢复、取消、发信号；一个或一批，都是一个事务、几条成批的语句。

一批里某个作业不许（别人的、状态不对、没有）只是它自己的错误，其余照做。
"""

import re
import signal as signals
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import ConductorError, Conflict, Forbidden, InvalidRequest
from scns_conductor.core.states import ACTIVE_STATES, HOLD_REASONS, TERMINAL_STATES, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.array_split import merged, split
from scns_conductor.services.audit import record_jobs
from scns_conductor.services.cancellation import cancel_rows, outcome
from scns_conductor.services.job_list import JobFilter, chosen_rows
from scns_conductor.services.job_rows import Found, JobRow, find_each, require_owner, require_whole, why_missing
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.end_requests import REQUEUE_ACTIVE
from scns_conductor.statements.events import events_insert
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.job_control import HOLD, LENT_JOBS, RELEASE, REQUEUE_ENDED, RESUME, SUSPEND

Action = Literal["hold", "release", "requeue", "suspend", "resume", "cancel", "signal"]
Outcome = dict[str, str]
# 按条件挑作业时，没有说状态的看哪些状态的。
DEFAULT_STATES: Mapping[Action, frozenset[JobState]] = {
    "hold": frozenset({JobState.PENDING}),
    "release": frozenset({JobState.PENDING}),
    "requeue": ACTIVE_STATES,
    "suspend": frozenset({JobState.RUNNING}),
    "resume": frozenset({JobState.SUSPENDED}),
    "cancel": ACTIVE_STATES | {JobState.PENDING},
    "signal": ACTIVE_STATES,
}


@dataclass(frozen=True, slots=True)
class Request:
    """做什么；hold 是重新排队之后保留，special_exit 是那样地保留，signal 与 target 见 signal_job。"""

    action: Action
    hold: bool = False
    signal: str | None = None
    target: str = "all"
    special_exit: bool = False

    @property
    def hold_after(self) -> str | None:
        """重新排队之后的保留。"""
        return "special_exit" if self.special_exit else "user" if self.hold else None


@dataclass(slots=True)
class Answer:
    """一批的结果：jobs 是做成的（次序同所给），errors 是各个写法的错误。"""

    jobs: list[Outcome] = field(default_factory=list)
    errors: dict[str, ConductorError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """谁要做什么。"""

    identity: Identity
    request: Request
    # 要恢复的里，让出了 CPU 的：等 CPU 空出来。
    lent: set[int] = field(default_factory=set)


# 挑出一个写法里要动的行；一个也没有、不许，抛那个写法的错误。
_Choose = Callable[[str, Sequence[JobRow], _Asked], list[JobRow]]
# 动它们；rows 已经拆开，不止一个写法的。
_Apply = Callable[[AsyncConnection, Sequence[JobRow], _Asked], Awaitable[None]]


async def control_jobs(
    engine: AsyncEngine,
    identity: Identity,
    request: Request,
    job_ids: Sequence[str] = (),
    filters: JobFilter | None = None,
) -> Answer:
    """对这些作业（与、或者符合条件的作业）做一件事；两样都写是两者的交。"""
    choose, apply = _ACTIONS[request.action]
    if request.action == "signal":
        signal_number(request.signal or "")
    asked, answer = _Asked(identity, request), Answer()
    if filters is not None and not job_ids and filters.user is None and not identity.privileged:
        # 只写条件时，普通用户说的是自己的那些：不去锁别人的行，也不逐个答不许。
        filters = replace(filters, user=identity.user_name)
    async with engine.begin() as connection:
        found = await find_each(connection, job_ids) if job_ids else []
        if filters is not None:
            matching = await chosen_rows(connection, filters, DEFAULT_STATES[request.action])
            found = _narrowed(found, matching) if job_ids else _grouped(matching)
        chosen: dict[str, list[JobRow]] = {}
        for each in found:
            try:
                if not each.rows:
                    raise each.error or await why_missing(connection, each.text)
                require_owner(each.rows, identity)
                if request.action == "cancel" and each.reference is not None:
                    # 按条件挑的，别的部分由 cancel_rows 补上。
                    require_whole(each.text, [row for row in each.rows if row.state == JobState.PENDING])
                chosen[each.text] = choose(each.text, each.rows, asked)
            except ConductorError as error:
                answer.errors[each.text] = error
        rows = merged([row for each in chosen.values() for row in each])
        if request.action == "resume":
            await _look_at_lent(connection, chosen, answer, asked)
            rows = merged([row for each in chosen.values() for row in each])
        if rows:
            await apply(connection, rows, asked)
            await record_jobs(connection, identity, f"job.{request.action}", rows)
        for each in found:
            if each.text in chosen:
                answer.jobs.append({"job_id": each.text, **_STATES[request.action](each.rows, asked)})
    return answer


def _grouped(rows: Sequence[JobRow]) -> list[Found]:
    """按条件挑出的行，一行一个；异构作业的各个部分合成一个。"""
    found: dict[str, Found] = {}
    for row in rows:
        label = row.label if row.het_job_id is None else str(row.het_job_id)
        found.setdefault(label, Found(label, None, [])).rows.append(row)
    return list(found.values())


def _narrowed(found: Sequence[Found], matching: Sequence[JobRow]) -> list[Found]:
    """又要是这些作业、又要符合条件：一行也不剩的不算。"""
    kept = {row.job_id for row in matching}
    narrowed = [Found(each.text, each.reference, [row for row in each.rows if row.job_id in kept]) for each in found]
    return [each for each in narrowed if each.rows]


async def control_job(engine: AsyncEngine, identity: Identity, request: Request, job_id: str) -> Outcome:
    """对一个写法做一件事；不许的抛它的错误。"""
    answer = await control_jobs(engine, identity, request, [job_id])
    for error in answer.errors.values():
        raise error
    return answer.jobs[0]


async def signal_job(engine: AsyncEngine, identity: Identity, job_id: str, signal: str, target: str = "all") -> Outcome:
    """给运行中的作业发信号；target：batch 只发给脚本，steps 只发给作业步，all 是全部进程。

    job 是 Slurm 的缺省：有作业步时只给作业步，没有时是全部进程。
    """
    return await control_job(engine, identity, Request("signal", signal=signal, target=target), job_id)


def signal_number(text: str) -> int:
    """信号的名字或号 -> 号；认不出抛 InvalidRequest。"""
    word = text.strip().upper().removeprefix("SIG")
    if re.fullmatch(r"\d{1,2}", word) and 1 <= int(word) < signals.NSIG:
        return int(word)
    found = getattr(signals, f"SIG{word}", None)
    if not isinstance(found, signals.Signals):
        raise InvalidRequest("signal", f"无法识别的信号 {text[:32]!r}；例如 USR1、TERM 或 10", code="signal_unknown")
    return int(found)


def _ids(rows: Sequence[JobRow]) -> list[int]:
    return [row.job_id for row in rows]


async def _record(connection: AsyncConnection, rows: Sequence[JobRow], to_state: str, cause: str, actor: str) -> None:
    """按原状态分组记事件。"""
    for state in sorted({row.state for row in rows}):
        job_ids = [row.job_id for row in rows if row.state == state]
        await connection.execute(events_insert(job_ids, from_state=state, to_state=to_state, cause=cause, actor=actor))


def _to_hold(text: str, rows: Sequence[JobRow], _asked: _Asked) -> list[JobRow]:
    pending = [row for row in rows if row.state == JobState.PENDING]
    if not pending:
        raise Conflict(f"作业 {text} 已是 {rows[0].state}，只有排队的作业能保留", code="job_not_pending")
    return pending


def _hold_word(row: JobRow, asked: _Asked) -> str:
    """管理员保留别人的作业时，本人不能放行；SPECIAL_EXIT 再保留一遍仍是它（同 Slurm）。"""
    if row.user_name != asked.identity.user_name:
        return "admin"
    return "special_exit" if row.hold == "special_exit" else "user"


async def _hold(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    rows, left = await split(connection, rows)
    for hold in ("user", "admin", "special_exit"):
        job_ids = [row.job_id for row in rows if _hold_word(row, asked) == hold]
        if job_ids:
            values = {"job_ids": job_ids, "hold": hold, "reason": HOLD_REASONS[hold]}
            await connection.execute(HOLD, {**values, "actor": asked.identity.user_name})
    await tell_scheduler(connection, inbox_insert("jobs", job_ids=[*left, *_ids(rows)]))


def _to_release(text: str, rows: Sequence[JobRow], asked: _Asked) -> list[JobRow]:
    held = [row for row in rows if row.state == JobState.PENDING and row.hold]
    if any(row.hold == "admin" and not asked.identity.oversees(row.account) for row in held):
        raise Forbidden(f"作业 {text} 是管理员保留的；请联系管理员放行", code="admin_required")
    if not any(row.state == JobState.PENDING for row in rows):
        raise Conflict(f"作业 {text} 已是 {rows[0].state}，只有排队的作业能放行", code="job_not_pending")
    return held


async def _release(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    rows, left = await split(connection, rows)
    await connection.execute(RELEASE, {"job_ids": _ids(rows), "actor": asked.identity.user_name})
    await tell_scheduler(connection, inbox_insert("jobs", job_ids=[*left, *_ids(rows)]))


def _to_requeue(text: str, rows: Sequence[JobRow], asked: _Asked) -> list[JobRow]:
    ready = [row for row in rows if row.state != JobState.PENDING]
    if not ready:
        raise Conflict(f"作业 {text} 本来就在排队", code="job_pending")
    require_whole(text, ready)
    for row in ready:
        if row.interactive or (not row.requeue and not asked.identity.privileged):
            raise Conflict(
                f"作业 {row.label} 不许重新排队（提交时写了 requeue=false，或没有脚本）", code="requeue_disabled"
            )
        if row.remaining is not None and row.job_id != row.array_job_id:
            raise Conflict(
                f"数组里取消了的一段任务（作业 {row.job_id}）不能重新排队；请重新提交", code="requeue_disabled"
            )
    return ready


async def _requeue(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    """运行中的先由节点结束，结束了的当场排队；作业号不变，restart_count 加一。"""
    active = [row for row in rows if row.state in ACTIVE_STATES]
    ended = [row for row in rows if row.state in TERMINAL_STATES]
    actor, hold = asked.identity.user_name, asked.request.hold_after
    values = {"hold": hold}
    if active:
        message = f"由 {actor} 重新排队"
        await connection.execute(
            REQUEUE_ACTIVE, {**values, "job_ids": _ids(active), "message": message, "actor": actor}
        )
        await tell_scheduler(connection, inbox_insert("requeue", job_ids=_ids(active)))
    if ended:
        await _record(connection, ended, JobState.PENDING.value, "requeue", actor)
        await connection.execute(REQUEUE_ENDED, {**values, "job_ids": _ids(ended), "reason": HOLD_REASONS.get(hold)})
        await tell_scheduler(connection, inbox_insert("jobs", job_ids=_ids(ended)))


def _to_suspend(text: str, rows: Sequence[JobRow], _asked: _Asked) -> list[JobRow]:
    return _switchable(text, rows, JobState.RUNNING, JobState.SUSPENDED, "不能挂起")


def _to_resume(text: str, rows: Sequence[JobRow], _asked: _Asked) -> list[JobRow]:
    return _switchable(text, rows, JobState.SUSPENDED, JobState.RUNNING, "不能恢复")


def _switchable(text: str, rows: Sequence[JobRow], source: JobState, target: JobState, refused: str) -> list[JobRow]:
    chosen = [row for row in rows if row.state == source]
    require_whole(text, chosen)
    if not chosen and not any(row.state == target for row in rows):
        raise Conflict(f"作业 {text} 是 {rows[0].state}，{refused}", code=f"job_not_{source.value.lower()}")
    return chosen


async def _look_at_lent(
    connection: AsyncConnection, chosen: dict[str, list[JobRow]], answer: Answer, asked: _Asked
) -> None:
    """因抢占、时间片而挂起的，到时自己会恢复：不许。人挂起而让出了 CPU 的记下来。"""
    job_ids = [row.job_id for rows in chosen.values() for row in rows]
    found = (await connection.execute(LENT_JOBS, {"job_ids": job_ids})).all()
    lent = {row.job_id for row in found if row.preempted}
    asked.lent.update(row.job_id for row in found if not row.preempted)
    for text in [text for text, rows in chosen.items() if lent & set(_ids(rows))]:
        lender = min(lent & set(_ids(chosen.pop(text))))
        answer.errors[text] = Conflict(
            f"作业 {lender} 是被抢占、或轮到别人用 CPU 而挂起的；到时自己会恢复", code="job_preempted"
        )


async def _suspend(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    """它仍占着分配。"""
    await connection.execute(SUSPEND, {"job_ids": _ids(rows)})
    await _record(connection, rows, JobState.SUSPENDED.value, "suspend", asked.identity.user_name)
    await tell_scheduler(connection, inbox_insert("suspend", job_ids=_ids(rows)))


async def _resume(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    lent = [row for row in rows if row.job_id in asked.lent]
    if lent:
        # CPU 让出去了：记下要恢复，调度器等它的 CPU 空出来（不给后来的），绝不超分。
        await _record(connection, lent, JobState.SUSPENDED.value, "resume", asked.identity.user_name)
        await tell_scheduler(connection, inbox_insert("jobs", job_ids=_ids(lent)))
        rows = [row for row in rows if row.job_id not in asked.lent]
    if not rows:
        return
    await connection.execute(RESUME, {"job_ids": _ids(rows)})
    await _record(connection, rows, JobState.RUNNING.value, "resume", asked.identity.user_name)
    await tell_scheduler(connection, inbox_insert("resume", job_ids=_ids(rows)))


def _to_cancel(_text: str, rows: Sequence[JobRow], _asked: _Asked) -> list[JobRow]:
    return list(rows)


async def _cancel(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    await cancel_rows(connection, rows, asked.identity.user_name)


def _to_signal(text: str, rows: Sequence[JobRow], _asked: _Asked) -> list[JobRow]:
    active = [row for row in rows if row.state in ACTIVE_STATES]
    if not active:
        raise Conflict(f"作业 {text} 是 {rows[0].state}，没有进程可以收信号", code="job_not_running")
    return active


async def _signal(connection: AsyncConnection, rows: Sequence[JobRow], asked: _Asked) -> None:
    payload = {"signal": signal_number(asked.request.signal or ""), "target": asked.request.target}
    await tell_scheduler(connection, inbox_insert("signal", job_ids=_ids(rows), payload=payload))


def _pending_with_reason(rows: Sequence[JobRow], asked: _Asked) -> Outcome:
    held = next((row for row in rows if row.state == JobState.PENDING), rows[0])
    return {"state": JobState.PENDING.value, "reason": HOLD_REASONS[_hold_word(held, asked)]}


def _first_active(rows: Sequence[JobRow], _asked: _Asked) -> Outcome:
    active = [row for row in rows if row.state in ACTIVE_STATES]
    return {"state": active[0].state if active else JobState.PENDING.value}


def _resumed(rows: Sequence[JobRow], asked: _Asked) -> Outcome:
    """让出了 CPU 的还要等。"""
    waiting = any(row.job_id in asked.lent for row in rows)
    return {"state": (JobState.SUSPENDED if waiting else JobState.RUNNING).value}


def _always(state: JobState) -> Callable[[Sequence[JobRow], _Asked], Outcome]:
    return lambda _rows, _asked: {"state": state.value}


_ACTIONS: Mapping[Action, tuple[_Choose, _Apply]] = {
    "hold": (_to_hold, _hold),
    "release": (_to_release, _release),
    "requeue": (_to_requeue, _requeue),
    "suspend": (_to_suspend, _suspend),
    "resume": (_to_resume, _resume),
    "cancel": (_to_cancel, _cancel),
    "signal": (_to_signal, _signal),
}
# 答话里的状态：此刻的，或动了之后的。
_STATES: Mapping[Action, Callable[[Sequence[JobRow], _Asked], Outcome]] = {
    "hold": _pending_with_reason,
    "release": _always(JobState.PENDING),
    "requeue": _first_active,
    "suspend": _always(JobState.SUSPENDED),
    "resume": _resumed,
    "cancel": lambda rows, _asked: {"state": outcome(rows)[0]},
    "signal": _first_active,
}
