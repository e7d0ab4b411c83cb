"""作业：列表、详情、历史、脚本、控制、修改、为什么。"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.answers.jobs import JOB, JOB_PAGE, EventsAnswer, SamplesAnswer, WhyAnswer
from scns_conductor.api.answers.reports import ArraysAnswer, DependencyGraphAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import SIGNAL_PATTERN, Flag
from scns_conductor.api.job_request import JobRequest
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services.cancellation import cancel_job
from scns_conductor.services.dependency_graph import dependency_graph
from scns_conductor.services.job_arrays import array_progress
from scns_conductor.services.job_control import Request, control_job, signal_job
from scns_conductor.services.job_list import MAX_LIMIT, JobFilter, Page, list_jobs
from scns_conductor.services.job_queries import job_detail, job_events, job_script
from scns_conductor.services.job_samples import job_samples
from scns_conductor.services.job_update import update_job
from scns_conductor.services.job_why import job_why

router = SegmentRouter(prefix="/jobs", tags=["作业"])


class Acted(BaseModel):
    """控制的回答：state 是此刻的状态。"""

    model_config = ConfigDict(extra="allow")

    job_id: str
    state: str


class SignalRequest(BaseModel):
    """要发的信号。"""

    model_config = ConfigDict(extra="forbid")

    signal: str = Field(
        description="信号的名字或号，如 USR1、10", max_length=32, json_schema_extra={"pattern": SIGNAL_PATTERN}
    )
    batch_only: Flag = Field(False, description="只发给批处理脚本本身")
    target: Literal["all", "batch", "steps", "job"] | None = Field(
        None, description="发给谁；job 是有作业步时只给作业步（Slurm 的缺省），缺省是全部进程"
    )


async def job_filter(
    state: Annotated[str | None, Query(description="状态，逗号分隔，全名或缩写，如 RUNNING,PD")] = None,
    user: Annotated[str | None, Query(description="用户，逗号分隔")] = None,
    account: Annotated[str | None, Query(description="账户，逗号分隔")] = None,
    partition: Annotated[str | None, Query(description="分区，逗号分隔")] = None,
    name: Annotated[str | None, Query(description="作业名，逗号分隔")] = None,
    qos: Annotated[str | None, Query(description="服务质量，逗号分隔")] = None,
    node: Annotated[str | None, Query(description="用过这些节点的，逗号分隔")] = None,
    job_id: Annotated[str | None, Query(description="作业号，逗号分隔；可以是 12_3、12_[1-5]")] = None,
    submit_after: Annotated[str | None, Query(description="此后提交的（含）；ISO 8601、Unix 秒、now-1hour 等")] = None,
    submit_before: Annotated[str | None, Query(description="此前提交的")] = None,
    start_after: Annotated[str | None, Query(description="此后开始的（含）")] = None,
    start_before: Annotated[str | None, Query(description="此前开始的")] = None,
    end_after: Annotated[str | None, Query(description="此后结束的（含）")] = None,
    end_before: Annotated[str | None, Query(description="此前结束的")] = None,
    arrays: Annotated[
        Literal["tasks", "folded"], Query(description="folded：一个数组只列一行，各任务的状态用 GET /jobs/arrays 问")
    ] = "tasks",
) -> JobFilter:
    """列表的条件。"""
    return JobFilter(
        state, user, account, partition, name, qos, node, job_id,
        submit_after, submit_before, start_after, start_before, end_after, end_before, arrays,
    )  # fmt: skip


async def page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="一页几个")] = 100,
    sort: Annotated[str, Query(description="排序的字段，前面加 - 是从大到小")] = "-job_id",
    cursor: Annotated[str | None, Query(description="上一页的 next_cursor")] = None,
    fields: Annotated[str | None, Query(description="只要这些字段，逗号分隔")] = None,
    layout: Annotated[
        Literal["objects", "rows"],
        Query(description="rows：每个作业是一个数组，字段的次序在回答的 fields 里；一次取很多时省一大半"),
    ] = "objects",
) -> Page:
    """要哪一页。"""
    return Page(limit, sort, cursor, fields, layout == "rows")


@router.get("", summary="列出作业", responses={200: {"model": JOB_PAGE}})
async def list_(
    parts: PartsDep,
    _identity: IdentityDep,
    filters: Annotated[JobFilter, Depends(job_filter)],
    wanted: Annotated[Page, Depends(page)],
) -> Response:
    """谁的作业都列，但没有脚本、环境与参数。逐页取：把 next_cursor 作为下一次的 cursor。"""
    return Response(await list_jobs(parts.engine, filters, wanted), media_type="application/json")


@router.get("/arrays", summary="数组里各状态的任务数")
async def arrays(
    parts: PartsDep,
    _identity: IdentityDep,
    job_id: Annotated[
        str,
        Query(description="数组的作业号，逗号分隔", json_schema_extra={"pattern": "^[0-9]{1,18}(,[0-9]{1,18})*$"}),
    ],
) -> ArraysAnswer:
    """done 是结束了的，total 是全部；不是数组的不在其中。"""
    return {"arrays": await array_progress(parts.engine, job_id)}


@router.get("/{job_id}", summary="一个作业的一切", responses={200: {"model": JOB}})
async def show(job_id: str, parts: PartsDep, identity: IdentityDep) -> Response:
    """含各次尝试的分配；脚本、环境、参数只给本人与管理员。"""
    return Response(await job_detail(parts.engine, identity, job_id), media_type="application/json")


@router.patch("/{job_id}", summary="修改作业")
async def update(job_id: str, body: JobRequest, parts: PartsDep, identity: IdentityDep) -> Acted:
    """排队的可改要求，运行中的可改时限（本人只能调低）与备注；下一个周期生效。"""
    return Acted(**await update_job(parts.engine, parts.rules, identity, job_id, body.changes(), parts.policy))


@router.get("/{job_id}/events", summary="作业的历史")
async def events(job_id: str, parts: PartsDep, _identity: IdentityDep) -> EventsAnswer:
    """每次状态变化一条：何时、从什么到什么、为什么、谁做的。"""
    return {"events": await job_events(parts.engine, job_id)}


@router.get("/{job_id}/dependencies", summary="依赖图")
async def dependencies(job_id: str, parts: PartsDep, _identity: IdentityDep) -> DependencyGraphAnswer:
    """它等谁、谁等它（还没有结束的），一层层走出去；至多 8 层、100 个作业。"""
    return await dependency_graph(parts.engine, job_id)


@router.get("/{job_id}/samples", summary="用量随时间怎样变化")
async def samples(
    job_id: str,
    parts: PartsDep,
    identity: IdentityDep,
    attempt: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="第几次尝试，从 0 起；缺省是最近一次")] = None,
    live: Annotated[bool, Query(description="运行中的先请节点此刻采样一次")] = False,
) -> SamplesAnswer:
    """CPU、内存、GPU 一格一格的：格数有上限，跑得越久格子越宽；很短的作业没有。只给本人与管理员。"""
    return await job_samples(parts.engine, parts.desk, identity, job_id, attempt=attempt, live=live)


@router.get("/{job_id}/script", summary="作业的脚本", responses={200: {"content": {"text/plain": {}}}})
async def script(job_id: str, parts: PartsDep, identity: IdentityDep) -> Response:
    """原样的脚本；只给本人与管理员。"""
    return Response(await job_script(parts.engine, identity, job_id), media_type="text/plain; charset=utf-8")


@router.get("/{job_id}/why", summary="为什么还没有开始")
async def why(job_id: str, parts: PartsDep, identity: IdentityDep) -> WhyAnswer:
    """由调度器按当前的计划回答：缺什么、谁在前面、预计何时、怎样能更早。"""

    def read(changes: Mapping[str, Any]) -> dict[str, Any]:
        return JobRequest.model_validate(changes).changes()

    return await job_why(parts.engine, parts.desk, parts.rules, identity, job_id, read)


@router.post("/{job_id}/hold", summary="保留")
async def hold(job_id: str, parts: PartsDep, identity: IdentityDep) -> Acted:
    """排队但不启动，直到 release。"""
    return Acted(**await control_job(parts.engine, identity, Request("hold"), job_id))


@router.post("/{job_id}/release", summary="放行")
async def release(job_id: str, parts: PartsDep, identity: IdentityDep) -> Acted:
    """放行被保留的作业。"""
    return Acted(**await control_job(parts.engine, identity, Request("release"), job_id))


@router.post("/{job_id}/requeue", summary="重新排队")
async def requeue(
    job_id: str,
    parts: PartsDep,
    identity: IdentityDep,
    hold: Annotated[bool, Query(description="重新排队后保留")] = False,
) -> Acted:
    """运行中的先结束；作业号不变。"""
    return Acted(**await control_job(parts.engine, identity, Request("requeue", hold=hold), job_id))


@router.post("/{job_id}/cancel", summary="取消（同 POST /jobs/cancel/{job_id}）")
async def cancel(job_id: str, parts: PartsDep, identity: IdentityDep) -> Acted:
    """幂等。"""
    found = await cancel_job(parts.engine, identity, job_id)
    return Acted(job_id=found.job_id, state=found.state)


@router.post("/{job_id}/suspend", summary="挂起")
async def suspend(job_id: str, parts: PartsDep, identity: IdentityDep) -> Acted:
    """冻结全部进程；分配仍占着。"""
    return Acted(**await control_job(parts.engine, identity, Request("suspend"), job_id))


@router.post("/{job_id}/resume", summary="恢复")
async def resume(job_id: str, parts: PartsDep, identity: IdentityDep) -> Acted:
    """恢复挂起的作业。"""
    return Acted(**await control_job(parts.engine, identity, Request("resume"), job_id))


@router.post("/{job_id}/signal", summary="发信号")
async def signal(job_id: str, body: SignalRequest, parts: PartsDep, identity: IdentityDep) -> Acted:
    """给运行中的作业发信号；不改变状态。"""
    target = body.target or ("batch" if body.batch_only else "all")
    return Acted(**await signal_job(parts.engine, identity, job_id, body.signal, target))
