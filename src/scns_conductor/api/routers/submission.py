"""提交、查询、取消：三个固定的端点，以及批量提交与试排。"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field

from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep, SubmitterDep
from scns_conductor.api.job_request import SIGNAL_PATTERN, BatchRequest, SubmitRequest
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.settings import Settings
from scns_conductor.services.cancellation import cancel_job
from scns_conductor.services.cluster_limits import ClusterLimits
from scns_conductor.services.job_admission import SUBMIT_LIMITS, Admission
from scns_conductor.services.job_control import signal_job
from scns_conductor.services.job_queries import query_job
from scns_conductor.services.new_job import Submitter, new_job
from scns_conductor.services.submission import IdempotencyClaim, require_dependencies, submit_batch

router = APIRouter(prefix="/jobs", tags=["提交"])
MAX_KEY_LENGTH = 255
# 一批分成这么大的段，边备边写；大得一段的固定花费可以不计，小得第一段很快就备好。
BATCH_PART = 500

_Made = TypeVar("_Made")
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


@dataclass(frozen=True, slots=True)
class _Maker:
    """按此刻的集群与记账，把请求变成要写的行。"""

    submitter: Submitter
    limits: ClusterLimits
    admission: Admission
    settings: Settings

    def row(self, body: SubmitRequest, prefix: str = "") -> dict[str, Any]:
        """不合法抛 InvalidRequest 等，字段名前加 prefix。"""
        row = new_job(body.job.columns(), body.script, self.submitter, self.limits, self.settings, prefix)
        self.admission.admit(row, body.job.model_fields_set, f"{prefix}job.")
        return row

    def parts(self, bodies: Sequence[SubmitRequest]) -> Iterator[dict[str, dict[str, Any]]]:
        """一段一段的 字段的前缀 -> 要写的行。要数提交数的不分段：上限的锁要按次序一次取齐，免得两批互相等。"""
        size = len(bodies) if self.settings.accounting_storage_enforce else BATCH_PART
        for first in range(0, len(bodies), size):
            part = enumerate(bodies[first : first + size], first)
            yield {f"jobs[{index}].job.": self.row(body, f"jobs[{index}].") for index, body in part}


async def _maker(bodies: Sequence[SubmitRequest], parts: Parts, submitter: Submitter, *, fresh: bool) -> _Maker:
    admission = Admission(await parts.accounting.get(), parts.settings)
    limits = await parts.limits.get(_partitions(*bodies), _reservations(*bodies), fresh=fresh)
    return _Maker(submitter, limits, admission, parts.settings)


async def _twice(attempt: Callable[[bool], Awaitable[_Made]]) -> _Made:
    """按缓存的集群情况（False）要拒绝的，重读一次（True）再判：节点也许刚刚登记。"""
    try:
        return await attempt(False)
    except InvalidRequest:
        return await attempt(True)


async def _row(body: SubmitRequest, parts: Parts, submitter: Submitter) -> dict[str, Any]:
    async def attempt(fresh: bool) -> dict[str, Any]:
        return (await _maker([body], parts, submitter, fresh=fresh)).row(body)

    return await _twice(attempt)


@router.post("/submit", summary="提交一份脚本")
async def submit(
    body: SubmitRequest, request: Request, parts: PartsDep, submitter: SubmitterDep, key: IdempotencyKey = None
) -> Submitted:
    """返回作业号时，作业已经落盘，不会丢。"""
    return Submitted(job_id=await submit_one(body, await request.body(), parts, submitter, key))


async def submit_one(body: SubmitRequest, raw: bytes, parts: Parts, submitter: Submitter, key: str | None) -> str:
    """提交一个，返回作业号；raw 是请求体的原文，key 是幂等键。平常的提交走 QuickSubmit，也是到这里。"""
    row = await _row(body, parts, submitter)
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
    claim = _claim(submitter.identity.user_name, key, await request.body())

    async def attempt(fresh: bool) -> list[int]:
        maker = await _maker(body.jobs, parts, submitter, fresh=fresh)
        return await submit_batch(parts.engine, maker.parts(body.jobs), claim)

    return BatchSubmitted(job_ids=[str(job_id) for job_id in await _twice(attempt)])


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
async def plan(body: SubmitRequest, parts: PartsDep, submitter: SubmitterDep) -> dict[str, Any]:
    """sbatch --test-only。调度器真的按这份要求排一次。"""
    row = await _row(body.model_copy(update={"script": body.script or "#!/bin/sh\n"}), parts, submitter)
    return await parts.desk.ask_scheduler("plan", submitter.identity.user_name, {"job": plan_columns(row)})


def plan_columns(row: dict[str, Any]) -> dict[str, Any]:
    """能写进 JSON 的要求；时刻换成 Unix 秒，脚本与环境用不着。"""
    kept = {name: value for name, value in row.items() if name not in _UNPLANNED}
    kept["array_remaining"] = None
    return {name: value.timestamp() if hasattr(value, "timestamp") else value for name, value in kept.items()}
