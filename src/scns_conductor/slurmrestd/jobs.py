"""作业：列出、提交、分配、修改、取消。"""

import asyncio
import re
import time
from typing import Any

from starlette.responses import Response

from scns_conductor.api.job_request import JobRequest, SubmitRequest
from scns_conductor.core.errors import ConductorError, InvalidRequest, NotFound
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.services.job_control import Request, control_job, control_jobs
from scns_conductor.services.job_list import JobFilter
from scns_conductor.services.job_update import update_job
from scns_conductor.slurm.error_words import NUMBERS, SLURM_ERROR, slurm_words
from scns_conductor.slurm.shapes.jobs import job_record
from scns_conductor.slurm.shapes.schema import number
from scns_conductor.slurmrestd.job_description import job_fields, require_own_user, unused_hints
from scns_conductor.slurmrestd.job_pages import Jobs, first_page, job_pages, streamed
from scns_conductor.slurmrestd.operations import Call, Values, operation

_LIVE = ",".join(sorted({JobState.PENDING, *ACTIVE_STATES}))
_STATE_FIELDS = ("job_id", "array_job_id", "array_task_id", "array_task_string", "het_job_id", "job_state")
_JOB_LIST = "openapi_job_info_resp"
_KILL = ("KILL", "9")
# scancel 的信号给谁（kill 的 flags）。
_TARGETS = {"BATCH_JOB": "batch", "FULL_STEPS_ONLY": "steps", "FULL_JOB": "all"}
_NUMBER = re.compile(r"^\d+")


def _moments() -> dict[str, Any]:
    now = int(time.time())
    return {"last_backfill": now, "last_update": now}


async def _recent(call: Call) -> list[JobFilter]:
    """没有结束的，与刚结束的（SCNS_MIN_JOB_AGE_S 秒之内）。"""
    age = (await call.parts.live.get()).min_job_age_s
    return [JobFilter(state=_LIVE), JobFilter(end_after=f"now-{age}seconds")]


def _records(version: str, page: Jobs) -> Jobs:
    return [job_record(version, job) for job in page]


def _states(version: str, page: Jobs) -> Jobs:
    return [{key: record[key] for key in _STATE_FIELDS} for record in _records(version, page)]


@operation("GET", "slurm", "jobs", _JOB_LIST, query="update_time:string flags:string", since=38)
async def jobs(call: Call) -> Response:
    """排队、运行与刚结束的作业"""

    async def shape(page: Jobs) -> Jobs:
        return await asyncio.to_thread(_records, call.version, page)

    return streamed(call, _JOB_LIST, await _recent(call), shape, {} if call.old else _moments())


@operation("GET", "slurm", "jobs/state", _JOB_LIST, query="job_id:string", source="_handle_job_get", empty="jobs")
async def states(call: Call) -> Response:
    """作业的状态"""

    async def shape(page: Jobs) -> Jobs:
        return await asyncio.to_thread(_states, call.version, page)

    wanted = call.query("job_id")
    filters = [JobFilter(job_id=wanted)] if wanted else await _recent(call)
    await first_page(call, filters)
    return streamed(call, _JOB_LIST, filters, shape, _moments())


@operation("GET", "slurm", "job/{job_id}", _JOB_LIST, query="update_time:string flags:string", since=38,
           source="_handle_job_get", empty="jobs")  # fmt: skip
async def job(call: Call) -> Values:
    """一个作业；数组则是全部任务"""
    found = [each async for page in job_pages(call, JobFilter(job_id=call.argument)) for each in page]
    if not found:
        raise NotFound(f"Unable to query JobId={call.argument}", code="job_not_found")
    others = {} if call.old else _moments()
    return {"jobs": await asyncio.to_thread(_records, call.version, found), **others}


@operation("POST", "slurm", "job/submit", "openapi_job_submit_response", body="job_submit_req", since=38,
           source="slurm_submit_batch_job")  # fmt: skip
async def submit(call: Call) -> Values:
    """提交批处理作业"""
    given = _components(call, "jobs")
    script = call.body.get("script") or given[0].get("script") or ""
    job_id = await _submitted(call, [_request(call, each, script) for each in given])
    found = {"job_id": job_id, "step_id": "batch", "job_submit_user_msg": ""}
    if call.old:
        return {**found, "step_id": "BATCH"}
    return {**found, "result": {**found, "error_code": 0, "error": "No error"}}


def _components(call: Call, several: str) -> list[dict[str, Any]]:
    """要提交的那一个；写在 several 里的几个是一个异构作业的各个部分。"""
    jobs = call.body.get(several) or []
    given = [call.body["job"]] if call.body.get("job") else list(jobs) or [{}]
    if not all(isinstance(each, dict) for each in given):
        raise InvalidRequest("job", "应是一个对象")
    return given


async def _submitted(call: Call, requests: list[SubmitRequest]) -> int:
    """提交；返回作业号，异构作业是第 0 个部分的。"""
    if len(requests) == 1:
        return await call.parts.submit_desk.submit(requests[0], call.submitter)
    wants = [request.job for request in requests]
    return (await call.parts.submit_desk.submit_together(wants, requests[0].script, call.submitter))[0]


def _request(call: Call, given: dict[str, Any], script: Any, **more: Any) -> SubmitRequest:
    require_own_user(given, call.identity.user_name)
    _warn_unused(call, given)
    return SubmitRequest.model_validate({"job": {**job_fields(given), **more}, "script": script})


def _warn_unused(call: Call, given: dict[str, Any]) -> None:
    for name in unused_hints(given):
        call.warn(f'Field "{name}" has no effect on this system')


