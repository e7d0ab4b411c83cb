"""优先级与公平份额（sprio、sshare）、计划：由调度器按它此刻的记忆回答。"""

from typing import Annotated

from fastapi import Query

from scns_conductor.api.answers.accounting import PrioritiesAnswer, SharesAnswer
from scns_conductor.api.answers.jobs import ScheduleAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.services.scheduler_questions import ask_priorities, ask_schedule, ask_shares

router = SegmentRouter(tags=["优先级"])


@router.get("/priorities", summary="排队的作业的优先级与各因子")
async def priorities(
    parts: PartsDep,
    identity: IdentityDep,
    job_id: Annotated[
        str | None,
        Query(
            description="作业号，逗号分隔；缺省是全部（至多 10,000 个，从高到低）",
            json_schema_extra={"pattern": "^[0-9]{1,18}(,[0-9]{1,18})*$"},
        ),
    ] = None,
) -> PrioritiesAnswer:
    """factors 是各因子乘以权重之后的值，priority_type 为 basic 时是空的；不在排队的作业不在其中。"""
    job_ids = None
    if job_id is not None:
        words = [word.strip() for word in job_id.split(",")]
        if not all(word.isdecimal() and len(word) < 19 for word in words):
            raise InvalidRequest("job_id", "应是逗号分隔的数字，如 12,13")
        job_ids = [int(word) for word in words]
    answer = await ask_priorities(parts.desk, identity.user_name, job_ids)
    settings = await parts.live.get()
    return {**answer, "weights": settings.priority_weights, "priority_type": settings.priority_type}


@router.get("/schedule", summary="调度器的计划：受阻的作业预计何时、在哪里开始")
async def schedule(parts: PartsDep, identity: IdentityDep) -> ScheduleAnswer:
    """由调度器按此刻的队列计划一次，与 GET /jobs/{job_id}/why 说的是同一个；至多 500 个，先开始的在前。"""
    return await ask_schedule(parts.desk, identity.user_name)


@router.get("/shares", summary="公平份额：各用户的份额、用量与因子")
async def shares(parts: PartsDep, identity: IdentityDep) -> SharesAnswer:
    """shares 是各用户的，accounts 是公平树里的账户（上级在前，parent 为 null 的在根之下）。

    用量是衰减过的 CPU·秒，每 SCNS_PRIORITY_CALC_PERIOD_S 秒重算；priority_type 为 basic 时是空的。
    """
    return await ask_shares(parts.desk, identity.user_name)
