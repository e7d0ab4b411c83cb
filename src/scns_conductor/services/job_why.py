"""为什么还没有开始：在排队的去问调度器；建议先照修改的规则核对过，不收的不说。"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.jobs import Suggestion, Why
from scns_conductor.core.errors import TooManyRequests
from scns_conductor.core.states import JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.core.units import format_duration
from scns_conductor.services.answers import AnswerDesk, AnswerTimeout
from scns_conductor.services.current_rules import CurrentRules
from scns_conductor.services.job_queries import read_job
from scns_conductor.services.job_update import require_updatable
from scns_conductor.services.scheduler_questions import ask_why
from scns_conductor.statements.explanations import LAST_STOP
from scns_conductor.statements.job_detail import REASON

# PATCH 的请求体 -> JobSpec 的列；写法不对的抛 ValueError。
Read = Callable[[Mapping[str, Any]], dict[str, Any]]

logger = logging.getLogger(__name__)


async def job_why(
    engine: AsyncEngine, desk: AnswerDesk, current: CurrentRules, identity: Identity, job_id: str, read: Read
) -> Why:
    """缺什么、谁在前面、预计何时、怎样能更早；不在排队的只说状态。"""
    row = await read_job(engine, job_id, REASON)
    if row["state"] != JobState.PENDING:
        return await _begun(engine, desk, current, identity, job_id, row)
    answer = await ask_why(desk, identity.user_name, row["job_id"])
    owner = identity if identity.privileged else Identity(row["user_name"], admin=False)
    kept = await _accepted(engine, current, owner, str(row["job_id"]), answer["suggestions"], read)
    lines = [answer["text"], *(f"要更早开始：{item['text']}" for item in kept)]
    found = cast(Why, dict(answer))
    found["job_id"], found["state"] = job_id, row["state"]
    found["text"], found["suggestions"] = "。\n".join(lines), kept
    return found


async def _begun(
    engine: AsyncEngine,
    desk: AnswerDesk,
    current: CurrentRules,
    identity: Identity,
    job_id: str,
    row: Mapping[str, Any],
) -> Why:
    """不在排队的：它的状态；停着的、在等开机的、轮流用 CPU 的还说在等什么（调度器此刻没有答就不说）。"""
    found: Why = {
        "job_id": job_id,
        "state": row["state"],
        "reason": row["reason"],
        "text": f"作业 {job_id} 不在排队，它的状态是 {row['state']}"
        + (f"：{row['error_msg']}" if row["error_msg"] else ""),
        "wait_breakdown": row["wait_breakdown"],
    }
    waits = row["state"] == JobState.SUSPENDED or row["configuring"]
    if row["state"] == JobState.RUNNING and not waits:
        waits = (await current.now()).settings.preempt_gang
    if row["state"] == JobState.SUSPENDED:
        async with engine.connect() as connection:
            stop = (await connection.execute(LAST_STOP, {"job_id": row["job_id"]})).one_or_none()
        if stop is not None:
            found["text"] += f"：{stop.message or f'{stop.actor} 挂起的'}"
    if waits:
        with contextlib.suppress(AnswerTimeout, TooManyRequests):
            answer = await ask_why(desk, identity.user_name, row["job_id"])
            found["text"] = "。\n".join(text for text in (found["text"], answer["text"]) if text)
            for name in ("resume_time", "time_slices", "waiting_for"):
                if name in answer:
                    found[name] = answer[name]
    found["text"] += _waited(row["wait_breakdown"])
    return found


def _waited(breakdown: Mapping[str, float] | None) -> str:
    """它等的那段时间花在哪里，多的在前；None 是等调度的那一会儿。"""
    if not breakdown:
        return ""
    parts = sorted(breakdown.items(), key=lambda item: -item[1])
    shown = "、".join(f"{'等调度' if name == 'None' else name} {format_duration(spent)}" for name, spent in parts)
    return f"。它排队的 {format_duration(sum(breakdown.values()))} 花在：{shown}"


async def _accepted(
    engine: AsyncEngine,
    current: CurrentRules,
    owner: Identity,
    job_id: str,
    found: list[Suggestion],
    read: Read,
) -> list[Suggestion]:
    """真的会收下的建议。"""
    if not found:
        return []
    wanted = [read(item["changes"]) for item in found]
    refused = await require_updatable(engine, current, owner, job_id, wanted)
    for item, error in zip(found, refused, strict=True):
        if error is not None:
            logger.info("suggestion_refused", extra={"job_id": job_id, "changes": item["changes"], "code": error.code})
    return [item for item, error in zip(found, refused, strict=True) if error is None]
