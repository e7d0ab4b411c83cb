"""(f) 一百万个结束的作业、十万个排队的作业：直接写进数据库（连同事件、分配、部分输出），然后量各种读有多快。"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from system import Failed, System

WARM_UP = 5
SQUEUE_TIMES = 5

_FINISHED = """
    INSERT INTO jobs (name, user_name, account, partition, tasks, cpus_per_task, time_limit, current_working_directory,
      standard_output, environment, script, state, reason, submit_time, eligible_time, start_time, end_time,
      exit_status, exit_signal, node_list, batch_host, allocated_nodes, allocated_cpus, cpu_user_s, max_rss_kb)
    SELECT 'h' || i %% 5000, 'user' || i %% 200, 'account' || i %% 20, %(partition)s, 1, 1 + i %% 8, 3600, '/tmp',
      'out-' || i, '{"PATH": "/usr/bin:/bin", "HOME": "/root"}', E'#!/bin/bash\\nexec ./run ' || i || E'\\n',
      CASE WHEN i %% 50 = 0 THEN 'FAILED' WHEN i %% 70 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END, 'None',
      began, began, began + interval '5 s', began + interval '65 s', CASE WHEN i %% 50 = 0 THEN 1 ELSE 0 END, 0,
      %(node)s, %(node)s, 1, 1 + i %% 8, i %% 100, 10000 + i %% 50000
    FROM (SELECT i, clock_timestamp() - make_interval(secs => 20 * (%(total)s - i)) AS began
          FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i) AS n
"""
_EVENTS = """
    INSERT INTO job_events (job_id, event_time, from_state, to_state, cause, actor)
    SELECT job_id, at, before, after, cause, actor FROM jobs AS j, LATERAL (VALUES
      (j.submit_time, NULL, 'PENDING', 'submit', j.user_name),
      (j.start_time, 'PENDING', 'RUNNING', 'start', 'scheduler'),
      (j.end_time, 'RUNNING', j.state, 'exit', 'agent@' || j.batch_host)) AS e(at, before, after, cause, actor)
    WHERE j.job_id > %(after)s
"""
_ALLOCATIONS = """
    INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, tasks, created_at,
      claimed_at, released_at)
    SELECT job_id, 0, batch_host, 0, allocated_cpus, 0, 1, start_time, start_time, end_time FROM jobs
    WHERE job_id > %(after)s
"""
_OUTPUTS = """
    INSERT INTO job_outputs (job_id, restart_count, stream, path, content, total_bytes)
    SELECT job_id, 0, 'stdout', '/tmp/out', convert_to(repeat('line of output ' || job_id || E'\\n', 20), 'UTF8'), 500
    FROM jobs WHERE job_id > %(after)s AND job_id %% 10 = 0
