"""(g) 许多个模拟的节点：不停地有作业可跑时，这台机器上每秒能调度、认领、结束多少个，饱和在哪里。"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from processes import ORDER, cpu_s, machine_cpu_s
from system import Failed, System
from workload import NOOP

PROCESSES = 2
CPUS = 8
WANTED_PER_NODE = 50
# 数组给够，量的时间里跑不完。
TASKS = 2_000_000
SETTLE_S = 5.0
REGISTER_WAIT_S = 120.0


@contextlib.contextmanager
def fake_nodes(
    environment: Mapping[str, str], scratch: Path, first: int, count: int, *words: str, cpus: int = CPUS
) -> Iterator[None]:
    """count 个模拟的节点，分在几个进程里；离开时停掉。words 是给 fake_nodes.py 的另外几个词。"""
    share = -(-count // PROCESSES)
    script = str(Path(__file__).with_name("fake_nodes.py"))
    processes = []
    try:
        for start in range(first, first + count, share):
            each = ["--first", str(start), "--count", str(min(share, first + count - start)), "--cpus", str(cpus)]
            with open(scratch / f"fake-{start}.log", "wb") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, script, *each, *words],
                        env={**os.environ, **environment, "SCNS_SINGLE_USER": "true"}, stdout=log, stderr=log,
                    )
                )  # fmt: skip
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _saturate(system: System, nodes: int, seconds: float) -> dict[str, Any]:
    before = system.last_job()
    found = system.call("POST", "/jobs/submit", {"job": {**system.job, "array": f"0-{TASKS - 1}"}, "script": NOOP})
    system.wait_until("开始跑", "SELECT count(*) > 0 FROM jobs WHERE state = 'COMPLETED' AND job_id > %s", before)
    time.sleep(SETTLE_S)
    cpu, (busy, total), began, done = (
        cpu_s(system),
        machine_cpu_s(),
        time.perf_counter(),
        system.completed_after(before),
    )
    time.sleep(seconds)
    completed, elapsed = system.completed_after(before) - done, time.perf_counter() - began
    used, (busy_after, total_after) = cpu_s(system) - cpu, machine_cpu_s()
    system.call("POST", f"/jobs/cancel/{found['job_id']}")
    system.wait_quiet(1.0)
    if not completed:
        raise Failed(f"{nodes} 个节点，{seconds:g} 秒里一个也没有跑完")
    return {
        "nodes": nodes,
        "wanted_per_s": nodes * WANTED_PER_NODE,
        "jobs_per_s": completed / elapsed,
        "cpu_cores": {kind: used[kind] / elapsed for kind in ORDER if used[kind]},
        "cpu_ms_per_job": {kind: used[kind] * 1000 / completed for kind in ORDER if used[kind]},
        "machine_busy": (busy_after - busy) / max(1e-9, total_after - total),
        "bottleneck": _bottleneck(used, elapsed, (busy_after - busy) / max(1e-9, total_after - total)),
    }


def _bottleneck(used: Mapping[str, float], elapsed: float, busy: float) -> str:
    """单线程的调度器占满一个核就是它；否则机器的核都忙就是 CPU 总量，并说谁用得最多。"""
    cores = os.cpu_count() or 1
    ours = sum(used.values()) / elapsed / cores
    most = max(used, key=lambda kind: used[kind])
    share = used[most] / sum(used.values())
    others = f"；别的程序也在用这台机器，占 {busy - ours:.0%}" if busy - ours > 0.1 else ""
    if used["调度器"] / elapsed > 0.85:
        return f"调度器（一个核占满）{others}"
    if busy > 0.9:
        return f"机器的 CPU（{cores} 核全忙，本系统的部分里 {most} 占 {share:.0%}）{others}"
    return f"没有占满 CPU（忙 {busy:.0%}）：等待往返，{most} 用得最多（{share:.0%}）{others}"


def measure(system: System, counts: list[int], seconds: float) -> list[dict[str, Any]]:
    """节点数逐次增加，各量 seconds 秒。真的那个节点先排空。"""
    name = system.value("SELECT name FROM nodes LIMIT 1")
    system.call("PATCH", f"/nodes/{name}", {"state": "DRAIN", "reason": "bench"})
    found = []
    with contextlib.ExitStack() as stack:
        have = 0
        for count in sorted(counts):
            more = fake_nodes(system.connections, system.scratch, have + 1, count - have, "--url", system.url)
            stack.enter_context(more)
            system.wait_until(
                f"{count} 个节点登记",
                "SELECT count(*) = %s FROM nodes WHERE name LIKE 'fake%%' AND state = 'UP'",
                count,
                wait_s=REGISTER_WAIT_S,
            )
            have = count
            found.append(_saturate(system, count, seconds))
            print(f"    {count} 个节点：{found[-1]['jobs_per_s']:.0f}/s，{found[-1]['bottleneck']}", file=sys.stderr)
    return found
