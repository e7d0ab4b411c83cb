"""牧守进程单独能启动多少个空作业：各种约束各跑一遍，输出表格（--json 输出 JSON）。

用法：python benchmarks/shepherd.py [--jobs 1000] [--json]
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from scns_conductor.worker.agent.shepherd_client import ShepherdClient, start_shepherd
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import LaunchSpec

SLOTS = 64
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("不用 cgroup", "off", {}),
    ("freezer（圈住后代）", "auto", {}),
    ("freezer + pids（缺省）", "auto", {"pids_max": 5000}),
    ("freezer + pids + memory", "auto", {"pids_max": 5000, "memory_bytes": 2**30}),
    ("freezer + pids + cpuset", "auto", {"pids_max": 5000, "cpu_ids": sorted(os.sched_getaffinity(0))}),
    ("换用户（fork）", "auto", {"pids_max": 5000, "uid": 65534, "gid": 65534, "groups": []}),
]


def measure(containment: str, options: dict[str, Any], jobs: int) -> dict[str, float]:
    """jobs 个空脚本，同时至多 SLOTS 个；返回每秒个数、牧守进程每个作业的 CPU 微秒、常驻内存 KiB。"""
    with tempfile.TemporaryDirectory() as name:
        spool = Path(name)
        spool.chmod(0o755)
        slots, done = threading.Semaphore(SLOTS), threading.Event()
        ends: list[EndRecord] = []

        def collect(batch: list[EndRecord]) -> None:
            ends.extend(batch)
            slots.release(len(batch))
            if len(ends) == jobs:
                done.set()

        start_shepherd(spool, "bench", containment=containment)
        client = ShepherdClient.connect(spool, "bench", on_ends=collect)
        pid = client.hello().pid
        began = time.perf_counter()
        launched = 0
        while launched < jobs:
            slots.acquire()
            count = 1
            while launched + count < jobs and count < SLOTS and slots.acquire(blocking=False):
                count += 1
            client.launch([_spec(spool, launched + index, options) for index in range(count)])
            launched += count
        done.wait()
        elapsed = time.perf_counter() - began
        if any(end.cause != "exit" or end.exit_status for end in ends):
            raise SystemExit(f"有作业没有成功：{next(end for end in ends if end.exit_status)}")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        rss_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        client.ack(ends)
        client.shutdown(0)
        client.close()
        cpu_us = (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK") / jobs
        return {"jobs_per_s": round(jobs / elapsed), "shepherd_cpu_us": round(cpu_us), "rss_kb": rss_kb}


def _spec(spool: Path, job_id: int, options: dict[str, Any]) -> LaunchSpec:
    path = str(spool / f"job_{job_id}.sh")
    return LaunchSpec(
        job_id=job_id,
        attempt=0,
        step="batch",
        argv=["/bin/bash", path],
        env={"PATH": "/usr/bin:/bin", **{f"SLURM_VARIABLE_{index}": "value" * 3 for index in range(30)}},
        cwd="/",
        script="#!/bin/bash\ntrue\n",
        script_path=path,
        time_limit_s=60,
        **options,
    )


def main() -> None:
    """跑完全部情形并输出。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}
    for title, containment, options in CASES:
        if "uid" in options and os.geteuid() != 0:
            continue
        results[title] = measure(containment, options, arguments.jobs)
    if arguments.json:
        print(json.dumps(results, ensure_ascii=False))
        return
    print("| 约束 | 空作业/秒 | 牧守进程 CPU µs/作业 | 常驻内存 KiB |\n|---|---|---|---|")
    for title, row in results.items():
        print(f"| {title} | {row['jobs_per_s']} | {row['shepherd_cpu_us']} | {row['rss_kb']} |")


if __name__ == "__main__":
    main()
