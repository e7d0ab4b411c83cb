"""通知：发出去的、等着的、发不出去的邮件。"""

from typing import Annotated, Any

from fastapi import Query

from scns_conductor.api.answers.notifications import NotificationsAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.models import NotificationState
from scns_conductor.services.notifications import list_notifications

router = SegmentRouter(tags=["作业"])
_MOST = 1000


@router.get("/notifications", summary="作业的邮件")
async def notifications(
    parts: PartsDep,
    identity: IdentityDep,
    job_id: Annotated[str | None, Query(description="这个作业的；整个数组一份的用数组的作业号", max_length=64)] = None,
    state: Annotated[NotificationState | None, Query(description="只要这种状态的；DEAD 是不再试的")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="至多几个")] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="只要号比它小的：上一页最后一个的号")] = None,
) -> NotificationsAnswer:
    """自己的作业的，管理员是全部的；新的在前。发不出去的，error 说明为什么。留三十天。"""
    found: list[dict[str, Any]] = await list_notifications(
        parts.engine, identity, job_id=job_id, state=state, limit=limit, before=before
    )
    return {"notifications": found}
