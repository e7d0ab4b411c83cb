"""线上系统自己：作业的历史与节点（API 的 JSON）-> 踪迹与机器。怎样取来是调用者的事。"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.simulator.history import history_trace
from scns_conductor.simulator.machine import UNCOUNTED_MEMORY_MB, NodeGroup
from scns_conductor.simulator.trace import Trace

# 重放用得到的作业字段（GET /jobs 的 fields）。
JOB_FIELDS = (
    *("job_id", "state", "user_name", "account", "submit_time", "start_time", "end_time", "suspended_s", "time_limit"),
    *("tasks", "cpus_per_task", "allocated_cpus", "allocated_nodes", "allocated_memory", "allocated_gres"),
)


def live_trace(rows: Iterable[Mapping[str, Any]], source: str) -> Trace:
    """GET /jobs 的作业 -> 踪迹；没有结束、从未运行的跳过并计数。"""
    return history_trace(rows, source)


def live_machine(nodes: Iterable[Mapping[str, Any]]) -> tuple[NodeGroup, ...]:
    """GET /nodes 的节点 -> 机器；同样的节点合成一组，停着的也算（机器本来有多大）。"""
    groups: Counter[tuple[int, int, int]] = Counter()
    for node in nodes:
        gpus = sum(int(count) for name, count in (node.get("gres") or {}).items() if name.split(":")[0] == "gpu")
        groups[int(node["cpus"]), int(node.get("memory") or 0) or UNCOUNTED_MEMORY_MB, gpus] += 1
    return tuple(NodeGroup(count, cpus, memory, gpus) for (cpus, memory, gpus), count in groups.items())
