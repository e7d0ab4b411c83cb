"""分区自己的 SuspendTime、SuspendTimeout、ResumeTimeout 换到节点上。"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scns_conductor.core.hostlist import expand

NEVER = -1
_FIELDS = ("suspend_time", "suspend_timeout", "resume_timeout")


def node_times(partitions: Iterable[Any], every: Callable[[], Iterable[str]]) -> dict[str, Sequence[int | None]]:
    """节点 -> 那三样（秒；没有哪个分区写的是 None）。

    几个分区都有的，以最长的为准（同 Slurm）；suspend_time 的 -1（从不关）最长。every 是全部节点的名字，用到才问。
    """
    found: dict[str, list[int | None]] = {}
    for row in partitions:
        values = [getattr(row, name) for name in _FIELDS]
        for node in every() if row.nodes == "ALL" else expand(row.nodes):
            own = found.setdefault(node, [None, None, None])
            for index, value in enumerate(values):
                if value is not None and (own[index] is None or _length(value) > _length(own[index])):
                    own[index] = value
    return dict(found)


def _length(seconds: int | None) -> float:
    return float("inf") if seconds == NEVER else float(seconds or 0)
