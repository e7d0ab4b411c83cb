#!/usr/bin/env python3
"""很多个结束的作业在历史里（按月分区）时：列表、sacct、sreport、公平份额各要多久，数组多快；移进历史多快。

python benchmarks/retention.py --jobs 5000000 --months 36；作业直接写进分区；输出是 Markdown。
要的盘：每百万个约 1.1 GB（在 TMPDIR），再加一个月的 WAL。
"""

import argparse
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from running_system import RunningSystem, start_system, wait_until
from scns_conductor.statements.archive import partition_of
from scns_conductor.statements.retention import month_partitions
from scns_conductor.statements.usage import DECAYED_USAGE, decay_values

SCNS = str(Path(sys.executable).with_name("scns"))
USERS, ACCOUNTS, HALF_LIFE_S = 200, 20, 7 * 86400.0
# 一个人一口气交五十个：一小时里的用户不多，像真的。
_JOBS = """
    INSERT INTO history.jobs (job_id, name, user_name, account, partition, cpus_per_task, time_limit,
      current_working_directory, environment, script, state, submit_time, start_time, end_time, exit_status,
      exit_signal, node_list, batch_host, allocated_nodes, allocated_cpus, allocated_memory, cpu_user_s,
      max_rss_kb{extra})
    SELECT %(offset)s + i, 'h' || i %% 5000, 'user' || (i / 50) %% {users}, 'account' || (i / 50) %% {accounts}, 'main',
      1 + i %% 4, 3600, '/tmp', '{{"HOME": "/root"}}', E'#!/bin/sh\\n./run\\n',
      CASE WHEN i %% 50 = 0 THEN 'FAILED' ELSE 'COMPLETED' END, began - interval '10 minutes',
      began - interval '10 minutes', began, 0, 0, 'node1', 'node1', 1, 1 + i %% 4, 1024, 300, 100000{values}
    FROM (SELECT i, CAST(%(since)s AS timestamptz) + (CAST(%(until)s AS timestamptz) - CAST(%(since)s AS timestamptz))
      * (i::float8 / %(count)s) AS began FROM generate_series(0, %(count)s::bigint - 1) AS i) AS n
"""
_RECORDS = (
    "INSERT INTO history.resource_allocations (allocation_id, job_id, restart_count, node_name, node_index, cpus, "
    "memory, gres, tasks, lent_cpus, created_at, claimed_at, released_at, job_end) "
    "SELECT job_id + 1000000000000, job_id, 0, 'node1', 0, allocated_cpus, 1024, '{}', 1, 0, start_time, start_time, "
    "end_time, end_time FROM history.jobs WHERE end_time >= %(since)s AND end_time < %(until)s",
    "INSERT INTO history.job_events (event_id, job_id, restart_count, event_time, from_state, to_state, cause, actor, "
    "job_end) SELECT job_id + 1000000000000, job_id, 0, end_time, 'RUNNING', state, 'exit', 'agent@node1', end_time "
    "FROM history.jobs WHERE end_time >= %(since)s AND end_time < %(until)s",
    "INSERT INTO history.counts SELECT date_trunc('month', end_time, 'UTC'), state, count(*) FROM history.jobs "
    "WHERE end_time >= %(since)s AND end_time < %(until)s GROUP BY 1, 2",
)
# 与汇总同样的键；一个作业算在结束的那一小时。
_ROLLUPS = """
    INSERT INTO usage_rollups (period, start, account, user_name, partition, job_cpus, jobs, wall_s, cpu_s, memory_mb_s,
      node_s, wall_moment)
    SELECT '{period}', date_trunc('{period}', end_time, 'UTC'), account, user_name, partition, allocated_cpus, count(*),
      600 * count(*), 600 * sum(allocated_cpus), 600 * 1024 * count(*), 600 * count(*),
      600 * sum(extract(epoch FROM end_time - date_trunc('{period}', end_time, 'UTC')))
    FROM history.jobs WHERE end_time >= %(since)s AND end_time < %(until)s GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT DO NOTHING
"""
READS = {
    "GET /jobs（最近 100 个）": "/jobs",
    "GET /jobs?limit=1000": "/jobs?limit=1000",
    "GET /jobs?state=FAILED": "/jobs?state=FAILED",
    "GET /jobs?state=PENDING": "/jobs?state=PENDING",
    "GET /jobs?user=user7": "/jobs?user=user7",
    "GET /jobs?user=user7&sort=-end_time": "/jobs?user=user7&sort=-end_time",
    "GET /jobs?account=account3": "/jobs?account=account3",
    "GET /jobs?name=h77": "/jobs?name=h77",
    "GET /jobs?sort=-end_time": "/jobs?sort=-end_time",
    "GET /jobs?sort=user_name": "/jobs?sort=user_name",
    "GET /jobs?end_after=now-1day": "/jobs?end_after=now-1day",
    "GET /jobs?user=nobody": "/jobs?user=nobody",
    "GET /jobs/{历史里的}": "/jobs/{old}",
    "GET /jobs/query/{历史里的}": "/jobs/query/{old}",
    "GET /jobs/{历史里的}/events": "/jobs/{old}/events",
    "GET /dashboard": "/dashboard",
    "GET /reports/usage（一个月）": "/reports/usage?since=now-30day",
    "GET /reports/usage（一年）": "/reports/usage?since=now-365day",
    "GET /reports/usage/series（一年，每天）": "/reports/usage/series?since=now-365day&by=account",
    "GET /reports/efficiency（一天）": "/reports/efficiency?since=now-1day",
}


