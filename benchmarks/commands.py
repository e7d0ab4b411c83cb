#!/usr/bin/env python3
"""命令自己要多少 CPU：空系统上各命令从头到尾；十万个排队的与结束的作业时 squeue、sacct 与服务器各多少。

python benchmarks/commands.py [--jobs N] [--times N]。都是 CPU 毫秒（user + sys）的中位数（最少），输出是 Markdown。
目标：各命令 80 毫秒以内，squeue 十万行 800，sacct -X 十万行 1000（连同服务器）。
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from processes import cpu_s
from system import Failed, System, running_system

STARTS = [
    ["sbatch", "--version"],
    ["squeue"],
    ["sinfo"],
    ["sacct"],
    ["scontrol", "show", "node"],
    ["scns", "jobs"],
    ["scns", "nodes"],
]
LISTINGS = [["squeue"], ["squeue", "-h", "-t", "PD", "-o", "%i"]]
RECORDS = [["sacct", "-X", "-a"], ["sacct", "-X", "-a", "-n", "-P", "-o", "jobid,state,exitcode"]]
PER_REQUEST = 10_000


def spent_ms(words: Sequence[str], environment: dict[str, str]) -> float:
    """这个命令的 CPU 毫秒。"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, env=environment, timeout=600, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise Failed(f"{words[0]}：{done.stderr[:300].decode(errors='replace')}")
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def row(system: System, words: Sequence[str], paths: dict[str, str], times: int) -> None:
    """量一个命令，打印一行：客户端，与服务器（API 与 PostgreSQL）。"""
    own, served = [], []
    for _ in range(times):
        before = cpu_s(system)
        own.append(spent_ms([paths[words[0]], *words[1:]], system.environment))
        served.append((cpu_s(system) - before).total() * 1000)
    own.sort()
    served.sort()
    cells = [f"{each[times // 2]:.0f}（{each[0]:.0f}）" for each in (own, served)]
    print(f"| `{' '.join(words)}` | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """空的、排着队的、结束了的，依次。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    # 装好的系统有编译过的模块；没有的话量的是编译。
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    scratch = Path(tempfile.mkdtemp(prefix="scns-commands-"))
    try:
        with running_system(scratch, "commands") as system:
            scns = str(Path(sys.executable).with_name("scns"))
            folder = scratch / "bin"
            subprocess.run([scns, "slurm", "install", "--prefix", str(folder)], check=True, capture_output=True)
            paths = {words[0]: str(folder / words[0]) for words in STARTS} | {"scns": scns}
            print("| 命令 | 自己，CPU 毫秒：中位数（最少） | 服务器同时 |\n|---|---|---|")
            for words in STARTS:
                row(system, words, paths, options.times)
            fill(system, options.jobs)
            for words in LISTINGS:
                row(system, words, paths, max(3, options.times // 3))
            system.call("POST", "/jobs/control", {"action": "cancel", "conditions": {"state": "PENDING"}})
            system.wait_until("都取消了", "SELECT NOT EXISTS (SELECT FROM jobs WHERE state = 'PENDING')")
            for words in RECORDS:
                row(system, words, paths, max(3, options.times // 3))
    finally:
        shutil.rmtree(scratch)


def fill(system: System, jobs: int) -> None:
    """这么多个保留着的作业。"""
    wire = system.wire()
    for first in range(0, jobs, PER_REQUEST):
        entries = [
            {"job": {**system.job, "name": f"list-{number}", "hold": True, "time_limit": "10"}, "script": "#!/bin/sh\n"}
            for number in range(first, min(jobs, first + PER_REQUEST))
        ]
        wire.request("POST", "/jobs/submit/batch", json.dumps({"jobs": entries}).encode())
    wire.close()
    system.database.execute("VACUUM (ANALYZE) jobs")
    # 调度器看完了它们，量的才只是命令的。
    system.wait_quiet()


if __name__ == "__main__":
    main()
