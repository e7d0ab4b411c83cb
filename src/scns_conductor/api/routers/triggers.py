"""触发（strigger）：事情发生了，以定下它的人的身份运行程序。"""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import ConfigDict, Field

from scns_conductor.api.answers.standing import TriggerIdAnswer, TriggerIdsAnswer, TriggersAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep, SubmitterDep
from scns_conductor.api.field_forms import Flag, Name, Text
from scns_conductor.api.job_request import SubmitRequest
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services import triggers

router = SegmentRouter(prefix="/triggers", tags=["定时与触发"])

_YEAR_S = 365 * 86400
TriggerId = Annotated[int | None, Query(ge=1, lt=2**63, description="编号")]
JobId = Annotated[int | None, Query(ge=1, lt=2**63, description="作业号")]
Whose = Annotated[Name | None, Query(description="谁定的")]


class TriggerRequest(SubmitRequest):
    """何时提交哪个作业；它的脚本多一个参数：作业号，或出了事的节点的列表。"""

    model_config = ConfigDict(extra="forbid")

    event: Literal[
        "fini",
        "time",
        "down",
        "up",
        "drained",
        "draining",
        "resume",
        "idle",
        "primary_slurmctld_failure",
        "backup_slurmctld_failure",
        "primary_slurmctld_resumed_operation",
        "primary_slurmctld_resumed_control",
        "backup_slurmctld_resumed_operation",
        "backup_slurmctld_assumed_control",
        "reconfig",
    ] = Field(
        description="作业的：fini 结束，time 到时限；节点的：变成 down、up（从 DOWN 回来）、drained、draining、resume，"
        "idle 一直空闲；集群的：primary_slurmctld_failure 等是领导者没了，…_resumed_…、…_assumed_control 是当选了，"
        "reconfig 是运行时的设置改了"
    )
    job_id: Text | None = Field(None, description="哪个作业；节点的事看它用着的节点")
    nodes: Text | None = Field(None, description="哪些节点，如 n[1-3]；作业与节点都不写是全部节点。集群的事不写")
    offset: int = Field(0, ge=-_YEAR_S, le=_YEAR_S, description="事情之后多久（秒）；负数是之前，只对 time 有意义")
    permanent: Flag = Field(False, description="节点与集群的事：做过之后还在，下次再做")
    program: Text = Field(description="给人看的程序与参数")


@router.get("", summary="列出触发")
async def list_(
    parts: PartsDep,
    _identity: IdentityDep,
    trigger_id: TriggerId = None,
    job_id: JobId = None,
    user: Whose = None,
) -> TriggersAnswer:
    """条件都写的要都符合。"""
    return {"triggers": await triggers.list_triggers(parts.engine, trigger_id, job_id, user)}


@router.post("", summary="定一个触发", status_code=201)
async def set_(body: TriggerRequest, parts: PartsDep, submitter: SubmitterDep) -> TriggerIdAnswer:
    """隔几秒看一次；做过就没有了（permanent 的节点与集群的事除外），作业结束了没有发生的也没有了。"""
    wants = triggers.TriggerWants(body.event, body.job_id, body.nodes, body.offset, body.permanent, body.program, body)
    return {"trigger_id": await triggers.set_trigger(parts.engine, parts.submit_desk, submitter, wants)}


@router.delete("", summary="删除触发")
async def clear(
    parts: PartsDep,
    identity: IdentityDep,
    trigger_id: TriggerId = None,
    job_id: JobId = None,
    user: Whose = None,
) -> TriggerIdsAnswer:
    """符合条件的全部；至少写一个条件。有别人的就一个也不删（管理员除外）。"""
    return {"trigger_ids": await triggers.clear_triggers(parts.engine, identity, trigger_id, job_id, user)}
