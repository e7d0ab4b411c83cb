#!/usr/bin/env python3
"""许多个代理连着一个 Debian 的 PostgreSQL：会话、事务、流量、内存随节点数怎样。

python benchmarks/agents.py --nodes 25,50,100,200 [--pooled]；输出是 Markdown 的表行，docs/database.md 里的数就是它。
真的代理各一个进程，各有牧守进程，由一个导入好了的进程 fork 出来，省去二百次导入；代理的内存量的是另起的 node1。
--simulated 的没有进程（fake_nodes.py），每个节点一条自己的会话，心跳、核对、认领、结束是真的语句；几千个要它。
"""

import argparse
import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from nodes import fake_nodes
from processes import machine_cpu_s

from debian_postgres import DebianPostgres, bouncer, debian_postgres, deployed_system
from running_system import RunningSystem, free_port, wait_until
from scns_conductor.local.child import PR_SET_PDEATHSIG
from scns_conductor.local.engines import running_engines

UP_WAIT_S = 600.0
SETTLE_S = 10.0
BURST_PER_NODE = 5
POOL = 20


@dataclass(frozen=True, slots=True)
class Reading:
    """一个时刻的累计数：事务，套接字上的字节（服务器一侧）。"""

    at: float
    transactions: int
    bytes_out: int
    bytes_in: int


def fork_agents(first: int, count: int) -> None:
    """fork 出 count 个代理，名字 a<号>，等到被要求停下。在一个自己的进程里跑。"""
    import scns_conductor.core.settings  # noqa: F401  各代理读设置时就不必再导入
    from scns_conductor.worker.agent import process as agent

    children = []
    base = Path(os.environ["SCNS_DATA_DIR"])
    for number in range(first, first + count):
        child = os.fork()
        if child == 0:
            name = f"a{number}"
            os.environ |= {"SCNS_NODE_NAME": name, "SCNS_SPOOL_DIR": str(base / "spool" / name)}
            # 父亲没了就停下，连同自己的牧守进程。
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGUSR1))
            try:
                agent.main()
            finally:
                os._exit(0)
        children.append(child)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for child in children:
        os.kill(child, signal.SIGUSR1)
    for child in children:
        os.waitpid(child, 0)


@contextlib.contextmanager
def agents(scratch: Path, environment: Mapping[str, str], first: int, count: int) -> Iterator[None]:
    """再加 count 个真的；离开时停掉。"""
    words = [sys.executable, __file__, "--fork", str(first), str(count)]
    with open(scratch / f"agents-{first}.log", "wb") as log:
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(300)


def up(look: "psycopg.Connection[tuple[int]]") -> int:
    """在线的节点。"""
    row = look.execute("SELECT count(*) FROM nodes WHERE state = 'UP'").fetchone()
    assert row is not None
    return row[0]


