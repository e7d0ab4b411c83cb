#!/usr/bin/env python3
"""一千个空作业的 CPU 时间花在哪个进程上：python benchmarks/cpu.py。别的程序同时在跑也不大影响它。

读 /proc/PID/stat，作业前后相减；牧守进程等到的子进程（bash）单列一行。输出是 Markdown。
"""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from run import System, array_rate, separate_rate

JOBS = 1000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# 命令行里的字样 -> 表里的名字；按次序看，先合的算。
KINDS = (
    ("worker.shepherd", "shepherd"),
    ("worker.scheduler", "调度器"),
    ("worker.agent", "代理"),
    ("scns_conductor.api", "API"),
    ("postgres", "PostgreSQL"),
    ("valkey", "Valkey"),
)


def cpu_s(session: int, data: str) -> Counter[str]:
    """各类进程到现在为止的 CPU 秒；session 是 scns up 的进程号，只看它的后代与命令行里有 data 的（牧守进程）。"""
    found: Counter[str] = Counter()
    parents, facts = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(entry.name)] = int(fields[1])
        facts[int(entry.name)] = (command, int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))
    for pid, (command, own, children) in facts.items():
        ancestor = pid
        while ancestor not in (0, 1, session):
            ancestor = parents.get(ancestor, 0)
        if ancestor != session and data not in command:
            continue
        kind = next((name for word, name in KINDS if word in command), None)
        if kind is None:
            continue
        found["牧守进程" if kind == "shepherd" else kind] += own / TICKS_PER_S
        if kind == "shepherd":
            found["bash（作业本身）"] += children / TICKS_PER_S
    return found


def main() -> None:
    """数组与分别提交各跑一千个。"""
    scratch = Path(tempfile.mkdtemp(prefix="scns-cpu-"))
    system = System(scratch)
    try:
        array_rate(system, 200)
        used = []
        for run in (array_rate, separate_rate):
            before = cpu_s(system.process.pid, str(scratch))
            run(system, JOBS)
            used.append(cpu_s(system.process.pid, str(scratch)) - before)
    finally:
        system.stop()
        shutil.rmtree(scratch)
    print("| 进程 | 数组，毫秒/作业 | 分别提交，毫秒/作业 |\n|---|---|---|")
    for name in ("API", "PostgreSQL", "调度器", "Valkey", "代理", "牧守进程", "bash（作业本身）"):
        print(f"| {name} | {used[0][name] * 1000 / JOBS:.2f} | {used[1][name] * 1000 / JOBS:.2f} |")
    print(f"| 合计 | {used[0].total() * 1000 / JOBS:.2f} | {used[1].total() * 1000 / JOBS:.2f} |")


if __name__ == "__main__":
    main()
