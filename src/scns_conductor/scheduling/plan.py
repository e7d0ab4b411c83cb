"""计划的结果：启动、保留、谁为什么在等。启动成批地记，用到哪个才造哪个对象。"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import overload

from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.queue import GroupKey, PendingJob

# 此刻放得下，只是会碰到预留（Slurm 的 ReqNodeNotAvail）。
RESERVED = "ReqNodeNotAvail"


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """现在启动；task_id 是数组任务的序号，不是数组则为 None。

    time_limit_s 是 --time-min 的作业得到的时限（秒）；None 是作业自己的。
    """

    job: PendingJob
    task_id: int | None
    shares: tuple[NodeShare, ...]
    time_limit_s: float | None = None

    @property
    def limit_s(self) -> float:
        """这次启动的时限（秒）。"""
        return self.job.time_limit_s if self.time_limit_s is None else self.time_limit_s


@dataclass(frozen=True, slots=True)
class Reservation:
    """为受阻的作业保留：预计 start_time（Unix 秒）开始，用 shares。"""

    job: PendingJob
    start_time: float
    shares: tuple[NodeShare, ...]


# 一串各占一个节点、份额相同的启动：作业、任务号、节点一一对应；份额是 (CPU, 内存, 任务数)。
_Run = tuple[Sequence[PendingJob], Sequence[int] | None, Sequence[int], tuple[int, int, int]]


def _starts(run: _Run) -> Iterator[PlannedStart]:
    jobs, task_ids, nodes, (cpus, memory, tasks) = run
    shares: dict[int, tuple[NodeShare, ...]] = {}
    for job, task_id, node in zip(jobs, task_ids or repeat(None), nodes, strict=False):
        found = shares.get(node)
        if found is None:
            found = shares[node] = (NodeShare(node, cpus, memory, (), tasks),)
        yield PlannedStart(job, task_id, found)


class Starts(Sequence[PlannedStart]):
    """一个周期的启动，按决定的次序。"""

    def __init__(self) -> None:
        self._parts: list[_Run | PlannedStart] = []
        self._count = 0
        self._found: list[PlannedStart] | None = None

    def add(self, start: PlannedStart) -> None:
        """记一个。"""
        self._parts.append(start)
        self._count += 1
        self._found = None

    def add_run(
        self,
        jobs: Sequence[PendingJob],
        task_ids: Sequence[int] | None,
        nodes: Sequence[int],
        share: tuple[int, int, int],
    ) -> None:
        """记一串；share 是每个启动的 (CPU, 内存, 任务数)。"""
        self._parts.append((jobs, task_ids, nodes, share))
        self._count += len(nodes)
        self._found = None

    def latest_nodes(self) -> list[int]:
        """最后记下的一个（或一串）在哪些节点。"""
        part = self._parts[-1]
        return [share.node for share in part.shares] if isinstance(part, PlannedStart) else list(part[2])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[PlannedStart]:
        for part in self._parts:
            if isinstance(part, PlannedStart):
                yield part
            else:
                yield from _starts(part)

    @overload
    def __getitem__(self, index: int) -> PlannedStart: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PlannedStart]: ...
    def __getitem__(self, index: int | slice) -> PlannedStart | Sequence[PlannedStart]:
        if self._found is None:
            self._found = list(self)
        return self._found[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Starts) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class Plan:
    """一个周期的决定。

    blocked：放不下的组 -> 原因；组里有保留的作业是 Resources，其余是 Priority。
    impossible：无论等多久都放不下的组 -> 说明。exhausted：达到了一个周期的启动上限，应当马上再计划。
    complete 为假：只有启动，保留、blocked、impossible 没有算（见 front、lean）。
    """

    now: float
    starts: Starts = field(default_factory=Starts)
    reservations: list[Reservation] = field(default_factory=list)
    blocked: dict[GroupKey, str] = field(default_factory=dict)
    impossible: dict[GroupKey, str] = field(default_factory=dict)
    exhausted: bool = False
    complete: bool = True