def months_back(count: int) -> list[tuple[datetime, datetime]]:
    """到这个月为止的 count 个月；最后一个到一小时之前。"""
    now = datetime.now(UTC)
    edges = [datetime(now.year, now.month, 1, tzinfo=UTC)]
    for _ in range(count - 1):
        first = edges[-1]
        edges.append(first.replace(year=first.year - (first.month == 1), month=(first.month - 2) % 12 + 1))
    edges.reverse()
    return list(zip(edges, [*edges[1:], now.replace(minute=0, second=0, microsecond=0)], strict=True))


def fill(database: "psycopg.Connection[Any]", jobs: int, months: int, first: int) -> None:
    """一个月一个月地写进分区；作业号从 first 起。"""
    done = 0
    spans = months_back(months)
    for index, (since, until) in enumerate(spans):
        count = jobs // months
        with database.transaction():
            created = month_partitions(since)
            for statement in created[::2]:
                database.execute(statement)
            values = {"offset": first + done, "since": since, "until": until, "count": count}
            text = _JOBS.format(users=USERS, accounts=ACCOUNTS, extra=_extra(database)[0], values=_extra(database)[1])
            database.execute(_into(text, since), values)
            for statement in _RECORDS[:2]:
                database.execute(_into(statement, since), values)
            # 写完了才挂上：索引成批地建，快得多。
            for statement in created[1::2]:
                database.execute(statement)
            for statement in (*_RECORDS[2:], *(_ROLLUPS.format(period=name) for name in ("hour", "day", "month"))):
                database.execute(statement, values)
        done += count
        print(f"  {index + 1}/{months}", file=sys.stderr, flush=True)
    database.execute("SELECT setval('jobs_job_id_seq', %s)", [first + done + 1000])
    for table in ("history.jobs", "history.resource_allocations", "history.job_events", "usage_rollups"):
        database.execute(f"ANALYZE {table}")


def _into(text: str, month: datetime) -> str:
    return re.sub(r"history\.(\w+)", lambda found: partition_of(found[1], month), text)


def _extra(database: "psycopg.Connection[Any]") -> tuple[str, str]:
    """别的不许空的列：取平常的表的缺省值。"""
    known = _JOBS.partition("(")[2].partition("{extra}")[0]
    names = {name.strip() for name in known.split(",")}
    rows = database.execute(
        "SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute AS a JOIN pg_attrdef AS d "
        "ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = 'public.jobs'::regclass AND a.attnotnull "
        "AND a.attidentity = ''"
    ).fetchall()
    wanted = [(name, default) for name, default in rows if name not in names]
    return "".join(f', "{name}"' for name, _ in wanted), "".join(f", {default}" for _, default in wanted)


def timed(action: Callable[[], object], times: int = 7) -> float:
    """中位数，毫秒；先做两次。"""
    took = []
    for index in range(times + 2):
        began = time.perf_counter()
        action()
        if index >= 2:
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def array_rate(system: RunningSystem, tasks: int) -> float:
    """一个空作业的数组，每秒几个。"""
    began = time.perf_counter()
    job = system.submit("#!/bin/sh\n:\n", array=f"0-{tasks - 1}", standard_output="/dev/null")
    wait_until(
        lambda: system.call("GET", f"/jobs/arrays?job_id={job}")[1]["arrays"][0]["done"] == tasks, 600, "数组做完"
    )
    return tasks / (time.perf_counter() - began)


