"""reservations 的一行 -> 调度核心的预留。纯函数。"""

import math
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from scns_conductor.core.hostlist import expand
from scns_conductor.core.recurrence import occurrences
from scns_conductor.core.reservation_flags import floated
from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster_facts import PartitionFacts
from scns_conductor.scheduling.job_requirements import license_pools

# 重复的预留算到以后这么多次，再往后的当作一直占着：到了时刻会重算。
MOST_OCCURRENCES = 14


def advance_reservation(
    row: Mapping[str, Any], users: frozenset[str], partitions: Mapping[str, PartitionFacts], now: datetime
) -> AdvanceReservation | None:
    """一行 -> now 之后的它；已经结束的是 None。users 是许用的用户，组里的也在其中；时刻都带时区。"""
    # 浮动的以分钟计：不必每看一次都算变了。
    span = floated(row["start_time"], row["end_time"], row["flags"], now.replace(second=0, microsecond=0))
    following = iter([span]) if span else occurrences(row["start_time"], row["end_time"], row["flags"], now)
    spans = [(start.timestamp(), end.timestamp()) for start, end in islice(following, MOST_OCCURRENCES)]
    if not spans:
        return None
    if len(spans) == MOST_OCCURRENCES:
        spans[-1] = (spans[-1][0], math.inf)
    nodes: frozenset[str] | None = frozenset()
    if "PART_NODES" in row["flags"]:
        nodes = partitions[row["partition"]].nodes if row["partition"] in partitions else nodes
    elif row["nodes"]:
        nodes = None if row["nodes"] == "ALL" else frozenset(expand(row["nodes"]))
    return AdvanceReservation(
        row["name"],
        *spans[0],
        nodes,
        users,
        frozenset(row["accounts"]),
        license_pools(row["licenses"]),
        tuple(spans[1:]),
        "MAINT" in row["flags"],
        "FLEX" in row["flags"],
        "MAGNETIC" in row["flags"],
        tuple(sorted((row["node_cpus"] or {}).items())),
    )
