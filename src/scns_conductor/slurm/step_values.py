"""API 的一个作业步 -> sacct、squeue -s、scontrol show step、sstat 要显示的值。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.client import Client
from scns_conductor.slurm.times import instant

_BATCH = 500
Step = Mapping[str, Any]


def steps_of(client: Client, jobs: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """这些作业的作业步：作业号 -> 按步号。"""
    found: dict[str, list[dict[str, Any]]] = {}
    started = [str(job["job_id"]) for job in jobs if job.get("start_time")]
    for first in range(0, len(started), _BATCH):
        for step in client.steps(started[first : first + _BATCH]):
            found.setdefault(str(step["job_id"]), []).append(step)
    return found


def accounting_row(job: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """sacct 的一行：作业的各列换成这一步的。"""
    return {
        **job,
        "step": str(step["step_id"]),
        "name": step["name"],
        "step_tasks": step["tasks"],
        "state": step["state"],
        "start_time": step["start_time"],
        "end_time": step["end_time"],
        "suspended_s": 0,
        "node_list": step["node_list"],
        "allocated_nodes": len(step["nodes"]),
        "allocated_cpus": sum(step["node_cpus"]) or step["tasks"] * step["cpus_per_task"],
        "exit_status": step["exit_status"],
        "exit_signal": step["exit_signal"],
        "cpu_user_s": step["cpu_user_s"],
        "cpu_system_s": step["cpu_system_s"],
        "max_rss_kb": step["max_rss_kb"],
        "read_bytes": None,
        "written_bytes": None,
    }


def control_text(step: Step, *, one_line: bool) -> str:
    """scontrol show step 的一块。"""
    cpus = sum(step["node_cpus"]) or step["tasks"] * step["cpus_per_task"]
    lines = [
        f"StepId={step['step']} UserId={step['user_name']} StartTime={instant(step['start_time'])} TimeLimit=UNLIMITED",
        f"State={step['state']} Partition={step['partition']} NodeList={step['node_list']}",
        f"Nodes={len(step['nodes'])} CPUs={cpus} Tasks={step['tasks']} Name={step['name']} Network=(null)",
        f"TRES=cpu={cpus},node={len(step['nodes'])}",
        "CPUFreqReq=Default Dist=Block",
    ]
    return (" " if one_line else "\n   ").join(lines)
