"""(e) 十万个排队的作业压在前面，量 (b) 与 (c)，与没有积压的一个系统轮流；同时量调度器为每个排队的作业占多少内存。

前面的都要整个节点，一个运行着的长作业占着一个 CPU，所以它们都受阻；后来的小作业靠回填在其余 CPU 上跑。
"""

import json
import time
from typing import Any

from processes import memory
from system import SLOTS, System
from workload import NOOP, latencies_ms, separate_rate, submission

PER_REQUEST = 10_000
# 排队的作业的几种要求：常见的情形是形状不多。
SHAPES = 10
SMALL = {"time_limit": "1"}


def fill(system: System, pending: int) -> float:
    """经 API 提交 pending 个受阻的作业，等调度器都看到；返回用了几秒。"""
    script = f"{NOOP}sleep infinity\n"
    wire = system.wire()
    wire.request("POST", "/jobs/submit", submission({**system.job, "name": "blocker", "time_limit": "7200"}, script))
    system.wait_until(
        "占着 CPU 的作业运行", "SELECT EXISTS (SELECT FROM jobs WHERE name = 'blocker' AND state = 'RUNNING')"
    )
    began = time.perf_counter()
    for first in range(0, pending, PER_REQUEST):
        jobs = [
            {
                "job": {
                    **system.job, "name": f"p{index % 1000}", "cpus_per_task": SLOTS,
                    "time_limit": str(60 * (1 + index % SHAPES)),
                },
                "script": f"{NOOP}# {index}\n",
            }
            for index in range(first, min(first + PER_REQUEST, pending))
        ]  # fmt: skip
        wire.request("POST", "/jobs/submit/batch", json.dumps({"jobs": jobs}).encode())
    wire.close()
    system.wait_until("调度器取走收件箱", "SELECT NOT EXISTS (SELECT FROM scheduler_inbox)")
    system.wait_until(
        "每个排队的作业都有原因", "SELECT NOT EXISTS (SELECT FROM jobs WHERE state = 'PENDING' AND reason = 'None')"
    )
    return time.perf_counter() - began


def measure(system: System, bare: System, jobs: int, latencies: int, pending: int, rounds: int) -> dict[str, Any]:
    """(b)、(c) 在有积压的 system 与没有的 bare 上轮流量，机器一时快一时慢两边都摊上；以及调度器的内存。"""
    for each in (system, bare):
        separate_rate(each, jobs // 2, **SMALL)
    system.wait_quiet(5.0)
    before = memory(system)["调度器"]
    fill_s = fill(system, pending)
    time.sleep(5)
    after = memory(system)
    found: dict[str, dict[str, list[float]]] = {key: {"separate": [], "latency_ms": []} for key in ("idle", "loaded")}
    for _ in range(rounds):
        for key, each in (("idle", bare), ("loaded", system)):
            found[key]["separate"].append(separate_rate(each, jobs, **SMALL))
            found[key]["latency_ms"] += latencies_ms(each, -(-latencies // rounds), **SMALL)
    return {
        "pending": pending,
        "fill_s": fill_s,
        **found,
        "scheduler_rss_kb": [before.rss_kb, after["调度器"].rss_kb],
        "bytes_per_pending_job": (after["调度器"].rss_kb - before.rss_kb) * 1024 / pending,
        "memory": {kind: {"pss_kb": each.pss_kb, "rss_kb": each.rss_kb} for kind, each in after.items()},
    }
