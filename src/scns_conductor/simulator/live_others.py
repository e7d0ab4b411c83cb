"""重放之外、与被重放的争节点的作业：开始时已经在跑的、还在排队的，与至今没有做完的。照样重放，不算进结果。

更早结束的不在其中；没有做完的，当作跑满时限（不限时的到此刻为止）。
"""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scns_conductor.core.gres import parse_gres
from scns_conductor.core.hostlist import expand
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS
from scns_conductor.simulator.history import instant
from scns_conductor.simulator.workload import UNLIMITED_S, TraceJob

# 排队的、至今没有启动的里，只有在等这些的与别人争：别的此刻启动不了。
_COMPETING = frozenset({"None", "Resources", "Priority"})
# 没有启动过又不限时的，当作跑这么久（秒）。
_UNKNOWN_RUN_S = 3600


@dataclass(frozen=True, slots=True)
class Held:
    """在一个节点上占着的；内存 MiB。"""

    node: str
    cpus: int
    memory_mb: int
    gres: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """停过一段（Unix 秒）；lends 是因抢占而停的，重放自己会停它。"""

    since_s: float
    until_s: float
    lends: bool


@dataclass(frozen=True, slots=True)
class Other:
    """见模块的说明。start_s（Unix 秒）为 None 是至今没有启动；end_s 是真的结束，没有的是估计的。"""

    job: TraceJob
    row: Mapping[str, Any]
    start_s: float | None
    end_s: float
    held: tuple[Held, ...] = ()
    stops: tuple[Stop, ...] = ()

    def runs_at(self, moment: float) -> bool:
        """那时在跑。"""
        return self.start_s is not None and self.start_s <= moment < self.end_s

    def competes(self, moment: float, nodes: Collection[str]) -> bool:
        """那时或以后，在这些节点里占着、要占。"""
        return moment < self.end_s and (not self.runs_at(moment) or any(each.node in nodes for each in self.held))

    def stopped_before(self, moment: float) -> float:
        """那时为止停过多久（秒）；只知道一共多久的，当作均匀地停。"""
        assert self.start_s is not None
        if self.stops:
            return sum(max(0.0, min(stop.until_s, moment) - stop.since_s) for stop in self.stops)
        whole = max(1.0, self.end_s - self.start_s)
        return float(self.row.get("suspended_s") or 0) * (moment - self.start_s) / whole

    def left_s(self, moment: float, *, by_turns: bool) -> float:
        """那时还要走多久（秒）。重放自己会停它的不算：by_turns（轮流用 CPU 的）是停着的全部，不然是因抢占的。"""
        assert self.start_s is not None
        wall = self.end_s - moment
        if by_turns:
            wall -= float(self.row.get("suspended_s") or 0) - self.stopped_before(moment)
        else:
            wall -= sum(max(0.0, stop.until_s - max(moment, stop.since_s)) for stop in self.stops if stop.lends)
        return max(1.0, wall)

    def preempted_at(self, moment: float) -> bool:
        """那时因抢占停着。"""
        return any(stop.lends and stop.since_s <= moment < stop.until_s for stop in self.stops)

    def expected_end_s(self, moment: float) -> float:
        """那时调度器以为它何时结束：照时限，不是真的。"""
        assert self.start_s is not None
        limit = self.row.get("time_limit")
        if limit is None:
            return NEVER_ENDS
        return max(self.start_s + float(limit) + self.stopped_before(moment), moment + 1.0)


def running_at(rows: Iterable[Mapping[str, Any]], moment: float) -> Iterator[Mapping[str, Any]]:
    """其中 moment 时在跑的（GET /jobs 的行）。"""
    for row in rows:
        start, end = instant(row["start_time"]), instant(row["end_time"])
        if start is not None and start <= moment and (end is None or end > moment) and row["node_list"]:
            yield row


def others(
    rows: Iterable[Mapping[str, Any]],
    begin_s: float,
    now_s: float,
    details: Mapping[str, tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]],
) -> list[Other]:
    """rows 里 begin_s 之后还在的，先交的在前；details 是作业号 -> （各节点的分配，历史），没有的照总数平分。"""
    found = []
    for row in rows:
        start, end = instant(row["start_time"]), instant(row["end_time"])
        if (end is not None and (start is None or end <= begin_s)) or not _competes(row, start):
            continue
        limit = row.get("time_limit")
        if end is None:
            end = max(int(now_s), start or 0)
            if start is None:
                end += int(limit or _UNKNOWN_RUN_S)
            elif limit is not None:
                end = max(end, start + int(limit) + int(row.get("suspended_s") or 0))
        run_s = end - (now_s if start is None else start + float(row.get("suspended_s") or 0))
        allocations, events = details.get(str(row["job_id"]), ((), ()))
        found.append(
            Other(
                _job(row, max(1, round(run_s))),
                row,
                None if start is None else float(start),
                float(end),
                held_of(row, allocations),
                stops_of(events, float(end)),
            )
        )
    return sorted(found, key=lambda other: (other.job.submit_s, int(other.job.job_id)))


