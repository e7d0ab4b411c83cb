#!/usr/bin/env python3
"""按名字一次保留、放行、取消两万个作业要多久：API、scontrol 与 scancel、scns 各一遍。

python benchmarks/bulk.py [--jobs 20000] [--rounds 1]；作业都还没有到开始的时刻，不跑。目标：每一项不到 2 秒。
每一项旁边写着那时的负载与系统用掉的 CPU 秒（命令自己的不算）：机器忙，墙上时间就长，CPU 差不多。
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from processes import cpu_s
from system import Failed, System, running_system
from workload import NOOP

BATCH = 10_000
NAME = "crowd"
TARGET_S = 2.0
SCNS = (sys.executable, "-c", "from scns_conductor.cli.main import main; main()")
HELD, WAITING, CANCELLED = "hold IS NOT NULL", "hold IS NULL", "state = 'CANCELLED'"


def submit(system: System, jobs: int) -> list[str]:
    """名为 NAME、一小时之后才轮到的作业；它们的号。"""
    job = {**system.job, "name": NAME, "begin_time": "now+1hour"}
    ids: list[str] = []
    for first in range(0, jobs, BATCH):
        many = [{"job": job, "script": NOOP}] * min(BATCH, jobs - first)
        ids += system.call("POST", "/jobs/submit/batch", {"jobs": many})["job_ids"]
    return ids


def left(system: System, what: str) -> int:
    """还有几个不是这样。"""
    return int(
        system.value(
            f"SELECT count(*) FROM jobs WHERE name = %s AND state <> 'CANCELLED' AND NOT coalesce({what}, false)", NAME
        )
    )


def command(system: System, *words: str) -> Callable[[], None]:
    """执行一条命令；失败抛 Failed。"""

    def run() -> None:
        done = subprocess.run(words, env=system.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{words[:3]}：{done.stderr[-500:]}")

    return run


def api(system: System, action: str) -> Callable[[], None]:
    """一个请求。"""
    return lambda: system.call("POST", "/jobs/control", {"action": action, "conditions": {"name": NAME}})


def acts(system: System, folder: Path, ids: list[str]) -> list[tuple[str, Callable[[], None], str]]:
    """(名字，做法，做完之后是什么)；末尾是取消。"""
    scontrol = str(folder / "scontrol")
    return [
        ("API 保留（按名字）", api(system, "hold"), HELD),
        ("API 放行", api(system, "release"), WAITING),
        ("`scontrol hold 名字`", command(system, scontrol, "hold", NAME), HELD),
        ("`scontrol release 名字`", command(system, scontrol, "release", NAME), WAITING),
        # 全部的号写在命令行上：也是一个请求。
        ("`scns hold 号……`", command(system, *SCNS, "hold", *ids), HELD),
        ("`scns release 号……`", command(system, *SCNS, "release", *ids), WAITING),
    ]


def cancels(system: System, folder: Path) -> list[tuple[str, Callable[[], None]]]:
    """取消的几种做法，各要一批新的作业。"""
    return [
        ("API 取消（按名字）", api(system, "cancel")),
        ("`scancel -n 名字`", command(system, str(folder / "scancel"), "-n", NAME)),
        ("`scns cancel --all`", command(system, *SCNS, "cancel", "--all")),
    ]


def measure(system: System, name: str, act: Callable[[], None], after: str) -> dict[str, object]:
    """做一次；没有全部做到抛 Failed。"""
    system.wait_until("收件箱空了", "SELECT NOT EXISTS (SELECT FROM scheduler_inbox)")
    load, before, began = os.getloadavg()[0], cpu_s(system), time.perf_counter()
    act()
    took = time.perf_counter() - began
    used = sum((cpu_s(system) - before).values())
    missed = left(system, after)
    if missed:
        raise Failed(f"{name}：还有 {missed} 个不是 {after}")
    row: dict[str, object] = {"name": name, "seconds": round(took, 2), "cpu_s": round(used, 2), "load": round(load, 1)}
    print(row, file=sys.stderr, flush=True)
    return row


def main() -> int:
    """逐项量，打印 Markdown 的表；退出码 1：有一项超过目标。"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="另存成 JSON")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="scns-bulk-"))
    rows: list[dict[str, object]] = []
    try:
        with running_system(scratch, "bulk", cpus=4) as system:
            folder = scratch / "slurm"
            install = [*SCNS, "slurm", "install", "--prefix", str(folder)]
            subprocess.run(install, check=True, capture_output=True)
            for _ in range(options.rounds):
                ids = submit(system, options.jobs)
                rows += [measure(system, *each) for each in acts(system, folder, ids)]
                for index, (name, act) in enumerate(cancels(system, folder)):
                    if index:
                        submit(system, options.jobs)
                    rows.append(measure(system, name, act, CANCELLED))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{options.jobs} 个作业：\n\n| 做什么 | 秒 | 系统的 CPU 秒 | 那时的负载 |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['seconds']} | {row['cpu_s']} | {row['load']} |")
    if options.json:
        options.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    return int(any(float(str(row["seconds"])) > TARGET_S for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
