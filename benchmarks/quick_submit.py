#!/usr/bin/env python3
"""单个提交的近路（api/quick_submit.py）今天省多少：两个 API 进程连同一个数据库，一个有近路，一个没有，轮流量。

python benchmarks/quick_submit.py [--rounds 5] [--jobs 4000]；作业都保留着不跑。
CPU 读 /proc/PID/stat，别的程序在跑也不大影响。
"""

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from system import Failed, System, Wire, running_system
from workload import CLIENTS, NOOP, in_threads, submission

START_WAIT_S = 60.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_WITHOUT = """
from scns_conductor.api import app
app.QuickSubmit = lambda inner: inner
"""
_SERVE = """
from scns_conductor.api.__main__ import main
main()
"""


@contextlib.contextmanager
def api(system: System, *, quick: bool) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """另一个 API 进程与它的端口。"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", ("" if quick else _WITHOUT) + _SERVE],
            env={
                **os.environ, **system.connections, "SCNS_DATA_DIR": str(system.data),
                "SCNS_SINGLE_USER": "true", "SCNS_API_FD": str(listener.fileno()),
            },
            pass_fds=[listener.fileno()],
        )  # fmt: skip
        port = listener.getsockname()[1]
        try:
            deadline = time.monotonic() + START_WAIT_S
            while True:
                wire = Wire("127.0.0.1", port, system.token)
                try:
                    wire.request("GET", "/health/live")
                    break
                except (Failed, OSError):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                finally:
                    wire.close()
            yield process, port
        finally:
            process.terminate()
            process.wait(30)


def cpu_s(pid: int) -> float:
    """进程用掉的 CPU 秒。"""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * _TICK_S


def measure(system: System, pid: int, port: int, jobs: int) -> tuple[float, float]:
    """(每秒几个，API 每个几毫秒 CPU)。"""
    body = submission({**system.job, "name": "held", "hold": True}, NOOP)
    wires = [Wire("127.0.0.1", port, system.token) for _ in range(CLIENTS)]

    def submit(wire: Wire) -> None:
        for _ in range(jobs // CLIENTS):
            wire.request("POST", "/jobs/submit", body)

    before, began = cpu_s(pid), time.perf_counter()
    in_threads([lambda wire=wire: submit(wire) for wire in wires])  # type: ignore[misc]
    elapsed, used = time.perf_counter() - began, cpu_s(pid) - before
    for wire in wires:
        wire.close()
    done = jobs // CLIENTS * CLIENTS
    return done / elapsed, used * 1000 / done


def main() -> None:
    """轮流量，末尾是中位数。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=4000)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="scns-quick-"))
    found: dict[str, list[tuple[float, float]]] = {"有": [], "没有": []}
    try:
        with (
            running_system(scratch, "quick") as system,
            api(system, quick=True) as fast,
            api(system, quick=False) as slow,
        ):
            for process, port in (fast, slow):
                measure(system, process.pid, port, 800)
            for _ in range(options.rounds):
                for name, (process, port) in (("有", fast), ("没有", slow)):
                    found[name].append(measure(system, process.pid, port, options.jobs))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("| 近路 | 个/秒（各轮） | API 毫秒/个（各轮） | 中位数 |\n|---|---|---|---|")
    for name, rounds in found.items():
        rates, costs = zip(*rounds, strict=True)
        print(
            f"| {name} | {'、'.join(f'{rate:.0f}' for rate in rates)} | {'、'.join(f'{cost:.3f}' for cost in costs)} "
            f"| {statistics.median(rates):.0f}，{statistics.median(costs):.3f} |"
        )


if __name__ == "__main__":
    main()
