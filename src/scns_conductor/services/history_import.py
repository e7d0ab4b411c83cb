"""别的系统的历史：结束了的作业写进来，占用的记进用量的汇总——公平份额、报告、模拟从第一天起就有得看。

一批一个事务；同一个作业（号与提交时刻都相同）送几遍只写一次。作业的历史里写明是搬来的（cause = import），
不为它们发邮件与 webhook。
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.history import HistoryImported
from scns_conductor.core.array_spec import MAX_SCATTERED, ArraySpec, parse_array
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.hostlist import check_hostlist, compress, expand
from scns_conductor.core.instants import utc_now
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import record
from scns_conductor.services.retention import read_policy
from scns_conductor.services.usage_rollup import roll_up
from scns_conductor.statements import history_import as statements
from scns_conductor.statements.array_tasks import multirange_text

MOST_JOBS = 1000
# 一批里各次尝试一共至多几个节点；没有启动的任务一共至多几段（步长不一的，一个任务就是一段）。
MOST_NODES = 100_000
MOST_PIECES = 100_000
# 这之前的时刻当作写错了；一次尝试至多这么久（汇总一小时一格）。
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_LONGEST = timedelta(days=3660)
_AHEAD = timedelta(hours=1)


async def import_history(
    engine: AsyncEngine, identity: Identity, source: str, jobs: Sequence[Mapping[str, Any]]
) -> HistoryImported:
    """写进一批（字段见 api.history_request.HistoryJob）。

    各个不收的说明为什么，其余照写；节点一共太多抛 InvalidRequest。
    """
    policy = await read_policy(engine)
    refused: dict[int, str] = {}
    chosen: dict[int, Mapping[str, Any]] = {}
    for job in jobs:
        number = job["job_id"]
        reason = "这一批里有两个这个号" if number in chosen else _reason(job, policy.drop_before)
        if reason is not None:
            refused[number] = reason
        else:
            chosen[number] = job
    if not chosen:
        return _answer(0, 0, refused, [])
    # 先数，数得过来才展开。
    if sum(check_hostlist(each["node_list"]) for job in chosen.values() for each in job["attempts"]) > MOST_NODES:
        raise InvalidRequest("jobs", f"各次尝试一共至多 {MOST_NODES} 个节点；请分成几批")
    tasks = {number: _unstarted(job["array_tasks"]) for number, job in chosen.items() if job["array_tasks"] is not None}
    if sum(len(spec.ranges) for spec in tasks.values()) > MOST_PIECES:
        raise InvalidRequest("jobs", f"没有启动的任务（array_tasks）一共至多 {MOST_PIECES} 段；请分成几批")
    nodes = {number: [expand(each["node_list"]) for each in job["attempts"]] for number, job in chosen.items()}
    await _reserve_numbers(engine, max(chosen))
    present = 0
    async with engine.begin() as connection:
        await connection.execute(statements.TAKE_IMPORT_TURN)
        for row in await connection.execute(statements.KNOWN, {"job_ids": list(chosen)}):
            job = chosen.pop(row.job_id)
            if row.imported and row.submit_time == job["submit_time"]:
                present += 1
            else:
                refused[row.job_id] = "这个号已经有别的作业用了"
        if chosen:
            await connection.execute(
                statements.ADD_HISTORY,
                {
                    "jobs": _text([_job_row(job, nodes[number], tasks.get(number)) for number, job in chosen.items()]),
                    "shares": _text([row for number, job in chosen.items() for row in _shares(job, nodes[number])]),
                    "events": _text([row for job in chosen.values() for row in _events(job, source)]),
                },
            )
            told = {"source": source, "jobs": len(chosen), "first": min(chosen), "last": max(chosen)}
            await record(connection, identity, "history.import", source, after=told)
        accounts = sorted({job["account"] for job in chosen.values() if job["account"] is not None})
        unknown = (await connection.execute(statements.UNKNOWN_ACCOUNTS, {"accounts": accounts})).scalars().all()
    if chosen:
        # 送得再快，汇总也跟得上。
        await roll_up(engine)
    return _answer(len(chosen), present, refused, unknown)


def _answer(added: int, present: int, refused: Mapping[int, str], unknown: Sequence[str]) -> HistoryImported:
    return {
        "added": added,
        "present": present,
        "refused": [{"job_id": str(number), "reason": reason} for number, reason in refused.items()],
        "unknown_accounts": list(unknown),
    }


async def _reserve_numbers(engine: AsyncEngine, last: int) -> None:
    """以后新作业的号从 last 之后起；别人正取号时等他取完，不会给出同一个号。"""
    async with engine.connect() as connection:
        if (await connection.execute(statements.LAST_NUMBER)).scalar_one() >= last:
            return
    async with engine.begin() as connection:
        await connection.execute(statements.HOLD_NUMBERS)
        await connection.execute(statements.RAISE_NUMBERS, {"last": last})


def _reason(job: Mapping[str, Any], drop_before: datetime | None) -> str | None:
    """不收的理由。"""
    attempts = job["attempts"]
    edges = [job["submit_time"], *(each[name] for each in attempts for name in ("start_time", "end_time"))]
    if job["array_task_id"] is not None and job["array_tasks"] is not None:
        return "array_task_id 与 array_tasks 只能写一个"
    if job["array_job_id"] is None and (job["array_task_id"] is not None or job["array_tasks"] is not None):
        return "数组任务没有写数组的号（array_job_id）"
    if min(edges) < _EARLIEST or max(*edges, job["end_time"]) > utc_now() + _AHEAD:
        return "时刻不对：早于 1990 年，或在以后"
    if any(each["end_time"] < each["start_time"] for each in attempts) or job["end_time"] < job["submit_time"]:
        return "结束早于开始"
    if any(each["end_time"] - each["start_time"] > _LONGEST for each in attempts):
        return "一次运行了十年以上"
    numbers = [each["restart_count"] for each in attempts]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > job["restart_count"]):
        return "各次尝试的次序不对"
    if any(each["state"] is None for each in attempts if each["restart_count"] == job["restart_count"]):
        return "最后一次没有写怎样结束的"
    if drop_before is not None and job["end_time"] < drop_before:
        return "比保留期（drop_after）还早"
    return None


def _unstarted(text: str) -> ArraySpec:
    """没有启动的任务；步长不一的没有数组自己的行可列任务号，照区间记。"""
    spec = history_array(text)
    return spec if spec.stride.step else ArraySpec(spec.ids)


def history_array(text: str) -> ArraySpec:
    """array_tasks 的写法；步长不一的至多 MAX_SCATTERED 个任务，写错、太多抛 ValueError。"""
    return parse_array(text, most_written=MAX_SCATTERED)


def _job_row(job: Mapping[str, Any], nodes: Sequence[Sequence[str]], tasks: ArraySpec | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: job[name] for name in statements.COPIED}
    row["eligible_time"] = job["eligible_time"] or job["submit_time"]
    if tasks is not None:
        row |= {
            "array_remaining": multirange_text(tasks.ranges),
            "array_base": tasks.stride.base,
            "array_step": tasks.stride.step,
        }
    last = job["attempts"][-1] if job["attempts"] else None
    if last is not None and last["restart_count"] == job["restart_count"]:
        row |= {
            "start_time": last["start_time"],
            "node_list": compress(nodes[-1]),
            "batch_host": nodes[-1][0],
            "allocated_nodes": len(nodes[-1]),
            "allocated_cpus": last["cpus"],
            "allocated_memory": last["memory"],
            "allocated_gres": ",".join(f"{name}={count}" for name, count in sorted(last["gres"].items())) or None,
        }
    return row


def _shares(job: Mapping[str, Any], nodes: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """各次尝试在各个节点上占的：总数平分，除不尽的在前的多一个。"""
    found = []
    for attempt, names in zip(job["attempts"], nodes, strict=True):
        end = attempt["end_time"]
        if attempt["run_s"] is not None:
            # 挂起过的：何时挂起不知道，占用的总量是对的。
            end = min(end, attempt["start_time"] + timedelta(seconds=attempt["run_s"]))
        for index, name in enumerate(names):
            gres = {each: _part(count, len(names), index) for each, count in attempt["gres"].items()}
            found.append(
                {
                    "job_id": job["job_id"],
                    "restart_count": attempt["restart_count"],
                    "node_name": name,
                    "node_index": index,
                    "cpus": _part(attempt["cpus"], len(names), index),
                    "memory": _part(attempt["memory"], len(names), index),
                    "gres": {each: count for each, count in gres.items() if count},
                    "created_at": attempt["start_time"],
                    "released_at": end,
                }
            )
    return found


def _part(total: int, parts: int, index: int) -> int:
    return total // parts + (index < total % parts)


def _events(job: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    """作业的历史：提交、各次的开始与结束，都写明是搬来的。"""
    found: list[dict[str, Any]] = []

    def add(attempt: int, moment: datetime, before: str | None, after: str) -> None:
        event = {"job_id": job["job_id"], "restart_count": attempt, "event_time": moment, "from_state": before}
        found.append({**event, "to_state": after, "actor": source})

    add(0, job["submit_time"], None, "PENDING")
    for attempt in job["attempts"]:
        number, end = attempt["restart_count"], attempt["end_time"]
        add(number, attempt["start_time"], "PENDING", "RUNNING")
        if attempt["state"] is not None:
            add(number, end, "RUNNING", attempt["state"])
        if number < job["restart_count"]:
            add(number, end, attempt["state"] or "RUNNING", "PENDING")
    if not job["attempts"] or job["attempts"][-1]["restart_count"] < job["restart_count"]:
        add(job["restart_count"], job["end_time"], "PENDING", job["state"])
    return found


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, default=datetime.isoformat)
