"""审计：管理的与关乎安全的事，谁、何时、从哪里做的。"""

from typing import Annotated

from fastapi import Query

from scns_conductor.api.answers.identity import AuditAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.routers.diagnostics import moment_of
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.instants import utc_now
from scns_conductor.services.audit import MOST_LISTED, audit_after, list_audit

router = SegmentRouter(tags=["集群"])

Word = Annotated[str | None, Query(max_length=1024, pattern=r"^[^\x00]*$")]
Moment = Annotated[str | None, Query(max_length=64)]


@router.get("/audit", summary="审计（管理员、审计员）")
async def show_audit(
    parts: PartsDep,
    _identity: IdentityDep,
    actor: Annotated[Word, Query(description="谁做的")] = None,
    action: Annotated[Word, Query(description="做了什么，如 node.update；只写 node 是节点的全部")] = None,
    target: Annotated[Word, Query(description="对什么做的")] = None,
    since: Annotated[Moment, Query(description="此后的（含）；ISO 8601、Unix 秒、now-1day 等")] = None,
    until: Annotated[Moment, Query(description="此前的")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="至多几条")] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="只要号比它小的：上一页最后一条的号")] = None,
    after: Annotated[
        int | None, Query(ge=0, le=2**62, description="号比它大的，旧的在前，别的条件不看：接着导出用")
    ] = None,
) -> AuditAnswer:
    """新的在前。只增不改：数据库的触发器拒绝改与删。"""
    now = utc_now()
    conditions = {
        "actor": actor,
        "action": action,
        "target": target,
        "since": None if since is None else moment_of("since", since, now),
        "until": None if until is None else moment_of("until", until, now),
    }
    if after is not None:
        return {"audit": await audit_after(parts.engine, after, limit)}
    return {"audit": await list_audit(parts.engine, conditions, limit, before)}