"""
PER_TRANSACTION = 100_000
# 名字 -> 路径；{pending}、{finished} 换成作业号。
READS = {
    "GET /jobs（最近 100 个）": "/jobs",
    "GET /jobs?limit=1000": "/jobs?limit=1000",
    "GET /jobs?state=PENDING": "/jobs?state=PENDING",
    "GET /jobs?state=PENDING&sort=submit_time": "/jobs?state=PENDING&sort=submit_time",
    "GET /jobs?state=RUNNING": "/jobs?state=RUNNING",
    "GET /jobs?state=FAILED": "/jobs?state=FAILED",
    "GET /jobs?state=FAILED,CANCELLED": "/jobs?state=FAILED,CANCELLED",
    "GET /jobs?user=user7": "/jobs?user=user7",
    "GET /jobs?user=user7&state=FAILED": "/jobs?user=user7&state=FAILED",
    "GET /jobs?user=nobody（没有作业的人）": "/jobs?user=nobody",
    "GET /jobs?state=PENDING,RUNNING,SUSPENDED": "/jobs?state=PENDING,RUNNING,SUSPENDED",
    "GET /jobs?state=FAILED,TIMEOUT&sort=job_id": "/jobs?state=FAILED,TIMEOUT&sort=job_id",
    "GET /jobs?user=user7&sort=-end_time": "/jobs?user=user7&sort=-end_time",
    "GET /jobs?user=nobody&sort=-submit_time": "/jobs?user=nobody&sort=-submit_time",
    "GET /jobs?account=account3": "/jobs?account=account3",
    "GET /jobs?name=h77": "/jobs?name=h77",
    "GET /jobs?partition=main": "/jobs?partition=main",
    "GET /jobs?partition=nosuch（没有的分区）": "/jobs?partition=nosuch",
    "GET /jobs?qos=nosuch（没有的 QOS）": "/jobs?qos=nosuch",
    "GET /jobs?sort=-end_time": "/jobs?sort=-end_time",
    "GET /jobs?sort=name": "/jobs?sort=name",
    "GET /jobs?end_after=now-1hour&sort=-end_time": "/jobs?end_after=now-1hour&sort=-end_time",
    "GET /jobs?start_after=now-1hour": "/jobs?start_after=now-1hour",
    "GET /jobs?node=（一个节点上的）": "/jobs?node={node}",
    "GET /jobs/{排队的}": "/jobs/{pending}",
    "GET /jobs/{结束的}": "/jobs/{finished}",
    "GET /jobs/query/{排队的}": "/jobs/query/{pending}",
    "GET /jobs/query/{结束的}": "/jobs/query/{finished}",
    "GET /jobs/{结束的}/events": "/jobs/{finished}/events",
    "GET /dashboard": "/dashboard",
    "GET /nodes": "/nodes",
    "GET /partitions": "/partitions",
}


def fill(system: System, finished: int) -> float:
    """写进 finished 个结束的作业，ANALYZE；返回用了几秒。"""
    node = system.value("SELECT name FROM nodes LIMIT 1")
    partition = system.value("SELECT name FROM partitions WHERE is_default")
    began = time.perf_counter()
    for first in range(1, finished + 1, PER_TRANSACTION):
        last = min(first + PER_TRANSACTION - 1, finished)
        values = {"first": first, "last": last, "total": finished, "node": node, "partition": partition}
        with system.database.transaction():
            values["after"] = system.last_job()
            for statement in (_FINISHED, _EVENTS, _ALLOCATIONS, _OUTPUTS):
                system.database.execute(statement, values)
    system.database.execute("VACUUM (ANALYZE) jobs, job_events, resource_allocations, job_outputs")
    system.database.execute("CHECKPOINT")
    return time.perf_counter() - began


def measure(system: System, finished: int, times: int) -> dict[str, Any]:
    """每种读 times 次，毫秒；squeue 与 sacct 各几次，秒。"""
    fill_s = fill(system, finished)
    marks = {
        "node": system.value("SELECT name FROM nodes LIMIT 1"),
        "pending": system.value("SELECT max(job_id) FROM jobs WHERE state = 'PENDING'"),
        "finished": system.value("SELECT max(job_id) FROM jobs WHERE state = 'COMPLETED'"),
    }
    rows = dict(system.database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
    reads, slow = {}, {}
    wire = system.wire()
    for name, template in READS.items():
        path = template.format(**marks)
        took = []
        for index in range(WARM_UP + times):
            began = time.perf_counter()
            wire.request("GET", path)
            took.append((time.perf_counter() - began) * 1000)
            # 一页要一秒以上的，少量几次，不拖长整个运行。
            if sum(took) > 20_000 and index > 2 * WARM_UP:
                break
        reads[name] = took[WARM_UP:]
        print(f"    {name}: {sorted(took)[len(took) // 2]:.1f} ms", file=sys.stderr, flush=True)
    wire.close()
    for name, words in _commands(system).items():
        slow[name] = [_timed(words, system) for _ in range(SQUEUE_TIMES)]
    return {"rows": rows, "fill_s": fill_s, "reads_ms": reads, "commands_s": slow}


def _commands(system: System) -> dict[str, list[str]]:
    folder = system.scratch / "slurm-bin"
    scns = str(Path(sys.executable).with_name("scns"))
    subprocess.run([scns, "slurm", "install", "--prefix", str(folder)], check=True, capture_output=True, timeout=60)
    return {
        "squeue（全部）": [str(folder / "squeue")],
        "squeue -h -t PD -o %i": [str(folder / "squeue"), "-h", "-t", "PD", "-o", "%i"],
        "squeue -u nobody（没有作业的人）": [str(folder / "squeue"), "-u", "nobody"],
        "sacct -X -a -S now-1hour": [str(folder / "sacct"), "-X", "-a", "-S", "now-1hour"],
    }


def _timed(words: list[str], system: System) -> float:
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, env=system.environment, timeout=300, check=False)
    if done.returncode != 0:
        raise Failed(f"{Path(words[0]).name}：{done.stderr[:300].decode(errors='replace')}")
    return time.perf_counter() - began
