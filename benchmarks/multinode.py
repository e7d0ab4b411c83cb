"""(i) 多节点的作业，从提交到结束：脚本里用 srun 在 2 到 4 个节点上各起两个任务，核对每个任务都跑了一次。"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from system import Failed, System

NODES = 4
CPUS = 16
TASKS_PER_NODE = 2
SCRIPT = "#!/bin/bash\nsrun bash -c 'echo task $SLURM_PROCID of $SLURM_NTASKS'\n"


def _job(system: System, prefix: Path, nodes: int, output: str) -> dict[str, Any]:
    return {
        **system.job,
        "name": f"mpi{nodes}",
        "minimum_nodes": nodes,
        "ntasks_per_node": TASKS_PER_NODE,
        "standard_output": output,
        "time_limit": "5",
        "environment": {"PATH": f"{prefix}:{os.environ['PATH']}"},
    }


def _check(system: System, output: str, nodes: int) -> None:
    path = system.scratch / output
    wanted = sorted(f"task {rank} of {nodes * TASKS_PER_NODE}" for rank in range(nodes * TASKS_PER_NODE))
    found = sorted(path.read_text().splitlines()) if path.exists() else []
    if found != wanted:
        raise Failed(f"{nodes} 个节点的作业的输出不对：{found}，应是 {wanted}")


def measure(system: System, times: int, burst: int) -> dict[str, Any]:
    """每种节点数逐个跑 times 次的秒数；一次提交 burst 个的每秒作业数与任务数。"""
    prefix = system.scratch / "slurm-bin"
    scns = str(Path(sys.executable).with_name("scns"))
    subprocess.run([scns, "slurm", "install", "--prefix", str(prefix)], check=True, capture_output=True, timeout=60)
    single: dict[str, list[float]] = {}
    for nodes in range(2, NODES + 1):
        took = []
        for index in range(times):
            output = f"out-{nodes}-{index}"
            before, began = system.last_job(), time.perf_counter()
            system.call("POST", "/jobs/submit", {"job": _job(system, prefix, nodes, output), "script": SCRIPT})
            system.wait_completed(before, 1, wait_s=60)
            took.append(time.perf_counter() - began)
            _check(system, output, nodes)
        single[str(nodes)] = took
    counts = [2 + index % (NODES - 1) for index in range(burst)]
    jobs = [
        {"job": _job(system, prefix, nodes, f"burst-{index}"), "script": SCRIPT} for index, nodes in enumerate(counts)
    ]
    before, began = system.last_job(), time.perf_counter()
    system.call("POST", "/jobs/submit/batch", {"jobs": jobs})
    system.wait_completed(before, burst)
    elapsed = time.perf_counter() - began
    for index, nodes in enumerate(counts):
        _check(system, f"burst-{index}", nodes)
    return {
        "single_s": single,
        "single_median_s": {nodes: median(took) for nodes, took in single.items()},
        "burst_jobs": burst,
        "burst_jobs_per_s": burst / elapsed,
        "burst_tasks_per_s": sum(counts) * TASKS_PER_NODE / elapsed,
    }
