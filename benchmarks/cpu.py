#!/usr/bin/env python3
"""一千个空作业的 CPU 时间花在哪个进程上：python benchmarks/cpu.py。别的程序同时在跑也不大影响它。

读 /proc/PID/stat，作业前后相减；牧守进程等到的子进程（bash）单列一行。输出是 Markdown。
"""

import shutil
import tempfile
from pathlib import Path

from processes import ORDER, cpu_s
from system import running_system
from workload import array_rate, separate_rate

JOBS = 1000


def main() -> None:
    """数组与分别提交各跑一千个。"""
    scratch = Path(tempfile.mkdtemp(prefix="scns-cpu-"))
    try:
        with running_system(scratch, "cpu") as system:
            array_rate(system, 200)
            used = []
            for run in (array_rate, separate_rate):
                before = cpu_s(system)
                run(system, JOBS)
                used.append(cpu_s(system) - before)
    finally:
        shutil.rmtree(scratch)
    print("| 进程 | 数组，毫秒/作业 | 分别提交，毫秒/作业 |\n|---|---|---|")
    for name in ORDER:
        if any(each[name] for each in used):
            print(f"| {name} | {used[0][name] * 1000 / JOBS:.2f} | {used[1][name] * 1000 / JOBS:.2f} |")
    print(f"| 合计 | {used[0].total() * 1000 / JOBS:.2f} | {used[1].total() * 1000 / JOBS:.2f} |")


if __name__ == "__main__":
    main()