def fair_share(database: "psycopg.Connection[Any]") -> None:
    """公平份额重算一次要的那一条。"""
    values = {**decay_values(time.time(), HALF_LIFE_S), "none": "-"}
    text = str(DECAYED_USAGE).replace("%", "%%").replace("\\:", ":")
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f":{name}", f"%({name})s")
    database.execute(text, values).fetchall()


def moving(database: "psycopg.Connection[Any]", url: str, first: int, count: int) -> float:
    """从 first 起的 count 个结束的作业移进历史，每秒几个。"""
    for table in ("jobs", "resource_allocations", "job_events"):
        columns = ", ".join(
            f'"{row[0]}"'
            for row in database.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
                [f"public.{table}"],
            ).fetchall()
        )
        database.execute(
            f"WITH moved AS (DELETE FROM history.{table} WHERE job_id BETWEEN %s AND %s RETURNING *) "
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM moved",
            [first, first + count - 1],
        )
    began = time.perf_counter()
    subprocess.run([SCNS, "db", "retention", "run"], check=True, env={**os.environ, "SCNS_DATABASE_URL": url},
                   capture_output=True, timeout=300)  # fmt: skip
    return count / (time.perf_counter() - began)


def main() -> None:
    """写进去，量一遍。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_500_000, help="几个作业")
    parser.add_argument("--months", type=int, default=36, help="分在几个月里")
    parser.add_argument("--tasks", type=int, default=1000, help="量数组时几个任务")
    parser.add_argument("--moved", type=int, default=20_000, help="量移动时移几个")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="scns-retention-") as folder,
        start_system(Path(folder) / "data", "--nodes", "1", "--cpus", "4", "--memory", "8G") as system,
    ):
        words = shlex.split((system.data_dir / "environment").read_text())
        url = dict(word.partition("=")[::2] for word in words if "=" in word)["SCNS_DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as database:
            report(system, database, url, options)


def report(system: RunningSystem, database: "psycopg.Connection[Any]", url: str, options: argparse.Namespace) -> None:
    """打印几张表。"""
    rows: dict[str, list[float]] = {}
    rates: list[float] = []

    def measure(marks: dict[str, int]) -> None:
        for name, template in READS.items():
            path = template.format(**marks)
            rows.setdefault(name, []).append(timed(lambda path=path: system.call("GET", path)))  # type: ignore[misc]
        rows.setdefault("公平份额重算的语句", []).append(timed(lambda: fair_share(database)))
        array_rate(system, 100)
        rates.append(max(array_rate(system, options.tasks) for _ in range(3)))

    job = system.submit("true\n")
    system.wait_state(job, "COMPLETED")
    measure({"old": int(job)})
    began = time.perf_counter()
    last = database.execute("SELECT max(job_id) FROM jobs").fetchone()
    assert last is not None
    first = last[0] + 1
    fill(database, options.jobs, options.months, first)
    spent = time.perf_counter() - began
    database.execute("CHECKPOINT")
    measure({"old": first + options.jobs // 2})
    size = database.execute("SELECT pg_database_size(current_database())").fetchone()
    rolled = database.execute("SELECT count(*) FROM usage_rollups").fetchone()
    assert size is not None
    assert rolled is not None
    print(f"{options.jobs} 个，{options.months} 个月，写了 {spent:.0f} 秒，库 {size[0] / 2**30:.1f} GiB，"
          f"汇总 {rolled[0]} 行，负载 {os.getloadavg()[0]:.0f}\n")  # fmt: skip
    print("| 读 | 空的（毫秒） | 满的（毫秒） |\n|---|---|---|")
    for name, (empty, full) in rows.items():
        print(f"| {name} | {empty:.1f} | {full:.1f} |")
    print(f"\n数组（{options.tasks} 个空作业，三次里最快的）：空的每秒 {rates[0]:.0f} 个，满的 {rates[1]:.0f} 个")
    rate = moving(database, url, first, options.moved)
    print(f"\n移进历史：{options.moved} 个，{rate:.0f} 个/秒", flush=True)
    wait_until(lambda: system.call("GET", "/jobs?limit=1")[0] == 200, 30, "还答话")


if __name__ == "__main__":
    main()
