"""还没有满足的依赖，照 Slurm 的写法：afterok:12(unfulfilled)；满足了的不再显示，不会满足的是 (failed)。"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, JsonClient
from scns_conductor.slurm.table.job_values import unfulfilled
from scns_conductor.slurm.table.times import epoch

_BATCH = 500


def with_dependencies(client: JsonClient, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """排队的作业补上 dependency_text；问不到所依赖的作业时都当作没有满足。"""
    waiting = [job for job in jobs if job.get("dependency") and job["state"] == "PENDING"]
    if not waiting:
        return [dict(job) for job in jobs]
    wanted = sorted({target for job in waiting for target in _targets(job["dependency"])})
    states: dict[str, list[Mapping[str, Any]]] = {}
    for first in range(0, len(wanted), _BATCH):
        batch = wanted[first : first + _BATCH]
        try:
            found = list(client.jobs(job_id=",".join(batch), fields="array_job_id,array_task_id,state,start_time"))
        except ClientError:
            continue
        for row in found:
            array = row["array_job_id"]
            for name in {str(row["job_id"]), str(array), f"{array}_{row['array_task_id']}"}:
                states.setdefault(name, []).append(row)
    return [
        {**job, "dependency_text": dependency_text(job["dependency"], states)} if job.get("dependency") else dict(job)
        for job in jobs
    ]


def _targets(text: str) -> list[str]:
    """提到的作业：12、12_3。"""
    words = [word for part in text.replace("?", ",").split(",") for word in part.split(":")]
    return [word.partition("+")[0].removesuffix("_*") for word in words if word[:1].isdigit()]


def dependency_text(text: str, states: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """去掉满足了的；没有剩下的为 None。"""
    mark = "?" if "?" in text else ","
    left = []
    for condition in unfulfilled(text).split(mark):
        kind, _, target = condition.removesuffix("(unfulfilled)").partition(":")
        name, _, delay = target.partition("+")
        rows = states.get(name.removesuffix("_*"), ())
        verdict = _verdict(kind, rows, 60 * int(delay) if delay.isdigit() else 0) if rows else "unfulfilled"
        if verdict != "satisfied":
            left.append(condition.replace("(unfulfilled)", f"({verdict})"))
    return mark.join(left) or None


def _verdict(kind: str, rows: Sequence[Mapping[str, Any]], delay_s: int) -> str:
    states = [str(row["state"]) for row in rows]
    if kind == "after":
        # after:12+5：开始之后过了五分钟才算；没有开始就结束了的（取消）算已经开始。
        ready = time.time() - delay_s
        begun = [epoch(row["start_time"]) for row in rows if row["start_time"] or row["state"] not in TERMINAL_STATES]
        return "satisfied" if all(start is not None and start <= ready for start in begun) else "unfulfilled"
    over = all(state in TERMINAL_STATES for state in states)
    good = all(state == "COMPLETED" for state in states)
    if kind == "afterany" and over:
        return "satisfied"
    if kind == "afterok" and any(state in TERMINAL_STATES and state != "COMPLETED" for state in states):
        return "failed"
    if kind == "afterok" and good:
        return "satisfied"
    if kind == "afternotok" and over:
        return "failed" if good else "satisfied"
    return "unfulfilled"
