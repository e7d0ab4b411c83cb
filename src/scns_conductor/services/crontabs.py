"""用户的 crontab：存下全文与其中各项要提交的作业；何时提交由调度进程看着。"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.cron import check_schedule, check_zone
from scns_conductor.core.errors import InvalidRequest, NotFound
from scns_conductor.core.states import JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import record
from scns_conductor.services.cancellation import cancel_rows
from scns_conductor.services.job_rows import find_each
from scns_conductor.services.new_job import Submitter
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.services.standing_jobs import owner, require_token_account, template_of
from scns_conductor.services.submit_desk import Draft, SubmitDesk
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.standing import (
    CRON_ENTRIES_DELETE,
    CRON_ENTRIES_INSERT,
    CRONTAB,
    CRONTAB_DELETE,
    CRONTAB_REPLACE,
    DISABLED_LINES,
    entries_text,
)

DISABLED = "#DISABLED: "


@dataclass(frozen=True, slots=True)
class CronItem:
    """一项：在全文的第几行（从 0 数起），何时，提交什么。"""

    first_line: int
    last_line: int
    schedule: str
    draft: Draft


async def read_crontab(engine: AsyncEngine, identity: Identity, user_name: str | None) -> dict[str, Any]:
    """全文；停了的各行前面有 #DISABLED。没有抛 NotFound。"""
    name = owner(identity, user_name, "看别人的 crontab").user_name
    async with engine.connect() as connection:
        found = (await connection.execute(CRONTAB, {"user_name": name})).mappings().first()
        if found is None:
            raise _none(name)
        lines = found["text"].split("\n")
        for first, last in await connection.execute(DISABLED_LINES, {"user_name": name}):
            lines[first : last + 1] = [DISABLED + line for line in lines[first : last + 1]]
    return {**found, "text": "\n".join(lines)}


async def replace_crontab(
    engine: AsyncEngine,
    desk: SubmitDesk,
    submitter: Submitter,
    user_name: str | None,
    text: str,
    timezone: str,
    items: Sequence[CronItem],
) -> None:
    """换成这一份：旧的各项没有了，它们还没有开始的那一次取消，正在跑的跑完。不合法抛 InvalidRequest，什么也没有变。"""
    who = owner(submitter.identity, user_name, "改别人的 crontab")
    try:
        check_zone(timezone)
    except ValueError as error:
        raise InvalidRequest("timezone", str(error), code="timezone_unknown") from error
    lines, entries = text.count("\n") + 1, []
    for index, item in enumerate(items):
        prefix = f"entries[{index}]."
        if not 0 <= item.first_line <= item.last_line < lines:
            raise InvalidRequest(f"{prefix}last_line", "不在全文里", code="cron_line_invalid")
        try:
            check_schedule(item.schedule)
        except ValueError as error:
            raise InvalidRequest(f"{prefix}schedule", str(error), code="schedule_invalid") from error
        template = await template_of(desk, item.draft, Submitter(who, submitter.data_source), prefix)
        entries.append((item.first_line, item.last_line, item.schedule, template))
    async with engine.begin() as connection:
        values = {"user_name": who.user_name, "text": text, "timezone": timezone}
        await connection.execute(CRONTAB_REPLACE, values)
        await _drop_entries(connection, who.user_name, submitter.identity)
        if entries:
            values = {"user_name": who.user_name, "entries": entries_text(entries)}
            await connection.execute(CRON_ENTRIES_INSERT, values)
        if who is not submitter.identity:
            told = {"entries": len(entries)}
            await record(connection, submitter.identity, "crontab.replace", who.user_name, after=told)
        await tell_scheduler(connection, inbox_insert("standing"))


async def delete_crontab(engine: AsyncEngine, identity: Identity, user_name: str | None) -> None:
    """删除；还没有开始的取消。没有抛 NotFound。"""
    name = owner(identity, user_name, "删别人的 crontab").user_name
    async with engine.begin() as connection:
        await _drop_entries(connection, name, identity)
        if not (await connection.execute(CRONTAB_DELETE, {"user_name": name})).first():
            raise _none(name)
        if name != identity.user_name:
            await record(connection, identity, "crontab.delete", name)


async def _drop_entries(connection: AsyncConnection, user_name: str, identity: Identity) -> None:
    dropped = (await connection.execute(CRON_ENTRIES_DELETE, {"user_name": user_name})).all()
    require_token_account(identity, (row.account for row in dropped))
    old = [str(row.job_id) for row in dropped if row.job_id]
    if old:
        rows = [row for found in await find_each(connection, old) for row in found.rows]
        waiting = [row for row in rows if row.state == JobState.PENDING]
        await cancel_rows(connection, waiting, identity.user_name, "crontab 换了")


def _none(user_name: str) -> NotFound:
    return NotFound(f"{user_name} 没有 crontab；用 scrontab 写一份", code="crontab_not_found")
