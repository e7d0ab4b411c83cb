"""(h) 各进程的内存：刚起来时、跑过一部分之后、跑过全部（缺省十万个）之后；没有漏就不再长。"""

import sys
import time
from typing import Any

from processes import Memory, memory
from system import System
from workload import array_rate, separate_rate

STEPS = 5
# 让 PostgreSQL 的各后端、各进程的缓存都热起来。
WARM_UP = 2000
IDLE_S = 5.0


def _snapshot(system: System, jobs: int) -> dict[str, Any]:
    system.wait_quiet(IDLE_S)
    found: dict[str, Memory] = memory(system)
    return {
        "jobs": jobs,
        "memory": {
            kind: {"pss_kb": each.pss_kb, "rss_kb": each.rss_kb, "processes": each.processes}
            for kind, each in found.items()
        },
    }


def measure(system: System, jobs: int) -> dict[str, Any]:
    """跑 jobs 个，分 STEPS 段（各一个数组），每段之后静下来记一次；也给出各段的速率。"""
    snapshots = [_snapshot(system, 0)]
    array_rate(system, WARM_UP)
    separate_rate(system, WARM_UP // 2)
    done, rates = WARM_UP + WARM_UP // 2, []
    snapshots.append(_snapshot(system, done))
    for _ in range(STEPS):
        began = time.perf_counter()
        rates.append(array_rate(system, jobs // STEPS))
        done += jobs // STEPS
        snapshots.append(_snapshot(system, done))
        print(f"    {done} 个：{rates[-1]:.0f}/s（{time.perf_counter() - began:.0f} 秒）", file=sys.stderr, flush=True)
    return {"snapshots": snapshots, "rates": rates}