def _competes(row: Mapping[str, Any], start: int | None) -> bool:
    return start is not None or (row.get("reason") in _COMPETING and row.get("array_remaining") is None)


def _job(row: Mapping[str, Any], run_s: int) -> TraceJob:
    cpus = int(row["allocated_cpus"] or 0) or max(1, int(row["tasks"] or 1)) * max(1, int(row["cpus_per_task"] or 1))
    return TraceJob(
        str(row["job_id"]),
        instant(row["submit_time"]) or 0,
        run_s,
        UNLIMITED_S if row["time_limit"] is None else max(run_s, int(row["time_limit"])),
        cpus,
        user=str(row["user_name"] or "-1"),
        account=str(row["account"] or "-1"),
    )


def held_of(row: Mapping[str, Any], allocations: Sequence[Mapping[str, Any]] = ()) -> tuple[Held, ...]:
    """最近一次启动占着的（缩小过的是余下的），没有分到节点是空的；没有 allocations 的照总数平分，多的给前面的。"""
    names = expand(row["node_list"]) if row.get("node_list") else []
    if not names:
        return ()
    if allocations:
        last = max(int(each["restart_count"]) for each in allocations)
        return tuple(
            Held(
                each["node_name"],
                int(each["cpus"]) + int(each.get("lent_cpus") or 0),
                int(each["memory"]),
                tuple(sorted(each["gres"].items())),
            )
            for each in allocations
            if int(each["restart_count"]) == last and each["node_name"] in names
        )
    cpus, memory = (_parts(int(row[name] or 0), len(names)) for name in ("allocated_cpus", "allocated_memory"))
    gres = {name: _parts(count, len(names)) for name, count in parse_gres(row.get("allocated_gres") or "").items()}
    return tuple(
        Held(name, cpus[at], memory[at], tuple((kind, each[at]) for kind, each in sorted(gres.items()) if each[at]))
        for at, name in enumerate(names)
    )


def _parts(whole: int, count: int) -> list[int]:
    each, rest = divmod(whole, count)
    return [each + (at < rest) for at in range(count)]


def stops_of(events: Sequence[Mapping[str, Any]], end_s: float) -> tuple[Stop, ...]:
    """历史（GET /jobs/{job_id}/events）里最近一次启动停过的各段；时间片只记第一回，有它就说不准，是空的。"""
    last = max((int(each["restart_count"]) for each in events), default=0)
    own = sorted((each for each in events if int(each["restart_count"]) == last), key=lambda each: each["event_time"])
    found: list[Stop] = []
    since: tuple[float, bool] | None = None
    for each in own:
        if each["cause"] == "timeslice":
            return ()
        moment = float(instant(each["event_time"]) or 0)
        if each["to_state"] == "SUSPENDED" and since is None:
            since = (moment, each["cause"] == "preempt")
        elif each["to_state"] != "SUSPENDED" and since is not None:
            found.append(Stop(since[0], moment, since[1]))
            since = None
    if since is not None:
        found.append(Stop(since[0], end_s, since[1]))
    return tuple(found)


def numbered(
    others: Sequence[Other], jobs: Sequence[TraceJob]
) -> tuple[dict[int, TraceJob], dict[int, Other], dict[int, int]]:
    """号 -> 作业；其中不算进结果的；算进结果的 -> 在 jobs 里的位置。一起从 1 编号，先交的在前，jobs 的次序不变。"""
    found: dict[int, TraceJob] = {}
    apart: dict[int, Other] = {}
    places: dict[int, int] = {}
    entrants: Iterable[tuple[TraceJob, Other | int]] = heapq.merge(
        ((other.job, other) for other in others),
        ((job, place) for place, job in enumerate(jobs)),
        key=lambda each: (each[0].submit_s, int(each[0].job_id.partition("#")[0])),
    )
    for number, (job, origin) in enumerate(entrants, start=1):
        found[number] = job
        if isinstance(origin, Other):
            apart[number] = origin
        else:
            places[number] = origin
    return found, apart, places
