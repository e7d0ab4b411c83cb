"""提交、查询、取消：三个固定的端点，以及批量提交与试排。"""

import hashlib
from typing import Annotated, Any

from fastapi import Header, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from scns_conductor.api.answers.jobs import PlanAnswer
from scns_conductor.api.batch_body import BatchBody
from scns_conductor.api.body_budget import BodyRefused, most_body_bytes
from scns_conductor.api.dependencies import IdentityDep, PartsDep, SubmitterDep
from scns_conductor.api.field_forms import SIGNAL_PATTERN
from scns_conductor.api.job_request import BatchRequest, HetJobRequest, SubmitRequest
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services.cancellation import cancel_job
from scns_conductor.services.job_control import signal_job
from scns_conductor.services.job_queries import query_job

router = SegmentRouter(prefix="/jobs", tags=["提交"])

IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="幂等键：同一个键只产生一次作业，断线重送请用同一个")
]


# 请求体由 BatchBody 一块块地读，FastAPI 不认得它：说明另给。
_BATCH_SCHEMA = BatchRequest.model_json_schema(ref_template="#/components/schemas/{model}")
_BATCH_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {k: v for k, v in _BATCH_SCHEMA.items() if k != "$defs"}}},
}


class Submitted(BaseModel):
    """提交的回答。"""

    job_id: str = Field(description="作业号", examples=["1"])
    warnings: list[str] = Field(default_factory=list, description="值得当场说的，如照现在的计划赶不上期限；没有时不写")


class BatchSubmitted(BaseModel):
    """批量提交的回答。"""

    job_ids: list[str] = Field(description="作业号，次序与提交的相同", examples=[["1", "2"]])


class JobTimes(BaseModel):
    """各个时刻（ISO 8601，UTC）与时长。"""

    submit_time: str | None
    eligible_time: str | None
    start_time: str | None
    end_time: str | None
    elapsed_time: str = Field(description="运行了多久，D-HH:MM:SS")
    limit_time: str = Field(description="时限，D-HH:MM:SS 或 UNLIMITED")


class JobLog(BaseModel):
    """结束时收集的输出尾部；没有结束、或不是自己的作业时是 null。"""

    stdout: str | None
    stderr: str | None


class JobSummary(BaseModel):
    """其余的概要。"""

    job_name: str
    user: str
    partition: str
    allocated_cpus: int
    allocated_nodes: int
    node_list: str | None
    exit_code: str | None = Field(description="退出码:信号", examples=["0:0"])
    work_dir: str
    data_source: str
    account: str | None


class JobAnswer(BaseModel):
    """查询的回答。"""

    job_id: str
    state: str
    error_msg: str | None
    time: JobTimes
    job_log: JobLog
    detail: JobSummary


class CancelAnswer(BaseModel):
    """取消的回答：state 是此刻的状态。"""

    job_id: str
    state: str
    message: str


@router.post("/submit", summary="提交一份脚本", response_model_exclude_defaults=True)
async def submit(
    body: SubmitRequest, request: Request, parts: PartsDep, submitter: SubmitterDep, key: IdempotencyKey = None
) -> Submitted:
    """返回作业号时，作业已经落盘，不会丢。"""
    digest = "" if key is None else hashlib.sha256(await request.body()).hexdigest()
    job_id = await parts.submit_desk.submit(body, submitter, key, digest)
    warnings = await parts.submit_desk.warnings(body, submitter.identity, job_id)
    return Submitted(job_id=str(job_id), warnings=warnings)


@router.post("/submit/batch", summary="批量提交，全部成功或全部不提交", openapi_extra={"requestBody": _BATCH_BODY})
async def submit_many(
    request: Request, parts: PartsDep, submitter: SubmitterDep, key: IdempotencyKey = None
) -> BatchSubmitted:
    """一次至多 SCNS_BATCH_MAX_JOBS 个（缺省 10,000）；有一个不合法就一个也不提交，错误里写明是第几个。"""
    settings = parts.settings
    body = BatchBody(settings.batch_max_jobs, most_body_bytes(settings))
    digest = hashlib.sha256()
    try:
        async for chunk in request.stream():
            body.feed(chunk)
            digest.update(chunk)
    except (ClientDisconnect, BodyRefused) as error:
        # 不收的理由由收的一方说。
        raise HTTPException(400) from error
    job_ids = await parts.submit_desk.submit_many(body.finish(), submitter, key, digest.hexdigest())
    return BatchSubmitted(job_ids=[str(job_id) for job_id in job_ids])


@router.post("/submit/het", summary="提交一个异构作业：各个部分一起启动或都不启动")
async def submit_heterogeneous(
    body: HetJobRequest, request: Request, parts: PartsDep, submitter: SubmitterDep, key: IdempotencyKey = None
) -> BatchSubmitted:
    """返回各个部分的作业号；第 0 个就是异构作业的号，取消、保留它就是整个。一个部分写成 号+第几个，如 12+1。"""
    job_ids = await parts.submit_desk.submit_together(
        body.jobs, body.script, submitter, key, hashlib.sha256(await request.body()).hexdigest()
    )
    return BatchSubmitted(job_ids=[str(job_id) for job_id in job_ids])


@router.get("/query/{job_id}", summary="查询一个作业", response_model=JobAnswer)
async def query(job_id: str, parts: PartsDep, identity: IdentityDep) -> dict[str, Any]:
    """状态、时间、输出、分配；作业号可以写成 12_3（数组任务）。"""
    return await query_job(parts.engine, identity, job_id)


@router.post("/cancel/{job_id}", summary="取消一个作业")
async def cancel(
    job_id: str,
    parts: PartsDep,
    identity: IdentityDep,
    signal: Annotated[
        str | None, Query(description="只发这个信号而不取消，如 USR1", json_schema_extra={"pattern": SIGNAL_PATTERN})
    ] = None,
) -> CancelAnswer:
    """幂等：已经结束的作业不变。数组可以写成 12_3、12_[1-5]，只取消这些任务。"""
    if signal is not None:
        outcome = await signal_job(parts.engine, identity, job_id, signal)
        return CancelAnswer(job_id=job_id, state=outcome["state"], message=f"已发信号 {signal}")
    found = await cancel_job(parts.engine, identity, job_id)
    return CancelAnswer(job_id=found.job_id, state=found.state, message=found.message)


@router.post("/plan", summary="试排：假如现在提交，何时、在哪里开始；什么也不留下")
async def plan(body: SubmitRequest, parts: PartsDep, submitter: SubmitterDep) -> PlanAnswer:
    """sbatch --test-only。调度器真的按这份要求排一次。"""
    return await parts.submit_desk.plan(body, submitter)
