"""多因子优先级在调度器的记忆里，不在作业的行里：要显示它的命令在这里问一次。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.client import ClientError, JsonClient


def with_priorities(client: JsonClient, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """排队的作业补上调度器算的优先级；basic 的照旧（按先后）。调度器不在时也照旧。"""
    pending = [str(job["job_id"]) for job in jobs if job["state"] == "PENDING" and job.get("priority") is None]
    if not pending:
        return [dict(job) for job in jobs]
    try:
        answer = client.priorities(pending if len(pending) <= 100 else None)
    except ClientError:
        return [dict(job) for job in jobs]
    if answer["priority_type"] == "basic":
        return [dict(job) for job in jobs]
    found = {each["job_id"]: each["priority"] for each in answer["priorities"]}
    return [{**job, "priority": found.get(str(job["job_id"]), job.get("priority"))} for job in jobs]
