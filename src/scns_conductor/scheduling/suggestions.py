"""怎样改能更早开始：把改过的作业放到前景里真的排一次。二分地找改得最少的那个值。纯函数。"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from scns_conductor.core.units import format_duration, format_memory_mb
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.shape import Shape

# 建议至少要早这么多秒才值得说。
WORTHWHILE_S = 60.0
MOST_SUGGESTIONS = 6
_MEMORY_STEP_MB = 64
# 不限时的作业，改短至多改到这么长。
_LONGEST_S = 30 * 86400

# 改了这些列之后的 (形状, 时限, 前景)；不许这样改的是 None。
Build = Callable[[Mapping[str, Any]], tuple[Shape, float, Outlook] | None]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """一个改法：changes 是 PATCH /jobs/{id} 的字段；start_time 是改了之后的预计开始（Unix 秒）。"""

    text: str
    changes: Mapping[str, Any]
    start_time: float


@dataclass(frozen=True, slots=True)
class Change:
    """一个要试的改法：text 是怎样改，patch 是 PATCH 的字段，columns 是 jobs 的列。"""

    text: str
    patch: Mapping[str, Any]
    columns: Mapping[str, Any]


Test = Callable[[Change], bool]


def suggestions(
    row: Mapping[str, Any], build: Build, others: list[Change], now: float, current: float
) -> list[Suggestion]:
    """row 是作业的要求（jobs 的列），current 是不改时的预计开始；others 是另外要试的改法（分区、账户、QOS）。"""
    if current <= now:
        return []

    def at_once(change: Change) -> bool:
        built = build(change.columns)
        return built is not None and built[2].fits_now(built[0], built[1])

    def earlier(change: Change) -> bool:
        built = build(change.columns)
        if built is None or built[2].lacking(built[0], built[1]):
            return False
        start = built[2].earliest(built[0], built[1])
        return start is not None and start[0] < current - WORTHWHILE_S

    found: list[Suggestion] = []
    for change in (*_searched(row, at_once, earlier), *_dropped(row), *others):
        built = build(change.columns)
        if built is None:
            continue
        shape, limit, outlook = built
        if outlook.fits_now(shape, limit):
            found.append(Suggestion(f"{change.text}，可立即开始", change.patch, now))
            continue
        if outlook.lacking(shape, limit):
            continue
        start = outlook.earliest(shape, limit)
        if start is not None and start[0] < current - WORTHWHILE_S:
            when = f"预计 {format_duration(start[0] - now)} 之后开始"
            found.append(Suggestion(f"{change.text}，{when}", change.patch, start[0]))
    found.sort(key=lambda item: item.start_time)
    # 同一个字段只留最早的那个。
    kept: dict[tuple[str, ...], Suggestion] = {}
    for item in found:
        kept.setdefault(tuple(item.changes), item)
    return list(kept.values())[:MOST_SUGGESTIONS]


def _searched(row: Mapping[str, Any], at_once: Test, earlier: Test) -> Iterator[Change]:
    """可大可小的：找仍能立即启动的最大值；没有就找能早一些的最大值。"""
    for low, high, change in _ranges(row):
        found = _largest(low, high, change, at_once) or _largest(low, high, change, earlier)
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
            text = f"把节点数改为 {count}"
            if per_node is not None:
                columns["tasks"] = patch["tasks"] = count * per_node
                text += f"、任务数改为 {count * per_node}"
            return Change(text, patch, columns)

        yield 1, nodes - 1, fewer
    elif tasks > 1:
        yield (
            1,
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


def _less_memory(name: str, text: str, steps: int) -> Change:
    size = format_memory_mb(steps * _MEMORY_STEP_MB)
    return Change(f"把{text}改为 {size}", {name: size}, {name: steps * _MEMORY_STEP_MB})


def _times(row: Mapping[str, Any]) -> tuple[int, int, Callable[[int], Change]]:
    """两分钟以下是整秒，以上是整分钟的时限。"""
    limit = min(row["time_limit"] or _LONGEST_S, _LONGEST_S)

    def shorter(index: int) -> Change:
        seconds = index if index < 120 else (index - 118) * 60
        text = format_duration(seconds)
        return Change(f"把时限改为 ≤ {text}", {"time_limit": text}, {"time_limit": seconds})

    return 1, limit - 1 if limit <= 120 else 117 + math.ceil(limit / 60), shorter


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
