"""回答 explain（为什么）与 plan（试排）：按记忆里的队列，用调度核心真的计划一次。"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from scns_conductor.scheduling.eligibility import ineligible
from scns_conductor.scheduling.explain import TRIAL_JOB_ID, expected, explain
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import eligibility_request, priority_of
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.worker.job_priority import Applicant
from scns_conductor.worker.queue_memory import QueueMemory

MOST_PRIORITIES = 10_000


def answer_question(
    memory: QueueMemory, policy: Policy, kind: str, payload: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """explain：{reason, text, expected_start_time, ...}；plan：{start_time, nodes, reason, text}；
    priorities：{priorities: [...]}；shares：{shares: [...]}。
    """
    if kind == "plan":
        return _trial(memory, policy, payload["job"], now)
    if kind == "priorities":
        return {"priorities": _priorities(memory, payload.get("job_ids"), now)}
    if kind == "shares":
        return {
            "shares": [asdict(share) for share in memory.priority.standings.values()],
            "accounts": [asdict(account) for account in memory.priority.accounts],
        }
    waiting = memory.waiting.get(int(payload["job_id"]))
    if waiting is None:
        return {"reason": "None", "text": "调度器的队列里没有它；它刚刚启动或结束了"}
    found = explain(memory.cluster, memory.queue, waiting.job, now, policy)
    return {
        "reason": found.reason,
        "text": found.text,
        "expected_start_time": _iso(found.expected_start),
        "expected_end_time": _iso(found.expected_end),
        "nodes": found.nodes,
        "jobs_ahead": [str(job_id) for job_id in found.ahead],
        "shortages": found.shortages,
        "suggestions": [{**asdict(item), "start_time": _iso(item.start_time)} for item in found.suggestions],
    }


def _priorities(memory: QueueMemory, job_ids: list[int] | None, now: float) -> list[dict[str, Any]]:
    """排队的作业的优先级与各因子（已乘权重），按优先级从高到低，至多 MOST_PRIORITIES 个。"""
    chosen = memory.waiting.values() if job_ids is None else (memory.waiting[n] for n in job_ids if n in memory.waiting)
    found = sorted(chosen, key=lambda waiting: waiting.job.key)[:MOST_PRIORITIES]
    enabled = memory.priority.enabled
    return [
        {
            "job_id": str(waiting.job.job_id),
            "user_name": waiting.user_name,
            "account": waiting.applicant.account,
            "partition": ",".join(waiting.applicant.partitions),
            "priority": waiting.job.priority,
            "factors": memory.priority.factors_of(waiting.applicant, waiting.job, now) if enabled else {},
        }
        for waiting in found
    ]


def _trial(memory: QueueMemory, policy: Policy, row: Mapping[str, Any], now: float) -> dict[str, Any]:
    shape, violation = memory.requirements(row)
    limit = math.inf if row["time_limit"] is None else float(row["time_limit"])
    refused = ineligible(eligibility_request(row, None), memory.cluster.partitions, now, memory.cluster.reservations)
    if refused is not None and refused.wake_at is None:
        return {"start_time": None, "nodes": [], "reason": refused.reason, "text": refused.message}
    if violation is not None:
        return {"start_time": None, "nodes": [], "reason": violation.reason, "text": violation.message}
    verdict = impossible(memory.cluster, shape)
    if verdict is not None:
        return {"start_time": None, "nodes": [], "reason": "Resources", "text": verdict}
    job = PendingJob(TRIAL_JOB_ID, shape, limit, priority=priority_of(row), order=TRIAL_JOB_ID)
    if memory.priority.enabled:
        job.priority = memory.priority.of(Applicant.of({**row, "submit_time": now}), job, now)
    memory.queue.upsert(job)
    try:
        found = expected(memory.cluster, memory.queue, job, now, policy)
    finally:
        memory.queue.remove(TRIAL_JOB_ID)
    if found is None:
        return {
            "start_time": None,
            "nodes": [],
            "reason": "Resources",
            "text": "占着资源的作业没有时限，说不准何时开始",
        }
    start = max(found[0], refused.wake_at if refused and refused.wake_at else found[0])
    cpus = shape.tasks * shape.cpus_per_task
    return {"start_time": _iso(start), "nodes": found[1], "reason": "None", "text": None, "cpus": cpus}


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()
