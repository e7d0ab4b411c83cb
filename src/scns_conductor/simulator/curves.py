"""几个结果并排画的曲线：同样的时刻，占用的 CPU 与排队的作业数。"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scns_conductor.simulator.metrics import Columns, averages, busy_cpus, queue_length, started_columns
from scns_conductor.simulator.report import PolicyResult
from scns_conductor.simulator.workload import TraceJob


def shared_curves(
    outcomes: Sequence[tuple[Sequence[TraceJob], PolicyResult]], points: int
) -> tuple[float, float, list[dict[str, Any]]]:
    """（从何时，到何时，各结果的 {cpus, queue}）：分成 points 格，每格是时间平均；都没有启动时是 (0, 0, 空的)。"""
    columns = [started_columns(jobs, result.starts, result.ends, result.ran_s)[1] for jobs, result in outcomes]
    present = [each for each in columns if len(each.submit_s)]
    if not present:
        return 0.0, 0.0, [{"cpus": [], "queue": []} for _ in outcomes]
    since = min(float(each.submit_s.min()) for each in present)
    until = max(since + 1.0, *(float(each.end_s.max()) for each in present))
    edges = np.linspace(since, until, points + 1)
    return since, until, [_curves(each, edges) for each in columns]


def _curves(columns: Columns, edges: "np.typing.NDArray[np.float64]") -> dict[str, Any]:
    if not len(columns.submit_s):
        return {"cpus": [], "queue": []}
    return {
        name: [round(float(value), 2) for value in averages(steps(columns), edges)]
        for name, steps in (("cpus", busy_cpus), ("queue", queue_length))
    }
