"""记账里的作业（sacct）：/slurmdb/…/jobs 与 /slurmdb/…/job/{id}。"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

from scns_conductor.core.errors import InvalidRequest, NotFound
from scns_conductor.core.instants import local_now, parse_instant
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.services.job_annotation import annotate_jobs
from scns_conductor.services.job_list import JobFilter
from scns_conductor.services.job_steps import list_steps
from scns_conductor.slurm.shapes.accounting_jobs import accounting_record
from scns_conductor.slurm.step.step_values import accounting_row
from scns_conductor.slurm.table.job_values import cluster_name, user_ids
from scns_conductor.slurmrestd.job_pages import Jobs, first_page, job_pages, streamed
from scns_conductor.slurmrestd.operations import Call, Values, operation

_ANSWER = "openapi_slurmdbd_jobs_resp"
_LIVE = {JobState.PENDING, *ACTIVE_STATES}
# 查询参数 -> 列表的条件。
_FILTERS = {
    "users": "user", "account": "account", "partition": "partition", "qos": "qos", "job_name": "name", "node": "node",
}  # fmt: skip
# 列出之后再挑的：作业里的字段。
_KEPT = {"wckey": "wckey", "constraints": "constraints", "reservation": "reservation"}
# 列出之后再挑的：最少、最多；左边是参数，右边是作业的数。
_BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    "cpus": lambda job: job.get("allocated_cpus"),
    "nodes": lambda job: job.get("allocated_nodes"),
    # 分钟。
    "timelimit": lambda job: math.inf if job.get("time_limit") is None else job["time_limit"] / 60,
}
_IGNORED = (
    "association", "scheduler_flags", "show_duplicates", "disable_wait_for_result", "disable_truncate_usage_time",
    "reservation_id", "submit_line", "format", "show_batch_script", "show_job_environment",
)  # fmt: skip
_QUERY = " ".join(f"{name}:string" for name in (
    *_FILTERS, *_KEPT, *(f"{key}_{side}" for key in _BOUNDS for side in ("min", "max")),
    "cluster", "exit_code", "reason", "groups", "state", "step", "start_time", "end_time", "skip_steps", *_IGNORED,
))  # fmt: skip


def _asked(call: Call) -> dict[str, str]:
    """条件：查询参数，与写在 GET 的请求体里的（有的客户这样写）。"""
    found: dict[str, str] = {}
    if isinstance(call.raw, Mapping):
        for key, value in call.raw.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
            if text:
                found[str(key)] = text
    for key in call.request.query_params:
        if given := call.query(key):
            found[key] = given
    return found


def _instant(text: str) -> str:
    """sacct 的 uts 开头的是 Unix 秒。"""
    return text.removeprefix("uts")


def _conditions(asked: Mapping[str, str]) -> list[JobFilter]:
    """那段时间里还在的：没有结束的，与其后才结束的；写了作业号的不看时间。"""
    given: dict[str, Any] = {ours: asked[theirs] for theirs, ours in _FILTERS.items() if theirs in asked}
    states = asked.get("state", "").upper()
    if "step" in asked:
        ids = ",".join(word.partition(".")[0].strip() for word in asked["step"].split(","))
        return [JobFilter(job_id=ids, state=states or None, **given)]
    end: dict[str, Any] = {"submit_before": _instant(asked["end_time"])} if "end_time" in asked else {}
    if "start_time" not in asked:
        return [JobFilter(state=states or None, **given, **end)]
    start = _instant(asked["start_time"])
    if states:
        words = {word.strip() for word in states.split(",")}
        live = ",".join(sorted(words & _LIVE))
        found = [JobFilter(state=live, **given, **end)] if live else []
        return [*found, JobFilter(state=states, end_after=start, **given, **end)]
    return [JobFilter(state=",".join(sorted(_LIVE)), **given, **end), JobFilter(end_after=start, **given, **end)]


async def _records(call: Call, page: Jobs, *, steps: bool = True) -> Jobs:
    launched: dict[str, list[dict[str, Any]]] = {}
    started = [str(job["job_id"]) for job in page if job.get("start_time")]
    if started and steps:
        for step in await list_steps(call.parts.engine, started):
            launched.setdefault(str(step["job_id"]), []).append(step)

    def convert() -> Jobs:
        return [
            accounting_record(call.version, job, _rows(job, launched.get(str(job["job_id"]), [])) if steps else [])
            for job in page
        ]

    return await asyncio.to_thread(convert)


def _rows(job: dict[str, Any], steps: Jobs) -> Jobs:
    """sacct 里这个作业的各步：batch（没有脚本的是 extern），再是启动的。"""
    if not job.get("start_time"):
        return []
    holder = "extern" if job.get("interactive") else "batch"
    return [{**job, "step": holder}, *(accounting_row(job, step) for step in steps)]


@operation("GET", "slurmdb", "jobs", _ANSWER, query=_QUERY, since=38, source="slurmdb_jobs_get", empty="jobs")
async def jobs(call: Call) -> Response:
    """记账里的作业"""
    asked = _asked(call)
    for key in sorted(asked.keys() & set(_IGNORED)):
        call.warn(f'Query parameter "{key}" is not used by this system')
    for key in ("start_time", "end_time"):
        if key in asked:
            _check_instant(key, _instant(asked[key]))
    filters = _conditions(asked)
    await first_page(call, filters)
    chosen_by = _tests(asked)
    steps = asked.get("skip_steps", "").lower() not in ("true", "1", "yes")

    async def shape(page: Jobs) -> Jobs:
        chosen = [job for job in page if all(test(job) for test in chosen_by)]
        return await _records(call, chosen, steps=steps)

    return streamed(call, _ANSWER, filters, shape, {})


_Test = Callable[[Mapping[str, Any]], bool]


def _tests(asked: Mapping[str, str]) -> list[_Test]:
    """列出之后再挑的条件；写错了抛 InvalidRequest。"""
    found: list[_Test] = []
    for theirs, ours in _KEPT.items():
        if theirs in asked:
            found.append(_one_of(lambda job, ours=ours: job.get(ours), asked[theirs]))  # type: ignore[misc]
    for key, value in _BOUNDS.items():
        for side in ("min", "max"):
            if (name := f"{key}_{side}") in asked:
                found.append(_bound(value, _number(name, asked[name]), least=side == "min"))
    if "cluster" in asked:
        own = cluster_name() in asked["cluster"].split(",")
        found.append(lambda _: own)
    if "reason" in asked:
        found.append(_one_of(lambda job: job.get("reason"), asked["reason"]))
    if "groups" in asked:
        groups = set(asked["groups"].split(","))
        found.append(lambda job: not groups.isdisjoint(user_ids(str(job["user_name"]))[1:]))
    if "exit_code" in asked:
        codes = {int(_number("exit_code", word)) for word in asked["exit_code"].split(",")}
        found.append(lambda job: job.get("exit_status") in codes)
    return found


def _one_of(value: Callable[[Mapping[str, Any]], Any], text: str) -> _Test:
    words = set(text.split(","))
    return lambda job: value(job) in words


def _bound(value: Callable[[Mapping[str, Any]], float | None], limit: float, *, least: bool) -> _Test:
    def test(job: Mapping[str, Any]) -> bool:
        found = value(job)
        return found is not None and (found >= limit if least else found <= limit)

    return test


def _number(name: str, text: str) -> float:
    try:
        return float(int(text))
    except (ValueError, OverflowError):
        raise InvalidRequest(name, "应是整数") from None


def _check_instant(name: str, text: str) -> None:
    try:
        parse_instant(text, local_now())
    except ValueError as error:
        raise InvalidRequest(name, str(error)) from error


@operation("GET", "slurmdb", "job/{job_id}", _ANSWER, since=38, source="slurmdb_jobs_get", empty="jobs")
async def job(call: Call) -> Values:
    """记账里的一个作业；没有的是空的列表与一条 warnings"""
    try:
        found = [each async for page in job_pages(call, JobFilter(job_id=call.argument)) for each in page]
    except NotFound:
        found = []
    if not found:
        call.warn("slurmdb_jobs_get() found nothing", "_dump_jobs")
    return {"jobs": await _records(call, found)}


def _changes(call: Call, record: Mapping[str, Any]) -> dict[str, Any]:
    """job_rec 里能改的；不能改的说一声。"""
    comment = record.get("comment") or {}
    found = {"comment": comment.get("job"), "admin_comment": comment.get("administrator")}
    found |= {key: record.get(key) for key in ("extra", "wckey")}
    code = (record.get("derived_exit_code") or {}).get("return_code")
    found["derived_exit_status"] = None if code is None else int(code)
    for key, given in (("comment.system", comment.get("system")), ("tres", record.get("tres"))):
        if given:
            call.warn(f'Ignoring "{key}": it cannot be changed on this system')
    return {key: value for key, value in found.items() if value is not None}


@operation("POST", "slurmdb", "jobs", "openapi_job_modify_resp", body="openapi_job_modify_req", since=44,
           source="slurmdb_job_modify", empty="results")  # fmt: skip
async def modify_jobs(call: Call) -> Values:
    """改几个作业的备注、wckey、导出的退出码；结束了的也行，一个事务"""
    wanted = [str(job_id) for job_id in call.body.get("job_id_list") or []]
    if not wanted:
        raise InvalidRequest("job_id_list", "写明是哪些作业", code="nothing_chosen")
    return await _modify(call, wanted, call.body.get("job_rec") or {})


@operation("POST", "slurmdb", "job/{job_id}", "openapi_job_modify_resp", body="job_modify", since=44,
           source="slurmdb_job_modify", empty="results")  # fmt: skip
async def modify_job(call: Call) -> Values:
    """改一个作业的备注、wckey、导出的退出码；结束了的也行"""
    return await _modify(call, [call.argument], call.body)


async def _modify(call: Call, job_ids: list[str], record: Mapping[str, Any]) -> Values:
    done = await annotate_jobs(call.database, call.identity, job_ids, _changes(call, record))
    return {"results": [f"JobId={job_id}" for job_id in done]}
