"""作业步（srun 用）：建立、列出、再送、发信号；交还没有脚本的分配。"""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.answers.jobs import StepAnswer, StepsAnswer
from scns_conductor.api.answers.steps import (
    StepActedAnswer,
    StepAttachedAnswer,
    StepCreatedAnswer,
    StepRelaunchedAnswer,
)
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import NOT_FLAG, SIGNAL_PATTERN
from scns_conductor.api.routers.jobs import Acted
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.api.step_request import HetStepSubmit, StepConnection, StepSubmit
from scns_conductor.services import job_steps

router = SegmentRouter(prefix="/jobs", tags=["作业步"])
StepId = Annotated[int, Field(ge=0, le=2**31 - 1)]


class StepSignal(BaseModel):
    """要发的信号。"""

    model_config = ConfigDict(extra="forbid")

    signal: str = Field(description="信号的名字或号", max_length=32, json_schema_extra={"pattern": SIGNAL_PATTERN})


class StepChanges(BaseModel):
    """要改的。"""

    model_config = ConfigDict(extra="forbid")

    time_limit: Annotated[int, Field(ge=1, le=2**31 - 1), NOT_FLAG] | None = Field(
        description="时限（秒），从作业步的开始算起；null 是不限"
    )


class Release(BaseModel):
    """交还分配。"""

    model_config = ConfigDict(extra="forbid")

    exit_status: Annotated[int, Field(ge=0, le=255), NOT_FLAG] = Field(0, description="做的事的退出码")


# 放在 /jobs/{job_id} 之前登记：/jobs/steps 不是作业号。
@router.get("/steps", summary="正在运行的作业步，或指定作业的全部作业步")
async def list_steps(
    parts: PartsDep,
    _identity: IdentityDep,
    job_id: Annotated[str | None, Query(description="作业号，逗号分隔；数组任务用它自己的作业号")] = None,
    live: Annotated[bool, Query(description="先请节点此刻采样一次（sstat）；要写 job_id")] = False,
) -> StepsAnswer:
    """batch 与 extern 不在其中：它们就是作业自己。"""
    wanted = None if job_id is None else [word.strip() for word in job_id.split(",")]
    if live and wanted is not None:
        await job_steps.sample_steps(parts.engine, parts.desk, wanted)
    return {"steps": await job_steps.list_steps(parts.engine, wanted)}


@router.post("/{job_id}/steps", summary="建立一个作业步", status_code=201)
async def create(job_id: str, body: StepSubmit, parts: PartsDep, identity: IdentityDep) -> StepCreatedAnswer:
    """此刻放不下是 409 step_busy，过一会儿再来；怎样也放不下是 422 step_too_large。"""
    ports = parts.settings.mpi_port_range
    return await job_steps.create_step(parts.engine, identity, job_id, body.request(), ports=ports)


@router.post("/{job_id}/steps/het", summary="在异构作业里建立跨几个部分的一步", status_code=201)
async def create_heterogeneous(
    job_id: str, body: HetStepSubmit, parts: PartsDep, identity: IdentityDep
) -> StepCreatedAnswer:
    """job_id 是异构作业的号。回答同建立一个作业步；nodes 里第 n 个部分的节点写成 节点+n（第 0 个不写）。"""
    requests = [(part.component, part.step.request()) for part in body.steps]
    ports = parts.settings.mpi_port_range
    return await job_steps.create_het_step(parts.engine, identity, job_id, requests, ports=ports)


# 号只有数字：steps/het 是另一个端点，别的方法是 405。
@router.get("/{job_id}/steps/{step_id:int}", summary="一个作业步")
async def show(job_id: str, step_id: StepId, parts: PartsDep, _identity: IdentityDep) -> StepAnswer:
    """node_tasks、node_cpus 与 nodes 一一对应；内存的单位是 KiB。"""
    return await job_steps.read_step(parts.engine, job_id, step_id)


@router.patch("/{job_id}/steps/{step_id:int}", summary="改作业步自己的时限")
async def update(
    job_id: str, step_id: StepId, body: StepChanges, parts: PartsDep, identity: IdentityDep
) -> StepActedAnswer:
    """从它的开始算起；已经超过的立即到时。"""
    return await job_steps.update_step(parts.engine, identity, job_id, step_id, body.time_limit)


@router.post("/{job_id}/steps/{step_id:int}/launch", summary="把启动的消息再送一遍")
async def relaunch(job_id: str, step_id: StepId, parts: PartsDep, identity: IdentityDep) -> StepRelaunchedAnswer:
    """节点没有按时连过来时用；已经启动的节点什么也不做。"""
    return await job_steps.relaunch_step(parts.engine, identity, job_id, step_id)


@router.post("/{job_id}/steps/{step_id:int}/attach", summary="再接一个客户（sattach）")
async def attach(
    job_id: str, step_id: StepId, body: StepConnection, parts: PartsDep, identity: IdentityDep
) -> StepAttachedAnswer:
    """各节点连到这个地址，此后的输出也给它一份，它的输入也给任务；它断了不影响任务。"""
    return await job_steps.attach_step(parts.engine, identity, job_id, step_id, body.model_dump())


@router.post("/{job_id}/steps/{step_id:int}/signal", summary="给作业步发信号")
async def signal(
    job_id: str, step_id: StepId, body: StepSignal, parts: PartsDep, identity: IdentityDep
) -> StepActedAnswer:
    """KILL 结束它。"""
    return await job_steps.signal_step(parts.engine, identity, job_id, step_id, body.signal)


@router.post("/{job_id}/release_allocation", summary="交还没有脚本的分配")
async def release_allocation(job_id: str, body: Release, parts: PartsDep, identity: IdentityDep) -> Acted:
    """salloc、独立的 srun 做完了；幂等。"""
    return Acted(
        job_id=job_id, state=await job_steps.release_allocation(parts.engine, identity, job_id, body.exit_status)
    )
