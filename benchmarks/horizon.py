#!/usr/bin/env python3
"""一个很久的查询留着快照（报表、pg_dump）时：热表涨多少，调度周期慢多少。几段交替：没有、有、有、没有。

python benchmarks/horizon.py --jobs 12500；输出是 Markdown 的表行，docs/database.md 里的数就是它。
"""

import argparse
import re
import shlex
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psycopg

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from running_system import RunningSystem, free_port, start_system, wait_until

HOT = ("jobs", "nodes", "resource_allocations", "scheduler_inbox", "scheduler_leader")
CYCLES = re.compile(r"^scns_scheduler_cycle_seconds_(sum|count)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
END_WAIT_S = 3600.0


def cycles(port: int) -> tuple[float, float]:
    """到现在为止的周期：合计多少秒，多少个。"""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        found = dict(CYCLES.findall(answer.read().decode()))
    return float(found["sum"]), float(found["count"])


def sizes(connection: "psycopg.Connection[tuple[int]]") -> dict[str, float]:
    """热表连同索引，MiB。"""
    rows = {name: connection.execute("SELECT pg_total_relation_size(%s)", [name]).fetchone() for name in HOT}
    return {name: row[0] / 2**20 for name, row in rows.items() if row is not None}


def part(
    system: RunningSystem, port: int, connection: "psycopg.Connection[tuple[int]]", jobs: int, pinned: bool
) -> str:
    """跑一段，返回一行。"""
    before, small = cycles(port), sizes(connection)
    began = time.perf_counter()
    job_id = system.submit("#!/bin/sh\n", array=f"0-{jobs - 1}", standard_output="/dev/null")
    query = "SELECT count(*) FROM jobs WHERE end_time IS NULL AND (job_id = %(id)s OR array_job_id = %(id)s)"
    wait_until(lambda: connection.execute(query, {"id": int(job_id)}).fetchone() == (0,), END_WAIT_S, "都结束")
    spent = time.perf_counter() - began
    after, large = cycles(port), sizes(connection)
    count = after[1] - before[1]
    grown = "，".join(f"{name} +{large[name] - small[name]:.1f}" for name in HOT)
    mean_ms = (after[0] - before[0]) / count * 1000
    return f"| {'有' if pinned else '没有'} | {jobs} | {jobs / spent:.0f} | {count:.0f} | {mean_ms:.2f} | {grown} |"


def main() -> None:
    """跑四段。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=12_500, help="一段多少个作业")
    options = parser.parse_args()
    port = free_port()
    metrics = {"SCNS_SCHEDULER_METRICS": f"127.0.0.1:{port}"}
    size = ("--nodes", "4", "--cpus", "8", "--memory", "16G")
    with (
        tempfile.TemporaryDirectory(prefix="scns-horizon-") as folder,
        start_system(Path(folder) / "data", *size, environment=metrics) as system,
    ):
        words = shlex.split((system.data_dir / "environment").read_text())
        url = dict(word.partition("=")[::2] for word in words)["SCNS_DATABASE_URL"]
        print("| 快照 | 作业 | 个/秒 | 周期 | 一个周期（毫秒） | 热表（MiB） |\n|---|---|---|---|---|---|")
        with psycopg.connect(url, autocommit=True) as connection, psycopg.connect(url) as report:
            part(system, port, connection, 500, False)
            for pinned in (False, True, True, False):
                if pinned:
                    report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    report.execute("SELECT count(*) FROM jobs")
                print(part(system, port, connection, options.jobs, pinned), flush=True)
                if pinned:
                    report.rollback()


if __name__ == "__main__":
    main()
