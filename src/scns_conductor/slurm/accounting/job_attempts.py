"""sacct 的 -D（重新排队之前的各次）与 -T（按时段截断）。"""

from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.client import JsonClient
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.times import epoch


def truncated(row: Mapping[str, Any], since: float | None, until: float) -> dict[str, Any]:
    """-T：开始早于 -S 的算从 -S 开始，没有结束、晚于 -E 结束的算到 -E 为止。"""
    started, ended = epoch(row.get("start_time")), epoch(row.get("end_time"))
    found = dict(row)
    if since is not None and started is not None and started < since:
        found["start_time"] = since
    if ended is None or ended > until:
        found["end_time"] = until
    return found


def attempts(client: JsonClient, job: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """-D：重新排队之前的各次，各一行，最早的在前；由分配与历史推出。"""
    shares: dict[int, list[dict[str, Any]]] = {}
    for part in client.job(job["job_id"])["allocations"]:
        shares.setdefault(int(part["restart_count"]), []).append(part)
    left = {
        int(event["restart_count"]): event
        for event in client.events(job["job_id"])
        if event["from_state"] and event["from_state"] != event["to_state"] and event["to_state"] == "PENDING"
    }
    for attempt in range(int(job["restart_count"])):
        parts, event = shares.get(attempt, []), left.get(attempt)
        ended = [part["released_at"] for part in parts if part["released_at"]]
        before = event["from_state"] if event is not None else ""
        yield {
            **job,
            # 跑着的被要求重新排队是 REQUEUED，结束了再排队的是它那时的状态（同 slurmdbd）。
            "state": before if before in of.SHORT_STATES and before not in of.ACTIVE else "REQUEUED",
            "restart_count": attempt,
            "start_time": min((part["created_at"] for part in parts), default=None),
            "end_time": max(ended, default=event["event_time"] if event is not None else None),
            "suspended_s": 0,
            "node_list": compress(part["node_name"] for part in parts) if parts else None,
            "allocated_nodes": len(parts),
            "allocated_cpus": sum(part["cpus"] for part in parts),
            "allocated_memory": sum(part["memory"] for part in parts),
            **dict.fromkeys(("exit_status", "exit_signal", "cpu_user_s", "cpu_system_s", "max_rss_kb"), None),
        }
