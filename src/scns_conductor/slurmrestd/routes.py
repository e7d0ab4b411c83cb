"""slurmrestd 的接口（/slurm/v0.0.38 与 v0.0.39）：对本系统同名端点的薄翻译。

回答是 Slurm 的样子：meta、errors 与一个数组；错误也在 errors 里，状态码照 slurmrestd（多半是 500）。
令牌放在 X-SLURM-USER-TOKEN（与 X-SLURM-USER-NAME）里，也可以是 Authorization。
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response, StreamingResponse

from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep, SubmitterDep
from scns_conductor.api.job_request import JobRequest, SubmitRequest
from scns_conductor.api.middleware import LATENCY
from scns_conductor.core.errors import ConductorError, NotFound
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.services.cancellation import cancel_job
from scns_conductor.services.diagnostics import diagnostics
from scns_conductor.services.job_control import signal_job
from scns_conductor.services.job_list import MAX_LIMIT, JobFilter, Page, list_jobs
from scns_conductor.services.job_update import update_job
from scns_conductor.services.licenses import license_usage
from scns_conductor.services.nodes import list_nodes
from scns_conductor.services.partitions import list_partitions
from scns_conductor.services.reservations import list_reservations
from scns_conductor.slurm.error_words import NUMBERS, SLURM_ERROR, slurm_words
from scns_conductor.slurm.nodes import cluster_json
from scns_conductor.slurm.nodes.node_values import partition_nodes
from scns_conductor.slurm.queue import job_json
from scns_conductor.slurm.table.json_answer import meta
from scns_conductor.slurmrestd.job_description import job_fields

VERSIONS = ("v0.0.38", "v0.0.39")
_LIVE = ",".join(sorted({JobState.PENDING, *ACTIVE_STATES}))
# 一页作业的换算约十几毫秒：放到线程里，不占事件循环。
_PAGE = 1000

Record = Mapping[str, Any]


def known_version(version: str) -> str:
    """地址里的版本；没有的是 404。"""
    if version not in VERSIONS:
        raise NotFound(f"没有 /slurm/{version[:32]}；有 {' 与 '.join(VERSIONS)}", code="path_not_found")
    return version


Version = Annotated[str, Depends(known_version)]


def _newer(version: str) -> bool:
    return version != "v0.0.38"


def _head(version: str, errors: Iterable[Record] = ()) -> dict[str, Any]:
    return {"meta": meta(version), "errors": list(errors)}


def _answer(version: str, status: int = 200, **parts: Any) -> Response:
    return JSONResponse(json.loads(json.dumps(_head(version) | parts, default=str)), status)


def _failure(version: str, error: ConductorError, source: str, **parts: Any) -> Response:
    field = error.errors[0].field if error.errors else ""
    words = slurm_words(error.code, field) or error.detail
    found = {
        "description": error.detail,
        "error_number": NUMBERS.get(words, SLURM_ERROR),
        "error": words,
        "source": source,
    }
    status = error.status if error.status in (401, 503, 504) else 500
    return JSONResponse(_head(version, [found]) | parts, status, headers=dict(error.headers))


# 不进 OpenAPI：它的形状与状态码（错误多是 500）照 slurmrestd，不合本系统的约定。
router = APIRouter(prefix="/slurm/{version}", tags=["slurmrestd"], include_in_schema=False)


@router.get("/ping", summary="控制器在不在")
async def ping(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """领导者在续租就是 UP。"""
    alive = (await parts.dashboard.leader())["alive"]
    found = {"hostname": os.uname().nodename, "ping": "UP" if alive else "DOWN", "status": 0 if alive else 1}
    pings = [found | {"mode": "primary"}]
    return _answer(version, pings=pings)


@router.get("/diag", summary="调度的统计（sdiag）")
async def diag(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """时长的单位是微秒。"""
    try:
        found = await diagnostics(parts.engine, parts.desk, LATENCY)
    except ConductorError as error:
        return _failure(version, error, "slurm_get_statistics")
    return _answer(version, statistics=found)


def _job_shape(version: str) -> Callable[[Record], dict[str, Any]]:
    return job_json.job_record_39 if _newer(version) else job_json.job_record


async def _job_pages(parts: Parts, filters: JobFilter) -> AsyncIterator[list[dict[str, Any]]]:
    cursor: str | None = None
    while True:
        body = await list_jobs(parts.engine, filters, Page(min(_PAGE, MAX_LIMIT), "job_id", cursor))
        page = await asyncio.to_thread(json.loads, body)
        yield page["jobs"]
        cursor = page["next_cursor"]
        if not cursor:
            return


@router.get("/jobs", summary="排队、运行与刚结束的作业")
async def jobs(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """结束的还可见 SCNS_MIN_JOB_AGE_S 秒。逐页地送，十万个作业也不必先拼好。"""
    shape = _job_shape(version)
    recent = JobFilter(end_after=f"now-{parts.settings.min_job_age_s}seconds")

    def rendered(page: list[dict[str, Any]]) -> str:
        return ",".join(json.dumps(shape(job), ensure_ascii=False) for job in page)

    async def body() -> AsyncIterator[str]:
        yield json.dumps(_head(version))[:-1] + ',"jobs":['
        mark = ""
        for filters in (JobFilter(state=_LIVE), recent):
            async for page in _job_pages(parts, filters):
                if page:
                    yield mark + await asyncio.to_thread(rendered, page)
                    mark = ","
        yield "]}"

    return StreamingResponse(body(), media_type="application/json")


@router.get("/job/{job_id}", summary="一个作业（数组则是全部任务）")
async def job(version: Version, job_id: str, parts: PartsDep, _identity: IdentityDep) -> Response:
    """没有的作业是 500 与 Invalid job id specified，照 slurmrestd。"""
    shape = _job_shape(version)
    try:
        found = [each async for page in _job_pages(parts, JobFilter(job_id=job_id)) for each in page]
        if not found:
            raise NotFound(f"Unable to find JobId={job_id}", code="job_not_found")
    except ConductorError as error:
        return _failure(version, error, "slurm_load_job", jobs=[])
    return _answer(version, jobs=[shape(each) for each in found])


@router.post("/job/submit", summary="提交")
async def submit(version: Version, parts: PartsDep, submitter: SubmitterDep, body: Annotated[Any, Body()]) -> Response:
    """{"job": job_desc_msg, "script": 文字}；v0.0.39 的数可以是 {"set", "infinite", "number"}。"""
    given = body if isinstance(body, dict) else {}
    try:
        fields = job_fields(given.get("job") or {})
        parsed = SubmitRequest.model_validate({"job": fields, "script": given.get("script", "")})
        job_id = await parts.submit_desk.submit(parsed, submitter)
    except ValidationError as error:
        return _invalid(version, error)
    except ConductorError as error:
        return _failure(version, error, "slurm_submit_batch_job")
    return _answer(version, job_id=job_id, step_id="BATCH", job_submit_user_msg="")


def _invalid(version: str, error: ValidationError) -> Response:
    """字段写错了：照 slurmrestd 是 400，逐个点名。"""
    found: list[dict[str, Any]] = [
        {"error_code": 9001, "error": f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"}
        for item in error.errors()[:20]
    ]
    return JSONResponse(_head(version, [*found, {"error_code": 9001, "error": "Failure during parsing"}]), 400)


@router.post("/job/{job_id}", summary="修改")
async def update(
    version: Version, job_id: str, parts: PartsDep, identity: IdentityDep, body: Annotated[Any, Body()]
) -> Response:
    """请求体是 job_desc_msg。"""
    try:
        fields = job_fields(body if isinstance(body, dict) else {})
        changes = JobRequest.model_validate(fields).changes()
        await update_job(parts.engine, parts.rules, identity, job_id, changes)
    except ValidationError as error:
        return _invalid(version, error)
    except ConductorError as error:
        return _failure(version, error, "slurm_update_job2")
    return _answer(version)


@router.delete("/job/{job_id}", summary="取消，或发信号")
async def cancel(
    version: Version,
    job_id: str,
    parts: PartsDep,
    identity: IdentityDep,
    signal: Annotated[str | None, Query(description="信号；缺省是取消", max_length=32)] = None,
) -> Response:
    """缺省同 scancel。"""
    try:
        if signal is None or signal.upper().removeprefix("SIG") in ("KILL", "9"):
            await cancel_job(parts.engine, identity, job_id)
        else:
            await signal_job(parts.engine, identity, job_id, signal, "steps")
    except ConductorError as error:
        return _failure(version, error, "slurm_kill_job")
    return _answer(version)


async def _cluster(parts: Parts) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return await list_nodes(parts.engine), await list_partitions(parts.engine)


async def _nodes_answer(version: str, parts: Parts, name: str | None) -> Response:
    shape = cluster_json.node_record_39 if _newer(version) else cluster_json.node_record
    everything, partitions = await _cluster(parts)
    nodes = [node for node in everything if name in (None, node["name"])]
    if name is not None and not nodes:
        missing = NotFound(f"Failure to find node {name}", code="node_not_found")
        return _failure(version, missing, "_dump_nodes", nodes=[])
    inside = {
        node["name"]: [each["name"] for each in partitions if node in partition_nodes(each, everything)]
        for node in nodes
    }
    return _answer(version, nodes=[shape(node, inside[node["name"]]) for node in nodes])


@router.get("/nodes", summary="全部节点")
async def nodes(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """内存是 MiB。"""
    return await _nodes_answer(version, parts, None)


@router.get("/node/{name}", summary="一个节点")
async def node(version: Version, name: str, parts: PartsDep, _identity: IdentityDep) -> Response:
    """内存是 MiB。"""
    return await _nodes_answer(version, parts, name)


async def _partitions_answer(version: str, parts: Parts, name: str | None) -> Response:
    shape = cluster_json.partition_record_39 if _newer(version) else cluster_json.partition_record
    everything, partitions = await _cluster(parts)
    chosen = [each for each in partitions if name in (None, each["name"])]
    if name is not None and not chosen:
        missing = NotFound(f"Unable to find partition {name}", code="partition_not_found")
        return _failure(version, missing, "_dump_partitions", partitions=[])
    return _answer(version, partitions=[shape(each, partition_nodes(each, everything)) for each in chosen])


@router.get("/partitions", summary="全部分区")
async def partitions(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """时限是分钟。"""
    return await _partitions_answer(version, parts, None)


@router.get("/partition/{name}", summary="一个分区")
async def partition(version: Version, name: str, parts: PartsDep, _identity: IdentityDep) -> Response:
    """时限是分钟。"""
    return await _partitions_answer(version, parts, name)


@router.get("/reservations", summary="预留")
async def reservations(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """还没有结束的。"""
    found = [each for each in await list_reservations(parts.engine) if each["state"] != "ENDED"]
    return _answer(version, reservations=[cluster_json.reservation_record(each) for each in found])


@router.get("/licenses", summary="许可证")
async def licenses(version: Version, parts: PartsDep, _identity: IdentityDep) -> Response:
    """全集群的许可证与已用的数目。"""
    found = await license_usage(parts.engine, parts.settings.licenses)
    return _answer(version, licenses=[cluster_json.license_record(each) for each in found])