def reading(look: "psycopg.Connection[tuple[int]]", port: int) -> Reading:
    """此刻。字节由内核的 TCP_INFO 给，只数还连着的会话。"""
    row = look.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    told = subprocess.run(["ss", "-tinH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    sent = sum(map(int, re.findall(r"bytes_sent:(\d+)", told)))
    received = sum(map(int, re.findall(r"bytes_received:(\d+)", told)))
    return Reading(time.monotonic(), row[0], sent, received)


def pss_mb(pid: int) -> tuple[float, float]:
    """（RSS，PSS），MiB。"""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    return int(found["Rss"]) / 1024, int(found["Pss"]) / 1024


def backends_mb(server: DebianPostgres) -> tuple[int, float]:
    """（进程，PSS 合计 MiB）：服务器与它的全部会话。"""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    sizes = []
    for pid in [server.pid, *map(int, children)]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            sizes.append(pss_mb(pid)[1])
    return len(sizes), sum(sizes)


def row(system: RunningSystem, server: DebianPostgres, port: int, nodes: int, seconds: float) -> str:
    """等到都在线，静着量 seconds 秒，再跑一个每节点几个任务的数组；一行。"""
    with psycopg.connect(server.url("scns"), autocommit=True) as look:
        wait_until(lambda: up(look) >= nodes, UP_WAIT_S, f"{nodes} 个节点上线")
        time.sleep(SETTLE_S)
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'scns' AND pid <> pg_backend_pid()"
        (busy, total), before, counts = machine_cpu_s(), reading(look, port), []
        while time.monotonic() < before.at + seconds:
            time.sleep(1)
            counts.append(look.execute(sessions).fetchone()[0])
        after, (busy_after, total_after) = reading(look, port), machine_cpu_s()
        assert up(look) >= nodes, "有节点不在线了：心跳跟不上"
        elapsed = after.at - before.at
        memory = backends_mb(server)[1]
        job = system.submit("#!/bin/sh\n", array=f"0-{nodes * BURST_PER_NODE - 1}", standard_output="/dev/null")
        began, most = time.monotonic(), 0
        left = "SELECT count(*) FROM jobs WHERE end_time IS NULL AND (job_id = %(id)s OR array_job_id = %(id)s)"
        while look.execute(left, {"id": int(job)}).fetchone() != (0,):
            most = max(most, look.execute(sessions).fetchone()[0])
            assert time.monotonic() < began + UP_WAIT_S
            time.sleep(0.2)
        spent, end = time.monotonic() - began, reading(look, port)
    per_job = (end.transactions - after.transactions) / (nodes * BURST_PER_NODE)
    used = (busy_after - busy) / max(1e-9, total_after - total)
    rate = (after.transactions - before.transactions) / elapsed
    traffic = (after.bytes_in - before.bytes_in + after.bytes_out - before.bytes_out) / elapsed / 1024
    return (
        f"| {nodes} | {sum(counts) / len(counts):.0f} | {most} | {rate:.1f}"
        f" | {traffic:.1f} | {memory:.0f} | {used:.0%} | {nodes * BURST_PER_NODE / spent:.0f} | {per_job:.1f} |"
    )


def measure(
    scratch: Path, counts: list[int], seconds: float, *, pooled: bool, simulated: bool, heartbeat_s: float
) -> None:
    """节点数逐次增加。"""
    options = lambda _: [f"max_connections={100 if pooled else max(counts) * 2 + 60}"]  # noqa: E731
    with contextlib.ExitStack() as stack:
        engines = stack.enter_context(running_engines(scratch / "engines"))
        server = stack.enter_context(debian_postgres(options, tcp_port=free_port()))
        server.execute("CREATE DATABASE scns")
        direct = f"postgresql://scns@127.0.0.1:{server.port}/scns"
        settings = {"SCNS_CONTAINMENT": "off", "SCNS_AGENT_METRICS": "", "SCNS_SCHEDULER_METRICS": ""}
        settings |= {"SCNS_HEARTBEAT_INTERVAL_S": f"{heartbeat_s:g}"}
        settings |= {"SCNS_RECONCILE_INTERVAL_S": f"{2 * heartbeat_s:g}"}
        url, port = direct, server.port
        if pooled:
            port, clients = free_port(), max(counts) * 3 + 100
            url = stack.enter_context(bouncer(server, "scns", "transaction", POOL, clients=clients, tcp_port=port))
            settings["SCNS_DATABASE_DIRECT_URL"] = direct
        system = stack.enter_context(
            deployed_system(scratch / "system", url, engines.redis_url, cpus=4, settings=settings)
        )
        environment = {
            **settings, "SCNS_DATABASE_URL": url, "SCNS_REDIS_URL": engines.redis_url, "SCNS_SINGLE_USER": "true",
            "SCNS_DATA_DIR": str(system.data_dir), "SCNS_SCRIPT_DIR": str(system.data_dir / "scripts"),
            "SCNS_ALLOW_ROOT_JOBS": "true", "SCNS_NODE_CPUS": "4", "SCNS_NODE_MEMORY": "8G", "SCNS_URL": system.url,
        }  # fmt: skip
        print("| 节点 | 会话 | 最多 | 事务/秒 | 流量 KiB/秒 | 服务器 PSS MiB | 机器忙 | 作业/秒 | 事务/作业 |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        have = 1
        for count in sorted(counts):
            more = (
                fake_nodes(environment, system.data_dir, have, count - have, "--own-sessions", cpus=4)
                if simulated
                else agents(system.data_dir, environment, have, count - have)
            )
            stack.enter_context(more)
            have = count
            print(row(system, server, port, count, seconds), flush=True)
        agent = next(pid for pid in _agents(system.data_dir))
        print("node1 的代理（RSS，PSS）MiB：", *(f"{size:.0f}" for size in pss_mb(agent)), flush=True)


def _agents(data_dir: Path) -> Iterator[int]:
    """另起的那个代理。"""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, where = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
            if b"worker.agent.process" in words and f"SCNS_DATA_DIR={data_dir}\0".encode() in where:
                yield int(path.name)


def main() -> None:
    """见模块的说明。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="25,50,100,200", help="节点数，逗号分隔")
    parser.add_argument("--seconds", type=float, default=20.0, help="每种静着量多久")
    parser.add_argument("--simulated", action="store_true", help="没有进程的节点，每个一条会话")
    parser.add_argument("--heartbeat", type=float, default=5.0, help="心跳的间隔，秒；核对的是它的两倍")
    parser.add_argument("--pooled", action="store_true", help=f"经事务模式的 PgBouncer（{POOL} 条）")
    parser.add_argument("--fork", nargs=2, type=int, metavar=("FIRST", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fork:
        fork_agents(*options.fork)
        return
    # 被停下也要把起了的都停掉。
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    counts = [int(word) for word in options.nodes.split(",")]
    scratch = Path(tempfile.mkdtemp(prefix="scns-agents-"))
    try:
        measure(
            scratch, counts, options.seconds,
            pooled=options.pooled, simulated=options.simulated, heartbeat_s=options.heartbeat,
        )  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
