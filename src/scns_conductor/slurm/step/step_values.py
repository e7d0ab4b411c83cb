"""API 的一个作业步 -> sacct、squeue -s、scontrol show step、sstat 要显示的值。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.times import duration, instant

_BATCH = 500
Step = Mapping[str, Any]


def steps_of(client: JsonClient, jobs: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
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
        "step_time_limit": step["time_limit"],
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


def live_steps(client: JsonClient, job_id: str | None = None) -> list[dict[str, Any]]:
    """正在运行的作业步；运行中的作业各有 batch（没有脚本的是 extern），在它的步之前。"""
    try:
        jobs = list(client.jobs(state="RUNNING,SUSPENDED", sort="job_id", job_id=job_id))
    except Problem as problem:
        if problem.status != 404:
            raise
        jobs = []
    launched = steps_of(client, jobs)
    found = []
    for job in jobs:
        name = of.holder_step(job)
        first = str(job["batch_host"] or job["node_list"])
        holder = {
            **job, "step": f"{job['job_id']}.{name}", "step_id": name, "name": name, "tasks": 1, "node_list": first,
            "nodes": [first], "node_cpus": [0], "cpus_per_task": 0, "time_limit": None, "deadline": None,
        }  # fmt: skip
        mine = [step for step in launched.get(str(job["job_id"]), ()) if step["end_time"] is None]
        found += [*([holder] if name == "batch" else []), *mine]
    return found


def ports_text(ports: Sequence[int] | None) -> str:
    """保留的端口是挨着的几个。"""
    return f"{ports[0]}-{ports[-1]}" if ports else "(null)"


def control_text(step: Step, *, one_line: bool) -> str:
    """scontrol show step 的一块。"""
    holder = step["step_id"] in ("batch", "extern")
    cpus = sum(step["node_cpus"]) or int(step["tasks"]) * int(step["cpus_per_task"])
    lines = [
        f"StepId={step['step']} UserId={of.user_ids(step['user_name'])[0]} StartTime={instant(step['start_time'])}"
        f" TimeLimit={duration(of.limit_s(step))}",
        f"State={step['state']} Partition={step['partition']} NodeList={step['node_list']}",
        f"Nodes={len(step['nodes'])} CPUs={cpus} Tasks={step['tasks']} Name={step['name']} Network=(null)",
        "TRES=(null)" if holder else f"TRES=cpu={cpus},node={len(step['nodes'])}",
        f"ResvPorts={ports_text(step.get('reserved_ports'))}",
        "CPUFreqReq=Default" if holder else "CPUFreqReq=Default Dist=Block",
        "SrunHost:Pid=(null):0",
    ]
    return (" " if one_line else "\n   ").join(lines)
