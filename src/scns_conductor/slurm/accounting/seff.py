"""seff：一个作业用掉的 CPU 与内存占它要的几成（Slurm 的 contribs/seff）。"""

import sys
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.core.gres import gpu_total
from scns_conductor.slurm.parse.options import flags, hints
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.step.step_values import steps_of
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.job_tres import memory_total
from scns_conductor.slurm.table.times import duration, elapsed_s

OPTIONS = [*flags("-h --help", "-v --version"), *hints(flags("-d --debug"))]
_USAGE = "Usage: seff [Options] <Jobid>"


def main(words: list[str]) -> int:
    """没有这个作业：Job not found.，退出码 1。"""
    parsed = parse_or_exit("seff", words, OPTIONS)
    if "help" in parsed:
        print(_USAGE)
        return 0
    if "version" in parsed:
        print("seff Version 2.1")
        return 0
    if len(parsed.arguments) != 1:
        print(_USAGE, file=sys.stderr)
        return 1
    with connect() as client:
        try:
            found = list(client.jobs(job_id=parsed.arguments[0], sort="-job_id", most=1))
        except Problem as problem:
            if problem.status != 404:
                raise
            found = []
        if not found:
            raise Fatal("Job not found.", prefix=None)
        print("\n".join(_lines(client, found[0])))
    return 0


def _lines(client: JsonClient, job: dict[str, Any]) -> list[str]:
    _, _, group = of.user_ids(job["user_name"])
    lines = [f"Job ID: {job['job_id']}"]
    if job.get("array_job_id") is not None and job.get("array_task_id") is not None:
        lines.append(f"Array Job ID: {job['array_job_id']}_{job['array_task_id']}")
    lines += [f"Cluster: {of.cluster_name()}", f"User/Group: {job['user_name']}/{group}"]
    ended = job["state"] not in of.ACTIVE
    lines.append(f"State: {job['state']}" + (f" (exit code {job['exit_status'] or 0})" if ended else ""))
    cores, nodes = of.cpus(job), max(1, of.nodes(job))
    lines += [f"Cores: {cores}"] if cores == 1 else [f"Nodes: {nodes}", f"Cores per node: {cores // nodes}"]
    if not job.get("start_time"):
        return [*lines, f"Efficiency not available for jobs in the {job['state']} state."]
    parts = [job, *steps_of(client, [job]).get(str(job["job_id"]), ())]
    used = max(_cpu(job), sum(_cpu(part) for part in parts[1:]))
    wall = elapsed_s(job) * cores
    lines += [
        f"CPU Utilized: {duration(used)}",
        f"CPU Efficiency: {_percent(used, wall)} of {duration(wall)} core-walltime",
        f"Job Wall-clock time: {duration(elapsed_s(job))}",
    ]
    peak = max(int(part.get("max_rss_kb") or 0) for part in parts)
    wanted = int(job.get("allocated_memory") or 0) * 1024 or memory_total(job) * 1024
    guess = " (estimated maximum)" if int(job["tasks"]) > 1 else ""
    lines.append(f"Memory Utilized: {_size(peak)}{guess}")
    each = f" ({_size(wanted / nodes)}/node)"
    lines.append(f"Memory Efficiency: {_percent(peak, wanted)} of {_size(wanted)}{each}")
    lines += _gpu_lines(job)
    if not ended:
        lines.append("WARNING: Efficiency statistics may be misleading for RUNNING jobs.")
    return lines


def _gpu_lines(job: dict[str, Any]) -> list[str]:
    """有卡、采到了才有。"""
    gpus = gpu_total(job.get("allocated_gres"))
    if not gpus or job.get("gpu_s") is None:
        return []
    busy, wall = float(job["gpu_s"]), elapsed_s(job) * gpus
    lines = [
        f"GPU Utilized: {duration(busy)}",
        f"GPU Efficiency: {_percent(busy, wall)} of {duration(wall)} gpu-walltime",
    ]
    if job.get("max_gpu_memory_mb") is not None:
        lines.append(f"GPU Memory Utilized: {_size(int(job['max_gpu_memory_mb']) * 1024)}")
    if job.get("gpu_energy_j") is not None:
        lines.append(f"GPU Energy: {float(job['gpu_energy_j']) / 1000:.2f} kJ")
    return lines


def _cpu(part: dict[str, Any]) -> float:
    return float(part.get("cpu_user_s") or 0) + float(part.get("cpu_system_s") or 0)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.2f}%"


def _size(kilobytes: float) -> str:
    """KiB -> 1.50 GB。"""
    for unit in ("KB", "MB", "GB", "TB"):
        if kilobytes < 1024 or unit == "TB":
            return f"{kilobytes:.2f} {unit}"
        kilobytes /= 1024
    raise AssertionError
