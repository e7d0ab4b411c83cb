"""触发（strigger）：作业结束、将到时限，节点变成某个样子时，以定下它的人的身份运行一个程序——提交成一个短作业。"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from scns_conductor.core.node_events import CLUSTER_EVENTS, JOB_EVENTS, NODE_EVENTS
from scns_conductor.core.states import TERMINAL_STATES, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import many, record
from scns_conductor.services.job_rows import find_rows, require_owner
from scns_conductor.services.new_job import Submitter
from scns_conductor.services.nodes import node_names
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.services.standing_jobs import require_token_account, template_of
from scns_conductor.services.submit_desk import Draft, SubmitDesk
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.standing import (
    CLUSTER_EVENTS_NOTED,
    NODE_STATES,
    TRIGGER_ACCOUNTS,
    TRIGGER_INSERT,
    TRIGGERS,
    TRIGGERS_DELETE,
)


@dataclass(frozen=True, slots=True)
class TriggerWants:
    """何时运行什么：job_id 与 nodes 至多写一个；draft 是程序包成的作业。"""

    event: str
    job_id: str | None
    nodes: str | None
    offset_s: int
    permanent: bool
    program: str
    draft: Draft


async def list_triggers(
    engine: AsyncEngine, trigger_id: int | None = None, job_id: int | None = None, user_name: str | None = None
) -> list[dict[str, Any]]:
    """符合这些的触发，谁都看得到。"""
    values = {"trigger_id": trigger_id, "job_id": job_id, "user_name": user_name}
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(TRIGGERS, values)).mappings()]


async def set_trigger(engine: AsyncEngine, desk: SubmitDesk, submitter: Submitter, wants: TriggerWants) -> int:
    """定下，返回编号。作业要是自己的（管理员不论），没有结束。"""
    if wants.event in JOB_EVENTS and wants.job_id is None:
        raise InvalidRequest("job_id", f"{wants.event} 要写是哪个作业", code="trigger_job_missing")
    if wants.job_id is not None and wants.nodes is not None:
        raise InvalidRequest("nodes", "作业与节点只能写一个", code="trigger_target")
    of_cluster = CLUSTER_EVENTS.get(wants.event)
    if of_cluster is not None and (wants.job_id is not None or wants.nodes is not None):
        raise InvalidRequest("event", f"{wants.event} 是整个集群的事，不写作业与节点", code="trigger_target")
    names = node_names(wants.nodes, "nodes") if wants.nodes is not None else None
    template = await template_of(desk, wants.draft, submitter, "")
    async with engine.begin() as connection:
        job_id = None
        if wants.job_id is not None:
            rows = await find_rows(connection, wants.job_id, lock=False)
            require_owner(rows, submitter.identity)
            if all(JobState(row.state) in TERMINAL_STATES for row in rows):
                raise Conflict(f"作业 {wants.job_id} 已经结束", code="job_finished")
            # 12_3 已经有自己的行的看那一行。
            job_id = rows[0].job_id if len(rows) == 1 else rows[0].array_job_id
        nodes = (await connection.execute(NODE_STATES)).all()
        unknown = sorted(set(names or ()) - {node.name for node in nodes})
        if unknown:
            raise InvalidRequest("nodes", f"没有节点 {unknown[0]}", code="node_unknown")
        like = NODE_EVENTS.get(wants.event)
        # 已经是那样的不算；空闲的从此刻算起。
        seen = [node.name for node in nodes if like is not None and wants.event != "idle" and like(node)]
        if of_cluster is not None:
            noted = (await connection.execute(CLUSTER_EVENTS_NOTED, {"events": [of_cluster]})).all()
            seen = [each.event_id for each in noted]
        values = {
            "user_name": submitter.identity.user_name,
            "event": wants.event,
            "job_id": job_id,
            "node_names": None if names is None else list(names),
            "offset_s": wants.offset_s,
            "permanent": wants.permanent,
            "program": wants.program,
            "template": template,
            "seen": [name for name in seen if names is None or name in names],
        }
        trigger_id = int(await connection.scalar(TRIGGER_INSERT, values) or 0)
        await tell_scheduler(connection, inbox_insert("standing"))
    return trigger_id


async def clear_triggers(
    engine: AsyncEngine, identity: Identity, trigger_id: int | None, job_id: int | None, user_name: str | None
) -> list[int]:
    """删掉符合的，返回它们的编号；一个也没有抛 NotFound，有别人的抛 Forbidden（管理员不论），一个也不删。"""
    values = {"trigger_id": trigger_id, "job_id": job_id, "user_name": user_name}
    if all(value is None for value in values.values()):
        raise InvalidRequest("trigger_id", "写明是哪些：编号、作业或用户", code="trigger_target")
    async with engine.begin() as connection:
        found: Sequence[Any] = (await connection.execute(TRIGGERS, values)).all()
        if not found:
            raise NotFound("没有这样的触发；用 GET /triggers 查看", code="trigger_not_found")
        if not identity.privileged and any(each.user_name != identity.user_name for each in found):
            raise Forbidden("那是别人定的触发；只有本人与管理员能删", code="not_trigger_owner")
        trigger_ids = [each.trigger_id for each in found]
        require_token_account(identity, await connection.scalars(TRIGGER_ACCOUNTS, {"trigger_ids": trigger_ids}))
        await connection.execute(TRIGGERS_DELETE, {"trigger_ids": trigger_ids})
        others = [each for each in found if each.user_name != identity.user_name]
        if others:
            told = {"users": sorted({each.user_name for each in others})}
            await record(
                connection, identity, "trigger.delete", many([str(each.trigger_id) for each in others]), after=told
            )
    return trigger_ids