@operation("POST", "slurm", "job/allocate", "openapi_job_alloc_resp", body="job_alloc_req", since=41,
           source="slurm_allocate_resources")  # fmt: skip
async def allocate(call: Call) -> Values:
    """申请没有脚本的分配"""
    requests = [_request(call, each, "", interactive=True) for each in _components(call, "hetjob")]
    return {"job_id": await _submitted(call, requests), "job_submit_user_msg": ""}


@operation("POST", "slurm", "job/{job_id}", "openapi_job_post_response", body="job_desc_msg", since=38,
           source="slurm_update_job2")  # fmt: skip
async def update(call: Call) -> Values:
    """修改作业"""
    given = {key: value for key, value in call.body.items() if key not in ("job_id", "step_id")}
    if given.pop("open_mode", None):
        # v0.0.38 的客户每次都带上它的缺省值；slurmctld 不看。
        call.warn('Field "open_mode" cannot be changed after submission and is ignored')
    _warn_unused(call, given)
    changes = JobRequest.model_validate(job_fields(given)).changes()
    await update_job(call.parts.engine, call.parts.rules, call.identity, call.argument, changes, call.parts.policy)
    if call.old:
        return {}
    result = {"job_id": _leading(call.argument), "step_id": "", "error": "No error", "error_code": 0, "why": ""}
    return {"results": [result], "job_id": call.argument, "step_id": "", "job_submit_user_msg": ""}


def _leading(text: str) -> int:
    match = _NUMBER.match(text)
    return int(match[0]) if match else 0


def _request_to_kill(call: Call, signal: str | None, flags: str) -> Request:
    """取消，或发信号；缺省同 scancel。"""
    if signal is None or signal.upper().removeprefix("SIG") in _KILL:
        return Request("cancel")
    words = [word.strip().upper() for word in flags.split(",") if word.strip()]
    target = next((_TARGETS[word] for word in words if word in _TARGETS), "steps" if call.old else "job")
    return Request("signal", signal=signal, target=target)


@operation("DELETE", "slurm", "job/{job_id}", "openapi_resp 42:openapi_kill_job_resp",
           query="signal:string flags:string", since=38, source="slurm_kill_job", empty="status")  # fmt: skip
async def cancel(call: Call) -> Values:
    """取消作业，或给它发信号"""
    request = _request_to_kill(call, call.query("signal"), call.query("flags") or "")
    await control_job(call.parts.engine, call.identity, request, call.argument)
    return {} if call.old else {"status": [_killed(call.argument)]}


def _killed(job_id: str, problem: ConductorError | None = None) -> dict[str, Any]:
    words = "" if problem is None else slurm_words(problem.code) or problem.detail
    code = 0 if problem is None else NUMBERS.get(words, SLURM_ERROR)
    return {
        "error": {"string": words or "No error", "code": code, "message": "" if problem is None else problem.detail},
        "step_id": job_id,
        "job_id": number(_leading(job_id)),
        "federation": {"sibling": ""},
    }


@operation("DELETE", "slurm", "jobs", "openapi_kill_jobs_resp", body="kill_jobs_msg", source="slurm_kill_jobs",
           empty="status")  # fmt: skip
async def cancel_many(call: Call) -> Values:
    """取消一批作业：写作业号，或写条件"""
    body = call.body
    request = _request_to_kill(call, body.get("signal"), ",".join(body.get("flags") or ()))
    job_ids: list[str] = list(dict.fromkeys(body.get("jobs") or ()))
    if body.get("job_state") and not _live(body["job_state"]):
        # 要的都是已经结束的：没有可取消的。
        return {}
    filters = _conditions(call)
    if not job_ids and filters is None:
        raise InvalidRequest("jobs", "写明作业号或条件（account、job_name、partition、qos、user_name……）")
    extra = {key: body[key] for key in ("wckey", "reservation") if body.get(key)}
    if extra:
        # 服务器的条件里没有这两个：先挑出来。
        wanted = [filters or JobFilter(state=_LIVE)]
        found = [job for each in wanted async for page in job_pages(call, each) for job in page]
        labels = {str(job["job_id"]) for job in found if all(job.get(key) == value for key, value in extra.items())}
        job_ids, filters = [each for each in job_ids if each in labels] if job_ids else sorted(labels, key=int), None
        if not job_ids:
            return {}
    done = await control_jobs(call.parts.engine, call.identity, request, job_ids, filters)
    status = {job["job_id"]: _killed(job["job_id"]) for job in done.jobs}
    status |= {job_id: _killed(job_id, problem) for job_id, problem in done.errors.items()}
    return {"status": [status.pop(job_id) for job_id in job_ids if job_id in status] + list(status.values())}


def _live(states: list[str]) -> list[str]:
    return [state for state in states if state in _LIVE.split(",")]


def _conditions(call: Call) -> JobFilter | None:
    """请求体里的条件；一个也没有写是 None，不当作全部。"""
    body = call.body
    names = {"account": "account", "job_name": "name", "partition": "partition", "qos": "qos", "user_name": "user"}
    given: dict[str, Any] = {ours: body[theirs] for theirs, ours in names.items() if body.get(theirs)}
    if body.get("nodes"):
        given["node"] = ",".join(body["nodes"])
    if body.get("job_state"):
        given["state"] = ",".join(_live(body["job_state"]))
    if not given and not body.get("wckey") and not body.get("reservation"):
        return None
    return JobFilter(**{"state": _LIVE, **given})
