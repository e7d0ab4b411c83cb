"""一个作业与它的步 -> slurmdbd 的 job（sacct --json、slurmrestd 的 /slurmdb/…/jobs）。"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.slurm.accounting import accounting_json
from scns_conductor.slurm.shapes.exit_codes import exit_code
from scns_conductor.slurm.shapes.schema import INFINITE, OLDEST, number, render, version_number
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.times import epoch

Row = Mapping[str, Any]


def accounting_record(version: str, job: Row, steps: Iterable[Row]) -> dict[str, Any]:
    """那一版的一条；steps 是 accounting_row 的行（step 是 batch、extern 或步号）。"""
    steps = list(steps)
    flat = accounting_json.accounting_record(job, steps)
    if version == "v0.0.38":
        return flat
    limit = of.limit_s(job)
    if version == "v0.0.39":
        return _record_39(flat, INFINITE if limit is None else int(limit) // 60)
    submitted, started = epoch(job["submit_time"]), epoch(job.get("start_time"))
    default = "slurm-%A_%a.out" if job.get("array_job_id") is not None else "slurm-%j.out"
    return render(
        "job",
        version,
        {
            **flat,
            "array": {**flat["array"], "task": flat["array"]["task"] or ""},
            "derived_exit_code": exit_code(
                {**job, "exit_status": job.get("derived_exit_status") or 0, "exit_signal": 0}
            ),
            "exit_code": exit_code(job),
            "extra": job.get("extra"),
            "flags": ["STARTED_ON_SCHEDULE", "START_RECEIVED"] if job.get("start_time") else [],
            "hold": bool(job.get("hold")),
            "kill_request_user": job.get("requested_end_actor"),
            "licenses": job.get("licenses"),
            "qosreq": job.get("qos"),
            "required": {
                "CPUs": flat["required"]["CPUs"],
                "memory_per_cpu": job.get("memory_per_cpu") or None,
                "memory_per_node": job.get("memory_per_node") or None,
            },
            "reservation": {"name": job.get("reservation"), "requested": job.get("reservation")},
            "restart_cnt": job.get("restart_count"),
            "state": {"current": [job["state"]], "reason": of.reason(job)},
            "stdin": job.get("standard_input") or "/dev/null",
            "stdout": job.get("standard_output") or default,
            "stderr": job.get("standard_error"),
            "stdin_expanded": of.output_path(job, "standard_input"),
            "stdout_expanded": of.output_path(job, "standard_output"),
            "stderr_expanded": of.output_path(job, "standard_error") if job.get("standard_error") else "",
            "steps": [_step(job, row, found) for row, found in zip(steps, flat["steps"], strict=True)],
            "time": {
                **flat["time"],
                "limit": _minutes(limit),
                "planned": max(0, int((started or submitted or 0) - (submitted or 0))),
            },
            "used_gres": job.get("allocated_gres"),
        },
    )


def live_step_record(version: str, step: Row) -> dict[str, Any]:
    """正在运行的一步（scontrol show step）；旧版没有这个回答，样子同 v0.0.40。"""
    from scns_conductor.core.hostlist import expand

    nodes = expand(step["node_list"]) if step.get("node_list") else []
    started = epoch(step["start_time"]) or 0
    values = {
        "time": {
            "elapsed": max(0, int(time.time() - started)),
            "start": int(started),
            "end": 0,
            "limit": _minutes(of.limit_s(step)),
        },
        "exit_code": {"status": ["PENDING"]},
        "nodes": {"count": len(nodes), "range": step.get("node_list"), "list": nodes},
        "tasks": {"count": int(step.get("tasks") or 1)},
        "state": [step.get("state") or "RUNNING"],
        "step": {"id": str(step.get("step") or f"{step['job_id']}.{step['step_id']}"), "name": step["name"]},
        "task": {"distribution": "Unknown"},
    }
    return render("step", version if version_number(version) >= OLDEST else f"v0.0.{OLDEST}", values)


def _record_39(flat: dict[str, Any], limit: float) -> dict[str, Any]:
    """v0.0.39：可以没有设置的数写成 {set, infinite, number}，别的同 v0.0.38。"""
    zero = {"min": number(0), "max": number(0)}
    steps = [
        {
            **step,
            "CPU": {"requested_frequency": zero, "governor": "0"},
            "pid": "",
            "kill_request_user": "",
            "statistics": {
                "CPU": {"actual_frequency": 0},
                "energy": {"consumed": number(step["statistics"]["energy"]["consumed"])},
            },
            "step": {"id": {"job_id": step["step"]["job_id"], "step_id": str(step["step"]["id"])},
                     "name": str(step["step"]["name"])},
        }
        for step in flat["steps"]
    ]  # fmt: skip
    required = flat["required"]
    return {
        **flat,
        "array": {**flat["array"], "task_id": number(flat["array"]["task_id"])},
        "het": {**flat["het"], "job_offset": number(flat["het"]["job_offset"])},
        "priority": number(flat["priority"]),
        "required": {**required, "memory_per_cpu": number(None), "memory_per_node": number(required["memory"] or None)},
        "reservation": {"id": 0, "name": flat["reservation"]["name"] or ""},
        "steps": steps,
        "time": {**flat["time"], "limit": number(limit)},
    }


def _minutes(seconds: float | None) -> float:
    return INFINITE if seconds is None else -(-int(seconds) // 60)


def _step(job: Row, row: Row, found: Row) -> dict[str, Any]:
    number = f"{of.display_id(job)}.{row['step']}"
    return {
        **found,
        "CPU": {"requested_frequency": {"min": 0, "max": 0}, "governor": "0"},
        "exit_code": exit_code(row),
        "state": [row["state"]],
        "statistics": {"energy": found["statistics"]["energy"]},
        "step": {"id": number, "name": found["step"]["name"]},
        "time": {**found["time"], "limit": _minutes(row.get("step_time_limit"))},
    }
