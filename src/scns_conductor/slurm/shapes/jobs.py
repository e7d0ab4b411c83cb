"""一个作业 -> slurmctld 的 job_info（squeue --json、slurmrestd 的 jobs）。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.slurm.queue import job_json
from scns_conductor.slurm.shapes.exit_codes import exit_code
from scns_conductor.slurm.shapes.schema import INFINITE, render
from scns_conductor.slurm.table import job_values as of

Job = Mapping[str, Any]
_MAIL = {
    "TIME_LIMIT": "TIME=100%",
    "TIME_LIMIT_90": "TIME=90%",
    "TIME_LIMIT_80": "TIME=80%",
    "TIME_LIMIT_50": "TIME=50%",
}
# 没有设置时 Slurm 写 0 而不是“没有设置”的。
_ZERO = (
    "accrue_time", "array_job_id", "array_max_tasks", "deadline", "delay_boot", "eligible_time", "end_time",
    "het_job_id", "het_job_offset", "last_sched_evaluation", "max_cpus", "max_nodes", "minimum_tmp_disk_per_node",
    "preempt_time", "preemptable_time", "pre_sus_time", "resize_time", "start_time", "submit_time", "suspend_time",
    "tasks_per_board", "tasks_per_node", "tasks_per_tres", "time_minimum",
)  # fmt: skip
_ZEROS = dict.fromkeys(_ZERO, 0)


def job_record(version: str, job: Job) -> dict[str, Any]:
    """那一版的一条。"""
    if version == "v0.0.38":
        return job_json.job_record(job)
    if version == "v0.0.39":
        return job_json.job_record_39(job)
    # 没有分到资源的，键也在，是 null（24.11 起 Slurm 就是这样；torchx 直接取它）。
    return {"job_resources": None} | render("job_info", version, _values(version, job))


def _mail_types(job: Job) -> list[str]:
    words = [word.strip().upper() for word in str(job.get("mail_type") or "").split(",")]
    if "ALL" in words:
        words = ["BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "INVALID_DEPENDENCY"]
    return [_MAIL.get(word, word) for word in words]


def _resources(version: str, job: Job) -> dict[str, Any]:
    """分到的资源；每个节点各多少只有总数，只有一个节点时才写。"""
    if not job.get("allocated_cpus") or not job.get("node_list"):
        return {}
    if version == "v0.0.40":
        return job_json.allocated_resources(job)
    from scns_conductor.core.hostlist import expand

    names = expand(job["node_list"])
    cpus, memory = int(job["allocated_cpus"]), int(job.get("allocated_memory") or 0)
    alone = {"cpus": {"count": cpus, "used": 0}, "memory": {"used": 0, "allocated": memory}} if len(names) == 1 else {}
    return {
        "job_resources": {
            "select_type": ["CPU"],
            "nodes": {
                "count": len(names),
                "select_type": ["ONE_ROW"],
                "list": job["node_list"],
                "whole": bool(job.get("exclusive")),
                "allocation": [{"index": index, "name": name, **alone} for index, name in enumerate(names)],
            },
            "cpus": cpus,
        }
    }


def _values(version: str, job: Job) -> dict[str, Any]:
    flat = job_json.job_record(job)
    scope = [job["exclusive_to"]] if job.get("exclusive_to") else []
    shared = ["none"] if job.get("exclusive") else scope or (["oversubscribe"] if job.get("oversubscribe") else [])
    output, stdout, stdin = (of.output_path(job, f"standard_{name}") for name in ("error", "output", "input"))
    written = {name: job.get(name) for name in ("standard_error", "standard_output", "standard_input")}
    default = "slurm-%A_%a.out" if job.get("array_job_id") is not None else "slurm-%j.out"
    return {
        **_ZEROS,
        **{key: value for key, value in flat.items() if value is not None and key != "job_resources"},
        "allocating_node": job.get("submit_host"),
        "array_max_tasks": flat["array_max_tasks"] or 0,
        "cpus_per_task": job["cpus_per_task"],
        "cron": job.get("cron"),
        "derived_exit_code": exit_code({**job, "exit_status": job.get("derived_exit_status") or 0, "exit_signal": 0}),
        # 没有结束的作业 slurmctld 写成功。
        "exit_code": exit_code({**job, "exit_status": job.get("exit_status") or 0}),
        "extra": job.get("extra"),
        "hold": bool(job.get("hold")),
        **_resources(version, job),
        "job_state": [job["state"], *([] if of.state(job) == job["state"] else [of.state(job)])],
        "licenses_allocated": job.get("licenses") if job.get("allocated_cpus") else "",
        "mail_type": _mail_types(job),
        "mail_user": job.get("mail_user"),
        "maximum_switch_wait_time": job.get("maximum_switch_wait_time"),
        "nice": job.get("nice"),
        "profile": ["NOT_SET"],
        "required_switches": job.get("required_switches"),
        "scheduled_nodes": job.get("expected_nodes"),
        "minimum_switches": job.get("required_switches"),
        "shared": shared,
        "exclusive": ["true"] if job.get("exclusive") else scope,
        "oversubscribe": bool(job.get("oversubscribe")),
        "show_flags": ["ALL", "DETAIL", "LOCAL"],
        "standard_error": written["standard_error"],
        "standard_input": written["standard_input"] or "/dev/null",
        "standard_output": written["standard_output"] or default,
        "stderr_expanded": output if written["standard_error"] else "",
        "stdout_expanded": stdout,
        "stdin_expanded": stdin,
        "step_id": {"job_id": int(job["job_id"]), "step_id": "entire"},
        "tasks_per_core": job.get("tasks_per_core") or INFINITE,
        "tasks_per_socket": job.get("tasks_per_socket") or INFINITE,
        "time_limit": INFINITE if flat["time_limit"] is None else flat["time_limit"],
    }
