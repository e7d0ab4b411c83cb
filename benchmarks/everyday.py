"""(k) 人们真正在跑的：有内存上限与时限、有自己的脚本与输出文件的作业，槽从很多到与核一样多；旁边是对手。

单独量（改一处之后看 CPU 花在哪里）：python benchmarks/everyday.py --slots 2 --jobs 500 --rounds 1
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers import HyperQueue, xargs_rate
from processes import ORDER, cpu_s
from system import System, running_system
from workload import NOOP, array_rate

ALL = {"memory_per_node": "16M", "time_limit": "5", "standard_error": "err-{index}"}
KINDS: dict[str, dict[str, str]] = {
    "bare": {},
    "memory_1g": {"memory_per_node": "1G"},
    "memory_16m": {"memory_per_node": "16M"},
    "time_limit": {"time_limit": "5"},
    "all": ALL,
}
ARRAYS: dict[str, dict[str, str]] = {"array": {}, "array_limits": {"memory_per_node": "100M", "time_limit": "5"}}
Told = Callable[[str], None]


def batch_rate(system: System, jobs: int, **options: str) -> float:
    """每秒跑完几个：一批提交 jobs 个分别的作业，各有自己的脚本与输出文件。"""
    entries = []
    for index in range(jobs):
        own = {name: value.format(index=index) for name, value in options.items()}
        job = {**system.job, "name": f"k{index}", "standard_output": f"out-{index}", **own}
        entries.append({"job": job, "script": f"{NOOP}# {index}\n"})
    body, wire = json.dumps({"jobs": entries}).encode(), system.wire()
    before, began = system.last_job(), time.perf_counter()
    wire.request("POST", "/jobs/submit/batch", body)
    system.wait_completed(before, jobs)
    elapsed = time.perf_counter() - began
    wire.close()
    return jobs / elapsed


def measure_slots(scratch: Path, slots: int, jobs: int, rounds: int, tell: Told, *, peer: bool) -> dict[str, Any]:
    """一种槽数：各轮里 xargs、HyperQueue 与各种作业轮流。"""
    found: dict[str, Any] = {"xargs": [], "rates": {}, "cpu_ms": {}}
    folder = Path(tempfile.mkdtemp(prefix=f"slots{slots}-", dir=scratch))
    cluster = HyperQueue(folder, slots) if peer and HyperQueue.missing() is None else None
    try:
        with running_system(folder, "k", cpus=slots) as system:
            array_rate(system, 100)
            for _ in range(rounds):
                found["xargs"].append(xargs_rate(folder, jobs))
                if cluster is not None:
                    found.setdefault("hyperqueue_separate", []).append(cluster.separate_rate(jobs))
                    found.setdefault("hyperqueue_array", []).append(cluster.task_rate(jobs))
                for kind, options in {**KINDS, **ARRAYS}.items():
                    before = cpu_s(system)
                    rate = (array_rate if kind in ARRAYS else batch_rate)(system, jobs, **options)
                    used = cpu_s(system) - before
                    found["rates"].setdefault(kind, []).append(rate)
                    found["cpu_ms"][kind] = {name: used[name] * 1000 / jobs for name in ORDER if used[name]}
                    tell(f"    {slots} 槽 {kind} {rate:.0f}/s")
    finally:
        if cluster is not None:
            cluster.close()
    return found


def measure(
    scratch: Path, slots: Sequence[int], jobs: int, rounds: int, tell: Told, *, peer: bool = True
) -> dict[str, Any]:
    """各种槽数，依次。"""
    each = {str(count): measure_slots(scratch, count, jobs, rounds, tell, peer=peer) for count in slots}
    return {"jobs": jobs, "slots": each}


def main() -> None:
    """只量本系统，打印每秒个数与各进程每个作业的 CPU 毫秒。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", default="2", help="几个槽，如 64,8,2")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="scns-everyday-"))
    scratch.chmod(0o755)
    counts = [int(word) for word in options.slots.split(",")]
    try:
        found = measure(scratch, counts, options.jobs, options.rounds, lambda _line: None, peer=False)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for slots, each in found["slots"].items():
        sys.stdout.write(f"{slots} 槽，xargs {max(each['xargs']):.0f}/s\n")
        for kind, rates in each["rates"].items():
            spent = each["cpu_ms"][kind]
            words = "  ".join(f"{name} {value:.2f}" for name, value in spent.items())
            sys.stdout.write(f"  {kind:13}{max(rates):6.0f}/s  合计 {sum(spent.values()):.2f} ms: {words}\n")


if __name__ == "__main__":
    main()
