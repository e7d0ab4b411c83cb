"""怎样改能更早开始：把改过的作业放到前景里真的排一次。二分地找改得最少的那个值。纯函数。

说“可立即开始”的，过一会儿再改也还算数：给人留出时间（slack_s），并说到何时为止。
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from scns_conductor.core.gres import format_gres, parse_gres
from scns_conductor.core.units import format_duration, format_memory_mb
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.promise import Promise
from scns_conductor.scheduling.shape import Shape

# 建议至少要早这么多秒才值得说。
WORTHWHILE_S = 60.0
MOST_SUGGESTIONS = 6
_MEMORY_STEP_MB = 64
# 留给人去改的时间：至少两分钟，长作业是时限的百分之五。
LEAST_SLACK_S = 120.0
SLACK_SHARE = 0.05
_HOUR, _DAY = 3600, 86400
# 人会写的时限（秒）。
NATURAL_S = (
    *(60 * minutes for minutes in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 45, 50)),
    *(_HOUR * quarters // 4 for quarters in (4, 5, 6, 7, 8, 10)),
    *(_HOUR * hours for hours in (3, 4, 5, 6, 8, 10, 12, 16, 20)),
    *(_DAY * days for days in (1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 28)),
)

# 改了这些列之后的 (形状, 时限, 前景)；不许这样改的是 None。
Build = Callable[[Mapping[str, Any]], tuple[Shape, float, Outlook] | None]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """一个改法：summary 只说怎样改，text 连同何时；changes 是 PATCH /jobs/{id} 的字段；

    start_time 是改了之后的预计开始（Unix 秒）。

    good_until 是最晚何时改还算数（Unix 秒）；None 是没有尽头，或预计的时刻还早。firm 为假，开始的时刻只是大约。
    """

    text: str
    summary: str
    changes: Mapping[str, Any]
    start_time: float
    good_until: float | None = None
    firm: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """一个要试的改法：text 是怎样改，patch 是 PATCH 的字段，columns 是 jobs 的列。"""

    text: str
    patch: Mapping[str, Any]
    columns: Mapping[str, Any]


Test = Callable[[Change], bool]


@dataclass(frozen=True, slots=True)
class Situation:
    """作业此刻的情形：current 是不改时的预计开始（说不准是 inf）；都是 Unix 秒。"""

    now: float
    current: float


def slack_s(limit_s: float) -> float:
    """一个时限的改法要留给人多少秒。"""
    return LEAST_SLACK_S if math.isinf(limit_s) else max(LEAST_SLACK_S, SLACK_SHARE * limit_s)


def suggestions(
    row: Mapping[str, Any], build: Build, others: list[Change], at: Situation, *, searched: bool = True
) -> list[Suggestion]:
    """row 是作业的要求（jobs 的列）；others 是另外要试的改法（分区、账户、QOS、数组的 %），searched 为假时只试它们。"""
    if at.current <= at.now:
        return []
    trial = _Trial(row, build, at)
    own = [*_searched(row, trial), *_dropped(row)] if searched else []
    found = [item for change in (*own, *others) if (item := trial.judge(change))]
    found += trial.deadline()
    found.sort(key=lambda item: item.start_time)
    # 同一个字段只留最早的那个。
    kept: dict[tuple[str, ...], Suggestion] = {}
    for item in found:
        kept.setdefault(tuple(item.changes), item)
    return list(kept.values())[:MOST_SUGGESTIONS]


@dataclass(frozen=True, slots=True)
class _Trial:
    """试一个改法。"""

    row: Mapping[str, Any]
    build: Build
    at: Situation

    def at_once(self, change: Change) -> bool:
        """改了就能立即开始，晚一会儿改也能。"""
        built = self.build(change.columns)
        if built is None or not self._in_time(change, built[1], self.at.now + slack_s(built[1])):
            return False
        return built[2].fits_now(built[0], built[1] + slack_s(built[1]))

    def start(self, change: Change) -> float | None:
        """改了之后预计何时开始；不许、说不准、赶不上期限的是 None。"""
        built = self.build(change.columns)
        if built is None:
            return None
        shape, limit, outlook = built
        if outlook.lacking(shape, limit) and not outlook.lacking_licenses_only(shape, limit):
            return None
        found = outlook.earliest(shape, limit)
        return None if found is None or not self._in_time(change, limit, found[0]) else found[0]

    def earlier(self, change: Change) -> bool:
        """改了之后明显更早。"""
        start = self.start(change)
        return start is not None and start < self.at.current - WORTHWHILE_S

    def judge(self, change: Change) -> Suggestion | None:
        """值得说的。"""
        if self.at_once(change):
            built = self.build(change.columns)
            assert built is not None
            spare = built[2].spare_s(built[0], built[1])
            good_until = None if math.isinf(spare) else self.at.now + spare
            until = "" if good_until is None else f"（{format_duration(math.floor(spare))} 之内改都算数）"
            text = f"{change.text}，可立即开始{until}"
            return Suggestion(text, change.text, change.patch, self.at.now, good_until)
        start = self.start(change)
        if start is None or start >= self.at.current - WORTHWHILE_S:
            return None
        if start <= self.at.now + LEAST_SLACK_S and self._fits_now(change):
            # 现在改能立即开始，等一会儿就不行了：来不及做的不说。
            return None
        firm, when = self._when(change, start)
        return Suggestion(f"{change.text}，{when}", change.text, change.patch, start, firm=firm)

    def _when(self, change: Change, start: float) -> tuple[bool, str]:
        """改了之后的 start 是不是最晚的时刻，怎样说。"""
        built = self.build(change.columns)
        firm = built is not None and Promise(built[2], built[0], built[1]).reserved(start)
        later = format_duration(math.ceil(start - self.at.now))
        return firm, f"预计至迟 {later} 之后开始" if firm else f"预计大约 {later} 之后开始"

    def _fits_now(self, change: Change) -> bool:
        built = self.build(change.columns)
        return built is not None and built[2].fits_now(built[0], built[1])

    def _in_time(self, change: Change, limit_s: float, start: float) -> bool:
        """在期限之前做得完。"""
        deadline = {**self.row, **change.columns}["deadline"]
        least = self.row["time_minimum"]
        needed = limit_s if least is None else min(limit_s, float(least))
        return deadline is None or start + (0.0 if math.isinf(needed) else needed) <= deadline

    def deadline(self) -> list[Suggestion]:
        """赶不上期限的：推迟到做得完为止。"""
        if self.row["deadline"] is None or not math.isinf(self.at.current):
            return []
        change = Change("", {}, {"deadline": None})
        start = self.start(change)
        limit = self.row["time_limit"]
        if start is None or limit is None:
            return []
        end = start + limit + slack_s(limit)
        moment = datetime.fromtimestamp(math.ceil(end / 60) * 60, UTC)
        firm, when = self._when(change, start)
        summary = f"把期限推迟到 {moment:%Y-%m-%dT%H:%M}（UTC）"
        return [Suggestion(f"{summary}，{when}", summary, {"deadline": moment.isoformat()}, start, firm=firm)]


def _searched(row: Mapping[str, Any], trial: _Trial) -> Iterator[Change]:
    """可大可小的：找仍能立即启动的最大值；没有就找能早一些的最大值。"""
    for low, high, change in _ranges(row):
        found = _largest(low, high, change, trial.at_once) or _largest(low, high, change, trial.earlier)
        if found is not None:
            yield found


def _ranges(row: Mapping[str, Any]) -> Iterator[tuple[int, int, Callable[[int], Change]]]:
    """（最小，最大，改成它）。"""
    yield _times(row)
    nodes, tasks = row["minimum_nodes"], row["tasks"]
    if nodes > 1:
        per_node = tasks // nodes if tasks % nodes == 0 else None

        def fewer(count: int) -> Change:
            columns: dict[str, Any] = {"minimum_nodes": count, "maximum_nodes": count}
            patch: dict[str, Any] = {"nodes": str(count)}
            if per_node is None:
                return Change(f"把节点数改为 {count}", patch, columns)
            tasks = columns["tasks"] = patch["tasks"] = count * per_node
            return Change(f"把节点数改为 {count}、任务数改为 {tasks}", patch, columns)

        yield 1, nodes - 1, fewer
    if tasks > nodes:
        yield (
            nodes,
            tasks - 1,
            lambda count: Change(f"把任务数改为 {count}", {"tasks": count}, {"tasks": count}),
        )
    if row["cpus_per_task"] > 1:
        yield (
            1,
            row["cpus_per_task"] - 1,
            lambda count: Change(f"把每任务 CPU 改为 {count}", {"cpus_per_task": count}, {"cpus_per_task": count}),
        )
    for name, text in (("memory_per_node", "每节点内存"), ("memory_per_cpu", "每 CPU 内存")):
        if row[name]:
            yield 1, (row[name] - 1) // _MEMORY_STEP_MB, partial(_less_memory, name, text)
    for name, text in (("tres_per_node", "每节点"), ("tres_per_task", "每任务"), ("tres_per_job", "整个作业")):
        wanted = parse_gres(row[name] or "")
        for kind, count in wanted.items():
            if count > 1:
                yield 1, count - 1, partial(_fewer_gres, name, text, wanted, kind)


def _less_memory(name: str, text: str, steps: int) -> Change:
    size = format_memory_mb(steps * _MEMORY_STEP_MB)
    return Change(f"把{text}改为 {size}", {name: size}, {name: steps * _MEMORY_STEP_MB})


def _fewer_gres(name: str, text: str, wanted: Mapping[str, int], kind: str, count: int) -> Change:
    written = format_gres({**wanted, kind: count})
    return Change(f"把{text}的 {kind} 改为 {count} 个", {name: written}, {name: written})


def _times(row: Mapping[str, Any]) -> tuple[int, int, Callable[[int], Change]]:
    """比原来短、又不短于 --time-min 的。"""
    high = len(NATURAL_S) if row["time_limit"] is None else bisect_left(NATURAL_S, row["time_limit"])
    low = 0 if row["time_minimum"] is None else bisect_left(NATURAL_S, row["time_minimum"])

    def shorter(index: int) -> Change:
        seconds = NATURAL_S[index]
        text = format_duration(seconds)
        return Change(f"把时限改为 {text}（或更短）", {"time_limit": text}, {"time_limit": seconds})

    return low, high - 1, shorter


def _largest(low: int, high: int, change: Callable[[int], Change], accepted: Test) -> Change | None:
    """low..high 里 accepted 的最大值；越小越容易。没有是 None。"""
    best: Change | None = None
    while low <= high:
        middle = (low + high + 1) // 2
        tried = change(middle)
        if accepted(tried):
            best, low = tried, middle + 1
        else:
            high = middle - 1
    return best


def _dropped(row: Mapping[str, Any]) -> Iterator[Change]:
    """去掉一项要求。"""
    if row["constraints"]:
        yield Change(f"去掉特性的要求（{row['constraints']}）", {"constraints": None}, {"constraints": None})
    if row["licenses"]:
        yield Change(f"不要许可证（{row['licenses']}）", {"licenses": None}, {"licenses": None})
    if row["exclusive"]:
        yield Change("不独占节点", {"exclusive": False}, {"exclusive": False})
    if row["required_nodes"]:
        yield Change("不指名节点", {"required_nodes": None}, {"required_nodes": None})
    if row["excluded_nodes"]:
        yield Change("不排除节点", {"excluded_nodes": None}, {"excluded_nodes": None})
