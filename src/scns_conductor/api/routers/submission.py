"""提交、查询、取消：三个固定的端点，以及批量提交与试排。"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field

from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep, SubmitterDep
from scns_conductor.api.job_request import BatchRequest, SubmitRequest
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.services.cancellation import cancel_job
from scns_conductor.services.job_admission import SUBMIT_LIMITS, Admission
from scns_conductor.services.job_control import signal_job
from scns_conductor.services.job_queries import query_job
from scns_conductor.services.new_job import Submitter, new_job
from scns_conductor.services.submission import IdempotencyClaim, require_dependencies, submit_batch

router = APIRouter(prefix="/jobs", tags=["提交"])
MAX_KEY_LENGTH = 255

_UNPLANNED = ("script", "environment", "argv", SUBMIT_LIMITS)

IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="幂等键：同一个键只产生一次作业，断线重送请用同一个")
]


class Submitted(BaseModel):
    """提交的回答。"""

    job_id: str = Field(description="作业号", examples=["1"])


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


def _claim(user_name: str, key: str | None, body: bytes) -> IdempotencyClaim | None:
    if key is None:
        return None
    if not key.strip() or len(key) > MAX_KEY_LENGTH:
        raise InvalidRequest("Idempotency-Key", f"应是 1 到 {MAX_KEY_LENGTH} 个字符", code="idempotency_key_invalid")
    return IdempotencyClaim(user_name, key, hashlib.sha256(body).hexdigest())


def _partitions(*requests: SubmitRequest) -> frozenset[str]:
    found = {request.job.partition for request in requests if request.job.partition}
    return frozenset(name.strip() for text in found for name in text.split(","))


def _reservations(*requests: SubmitRequest) -> frozenset[str]:
    return frozenset(request.job.reservation for request in requests if request.job.reservation)


async def _admit(rows: Mapping[str, tuple[dict[str, Any], SubmitRequest]], parts: Parts) -> None:
    """补上缺省的账户与 QOS，核对记账；rows 是字段的前缀 -> (要写的行, 请求)。"""
    admission = Admission(await parts.accounting.get(), parts.settings)
    for prefix, (row, body) in rows.items():
        admission.admit(row, body.job.model_fields_set, f"{prefix}job.")


async def _rows(
    bodies: Sequence[SubmitRequest], prefixes: Sequence[str], parts: Parts, submitter: Submitter
) -> list[dict[str, Any]]:
    """各个请求要写的行；不合法抛 InvalidRequest 等，字段名前加各自的前缀。

    按缓存的集群情况要拒绝的，重读一次再判：节点也许刚刚登记。
    """
    partitions, reservations = _partitions(*bodies), _reservations(*bodies)
    fresh = False
    while True:
        limits = await parts.limits.get(partitions, reservations, fresh=fresh)
        try:
            return [
                new_job(body.job.columns(), body.script, submitter, limits, parts.settings, prefix)
                for body, prefix in zip(bodies, prefixes, strict=True)
            ]
        except InvalidRequest:
            if fresh:
                raise
            fresh = True


@router.post("/submit", summary="提交一份脚本")
async def submit(
    body: SubmitRequest, request: Request, parts: PartsDep, submitter: SubmitterDep, key: IdempotencyKey = None
) -> Submitted:
    """返回作业号时，作业已经落盘，不会丢。"""
    return Submitted(job_id=await submit_one(body, await request.body(), parts, submitter, key))


async def submit_one(body: SubmitRequest, raw: bytes, parts: Parts, submitter: Submitter, key: str | None) -> str:
    """提交一个，返回作业号；raw 是请求体的原文，key 是幂等键。平常的提交走 QuickSubmit，也是到这里。"""
    [row] = await _rows([body], [""], parts, submitter)
    await _admit({"": (row, body)}, parts)
    await require_dependencies(parts.engine, {"job.": row})
    claim = _claim(submitter.identity.user_name, key, raw)
    return str(await parts.queue.submit(row, claim))


@router.post("/submit/batch", summary="批量提交，全部成功或全部不提交")
async def submit_many(
    body: BatchRequest, request: Request, parts: PartsDep, submitter: SubmitterDep, key: IdempotencyKey = None
) -> BatchSubmitted:
    """一次至多 SCNS_BATCH_MAX_JOBS 个（缺省 10,000）；有一个不合法就一个也不提交，错误里写明是第几个。"""
    most = parts.settings.batch_max_jobs
    if len(body.jobs) > most:
        raise InvalidRequest("jobs", f"一次至多 {most} 个，给了 {len(body.jobs)} 个；请分几次", code="batch_too_large")
    prefixes = [f"jobs[{index}]." for index in range(len(body.jobs))]
    rows = await _rows(body.jobs, prefixes, parts, submitter)
    await _admit(dict(zip(prefixes, zip(rows, body.jobs, strict=True), strict=True)), parts)
    await require_dependencies(parts.engine, {f"jobs[{index}].job.": row for index, row in enumerate(rows)})
    claim = _claim(submitter.identity.user_name, key, await request.body())
    return BatchSubmitted(job_ids=[str(job_id) for job_id in await submit_batch(parts.engine, rows, claim)])


@router.get("/query/{job_id}", summary="查询一个作业", response_model=JobAnswer)
async def query(job_id: str, parts: PartsDep, identity: IdentityDep) -> dict[str, Any]:
    """状态、时间、输出、分配；作业号可以写成 12_3（数组任务）。"""
    return await query_job(parts.engine, identity, job_id)


@router.post("/cancel/{job_id}", summary="取消一个作业")
async def cancel(
    job_id: str,
    parts: PartsDep,
    identity: IdentityDep,
    signal: Annotated[str | None, Query(description="只发这个信号而不取消，如 USR1")] = None,
) -> CancelAnswer:
    """幂等：已经结束的作业不变。数组可以写成 12_3、12_[1-5]，只取消这些任务。"""
    if signal is not None:
        outcome = await signal_job(parts.engine, identity, job_id, signal)
        return CancelAnswer(job_id=job_id, state=outcome["state"], message=f"已发信号 {signal}")
    found = await cancel_job(parts.engine, identity, job_id)
    return CancelAnswer(job_id=found.job_id, state=found.state, message=found.message)


@router.post("/plan", summary="试排：假如现在提交，何时、在哪里开始；什么也不留下")
async def plan(body: SubmitRequest, parts: PartsDep, submitter: SubmitterDep) -> dict[str, Any]:
    """sbatch --test-only。调度器真的按这份要求排一次。"""
    [row] = await _rows([body.model_copy(update={"script": body.script or "#!/bin/sh\n"})], [""], parts, submitter)
    await _admit({"": (row, body)}, parts)
    return await parts.desk.ask("plan", payload={"job": plan_columns(row)})


def plan_columns(row: dict[str, Any]) -> dict[str, Any]:
    """能写进 JSON 的要求；时刻换成 Unix 秒，脚本与环境用不着。"""
    kept = {name: value for name, value in row.items() if name not in _UNPLANNED}
    kept["array_remaining"] = None
    return {name: value.timestamp() if hasattr(value, "timestamp") else value for name, value in kept.items()}
