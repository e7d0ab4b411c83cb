"""作业数组的写法（sbatch(1) 的 --array）：0-15、0-99:3、1,3,5-7、0-999999%50。"""

import itertools
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from scns_conductor.core.text import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# 任务号存成 int4，区间的上界要再加一。
MAX_TASK_ID = 2**31 - 2
# 作业号里的任务（12_[0-99:3]）换成任务号，一个任务就是一个区间：至多换这么多个，再多的照写的记（Strided）。
MAX_SCATTERED = 65_536
# 照写的记的至多这么多项：每一行都要逐项看。
MOST_STRIDED = 16
# 一次至多从数组里取出这么多段不相连的任务（连着的几百万个也是一段）。
MOST_PIECES = 400_000
# 没有别的上限时，一个写法至多这么多个任务。
MOST_TASKS = 10_000_000
# 步长不一、错开的各项合起来至多写这么多个任务，重复的也算；任务号隔得比 MOST_WIDE 还远的至多 MOST_FAR 个：
# 几个字节的写法不能占住几秒、几百兆。
MOST_WRITTEN, MOST_FAR = 64_000_000, 8_000_000
MOST_WIDE = 32 * 1024**2
# 步长不一的，任务号连成这么多个区间之内照区间记。
MAX_RUNS = 1000
_ITEM = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


class TooScattered(Exception):
    """要的任务在数组里是太多不相连的段；参数是至多几段。"""


class Stride(NamedTuple):
    """任务号与序号：等步长的数组（0-999999:3）里第 k 个任务的号是 base + step * k，别的数组两者相同。

    步长不一、错开成许多段的（0-9999:3,7-19999:5）step 是 0，任务号从小到大列在 listed 里（int4，高位在前），
    序号是它的次序。
    没有启动的任务按序号记，不论怎样写，一百万个也是一个区间。
    """

    base: int = 0
    step: int = 1
    listed: bytes = b""

    def task_id(self, slot: int) -> int:
        """序号 -> 任务号。"""
        if not self.step:
            return int.from_bytes(self.listed[4 * slot : 4 * slot + 4], "big")
        return self.base + self.step * slot

    def slots(self, ids: "Iterable[TaskRange]") -> "tuple[TaskRange, ...]":
        """任务号的区间（从小到大，不相交）-> 其中的任务的序号；隔开的任务号，序号也许挨着。"""
        found: list[TaskRange] = []
        for span in ids:
            if self.step:
                lower = max(0, -((self.base - span.lower) // self.step))
                upper = (span.upper - 1 - self.base) // self.step + 1
            else:
                lower, upper = self._before(span.lower), self._before(span.upper)
            if found and found[-1].upper == lower < upper:
                found[-1] = TaskRange(found[-1].lower, upper)
            elif lower < upper:
                found.append(TaskRange(lower, upper))
        return tuple(found)

    def ids(self, slots: "Iterable[TaskRange]") -> "tuple[TaskRange, ...]":
        """序号的区间 -> 任务号的区间，一个任务也许就是一个区间。"""
        if self == CONSECUTIVE:
            return tuple(slots)
        return merge_ranges(
            (self.task_id(slot), self.task_id(slot) + 1) for span in slots for slot in range(span.lower, span.upper)
        )

    def slots_listed(self, ids: bytes) -> "tuple[TaskRange, ...]":
        """从小到大、都在 listed 里的任务号（写法与它一样）-> 序号的区间。"""
        import numpy as np

        return _runs(np.searchsorted(np.frombuffer(self.listed, ">i4"), np.frombuffer(ids, ">i4")))

    def slots_of(self, other: "Stride", slots: "Sequence[TaskRange]") -> "tuple[TaskRange, ...]":
        """另一个数组的序号 -> 这里同号的任务的序号；百万个任务也只是几次数组运算。"""
        if self == other or not slots:
            return tuple(slots)
        import numpy as np

        ids = np.concatenate([other._ids(span) for span in slots])
        if self.step:
            ids = ids[ids >= self.base]
            return _runs((ids[(ids - self.base) % self.step == 0] - self.base) // self.step)
        listed = np.frombuffer(self.listed, ">i4")
        found = np.searchsorted(listed, ids)
        return _runs(found[listed[np.minimum(found, len(listed) - 1)] == ids])

    def _ids(self, slots: "TaskRange") -> "NDArray[np.int64]":
        import numpy as np

        if self.step:
            return self.base + self.step * np.arange(slots.lower, slots.upper, dtype=np.int64)
        return np.frombuffer(self.listed, ">i4")[slots.lower : slots.upper].astype(np.int64)

    def common(self, wanted: "Strided", slots: "Sequence[TaskRange]") -> "tuple[TaskRange, ...]":
        """slots 里任务号在 wanted 里的序号，每一段先数后列；多于 MOST_PIECES 段抛 TooScattered。"""
        if not slots:
            return ()
        if not self.step:
            return self._common_listed(wanted, slots)
        shared = math.gcd(self.step, wanted.step)
        if (wanted.first - self.base) % shared:
            return ()
        period = wanted.step // shared
        phase = (wanted.first - self.base) // shared * pow(self.step // shared, -1, period)
        low = max(0, -((self.base - wanted.first) // self.step))
        high = (wanted.last - self.base) // self.step + 1
        inside = intersection(slots, [TaskRange(low, high)]) if low < high else ()
        if period == 1:
            return inside
        found = [range(span.lower + (phase - span.lower) % period, span.upper, period) for span in inside]
        if sum(map(len, found)) > MOST_PIECES:
            raise TooScattered(MOST_PIECES)
        return tuple(TaskRange(slot, slot + 1) for each in found for slot in each)

    def _common_listed(self, wanted: "Strided", slots: "Sequence[TaskRange]") -> "tuple[TaskRange, ...]":
        import numpy as np

        ids = np.frombuffer(self.listed, ">i4")
        edges = np.zeros(len(ids) + 1, dtype=np.int8)
        edges[[span.lower for span in slots]], edges[[span.upper for span in slots]] = 1, -1
        low, high = self._before(wanted.first), self._before(wanted.last + 1)
        present = np.cumsum(edges, dtype=np.int8)[low:high] > 0
        present &= (ids[low:high].astype(np.int64) - wanted.first) % wanted.step == 0
        found = np.flatnonzero(present) + low
        if np.count_nonzero(np.diff(found) != 1) >= MOST_PIECES:
            raise TooScattered(MOST_PIECES)
        return _runs(found)

    def _before(self, task_id: int) -> int:
        """listed 里比 task_id 小的有几个。"""
        return bisect_left(range(len(self.listed) // 4), task_id, key=self.task_id)


CONSECUTIVE = Stride()


class TaskRange(NamedTuple):
    """半开区间 [lower, upper)；与 PostgreSQL 的 int4range 一致。"""

    lower: int
    upper: int


class Strided(NamedTuple):
    """等步长的任务号：first、first + step ……直到 last（含）。"""

    first: int
    last: int
    step: int

    def __contains__(self, task_id: object) -> bool:
        """有没有这个任务号。"""
        return (
            isinstance(task_id, int) and self.first <= task_id <= self.last and (task_id - self.first) % self.step == 0
        )


class ArraySpec(NamedTuple):
    """数组的任务：序号的不相交、升序的区间；max_running 是同时运行的上限，None 表示不限。"""

    ranges: tuple[TaskRange, ...]
    max_running: int | None = None
    stride: Stride = CONSECUTIVE

    @property
    def ids(self) -> tuple[TaskRange, ...]:
        """任务号的区间。"""
        return self.stride.ids(self.ranges)

    def __len__(self) -> int:
        return sum(span.upper - span.lower for span in self.ranges)


def parse_array(text: str, *, max_tasks: int = MOST_TASKS, most_written: int = MOST_WRITTEN) -> ArraySpec:
    """解析 --array；写法有误、步长为 0、任务超过 max_tasks 个都抛 ValueError（中文原因）。

    most_written 是步长不一的各项合起来至多写几个任务。
    """
    body, percent, throttle_text = text.strip().partition("%")
    max_running = None
    if percent:
        if not re.fullmatch(r"[0-9]{1,9}", throttle_text):
            raise ValueError(f"数组 {shown(text)} 的 % 之后应是同时运行的上限，例如 0-99%5")
        max_running = int(throttle_text) or None
    too_many = f"数组 {shown(text)} 超过上限：任务号至多 {MAX_TASK_ID}，任务至多 {max_tasks} 个"
    items = _items(body, text, max_tasks, too_many)
    stride = _common_stride(items)
    if all(count == 1 or step == stride.step for _, count, step in items):
        slots = (((first - stride.base) // stride.step, count) for first, count, _ in items)
        found = ArraySpec(merge_ranges((slot, slot + count) for slot, count in slots), max_running, stride)
    else:
        most = min(most_written, MOST_WRITTEN if _width(items) <= MOST_WIDE else MOST_FAR)
        if sum(count for _, count, _ in items) > most:
            raise ValueError(f"数组 {shown(text)} 里步长不一的各项合起来写了超过 {most} 个任务（重复的也算）")
        found = _irregular(items, max_running, max_tasks, too_many)
    # 几项里都有的任务只算一个。
    if len(found) > max_tasks:
        raise ValueError(too_many)
    return found


def parse_task_ids(text: str) -> tuple[tuple[TaskRange, ...], tuple[Strided, ...]]:
    """作业号里的任务：连着的与不多的是区间，等步长的大项照写的记；写法有误、大项太多抛 ValueError。"""
    too_many = f"任务 {shown(text)} 超过上限：任务号至多 {MAX_TASK_ID}，一项至多 {MOST_TASKS} 个"
    ranges: list[tuple[int, int]] = []
    strided: list[Strided] = []
    for first, count, step in sorted(_items(text.strip(), text, MOST_TASKS, too_many), key=lambda item: item[1]):
        last = first + (count - 1) * step
        if step == 1:
            ranges.append((first, last + 1))
        elif len(ranges) + count <= MAX_SCATTERED:
            ranges.extend((task_id, task_id + 1) for task_id in range(first, last + 1, step))
        else:
            strided.append(Strided(first, last, step))
    if len(strided) > MOST_STRIDED:
        raise ValueError(f"任务 {shown(text)} 里步长大于 1 的项太多")
    # 密的在前：它包住的，后面的不必再看。
    return merge_ranges(ranges), tuple(sorted(strided, key=lambda each: each.step))


def _items(body: str, text: str, max_tasks: int, too_many: str) -> list[tuple[int, int, int]]:
    """各项是 (第一个任务号, 个数, 步长)；只有一个任务的步长是 1。"""
    items: list[tuple[int, int, int]] = []
    body = body[1:-1] if body.startswith("[") and body.endswith("]") else body
    for item in body.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None or max(len(part or "") for part in match.groups()) > 12:
            raise ValueError(f"无法识别的数组 {shown(text)}；例如 0-15、0-99:3、1,3,5-7、0-999%50")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if step == 0:
            raise ValueError(f"数组 {shown(text)} 的步长不能是 0")
        if last < first:
            raise ValueError(f"数组 {shown(text)} 的区间 {item!r} 颠倒了")
        count = (last - first) // step + 1
        if last > MAX_TASK_ID or count > max_tasks:
            raise ValueError(too_many)
        items.append((first, count, step if count > 1 else 1))
    return items


def _width(items: Sequence[tuple[int, int, int]]) -> int:
    """最小与最大的任务号之间（含）有几个号。"""
    return max(first + (count - 1) * step for first, count, step in items) - min(first for first, _, _ in items) + 1


def _irregular(
    items: Sequence[tuple[int, int, int]], max_running: int | None, max_tasks: int, too_many: str
) -> ArraySpec:
    """步长不一、错开的各项 (第一个任务号, 个数, 步长)：连成的区间不多的照区间记，多的把任务号列出来。

    多于 max_tasks 个的列出来之前就抛 ValueError(too_many)。
    """
    import numpy as np

    base, width = min(first for first, _, _ in items), _width(items)
    if width <= min(MOST_WIDE, 8 * sum(count for _, count, _ in items)):
        present = np.zeros(width, dtype=bool)
        for first, count, step in items:
            present[first - base : first - base + (count - 1) * step + 1 : step] = True
        if np.count_nonzero(present) > max_tasks:
            raise ValueError(too_many)
        found = np.flatnonzero(present).astype(np.int32) + np.int32(base)
    else:
        parts = [np.arange(first, first + (count - 1) * step + 1, step, dtype=np.int32) for first, count, step in items]
        found = np.sort(np.concatenate(parts))
        found = found[np.append(True, found[1:] != found[:-1])]
    if np.count_nonzero(np.diff(found) != 1) >= MAX_RUNS:
        return ArraySpec((TaskRange(0, len(found)),), max_running, Stride(0, 0, found.astype(">i4").tobytes()))
    return ArraySpec(_runs(found), max_running)


def _runs(numbers: "NDArray[np.integer[Any]]") -> tuple[TaskRange, ...]:
    """从小到大、不重复的数 -> 连成的区间。"""
    import numpy as np

    if not len(numbers):
        return ()
    last = np.flatnonzero(np.diff(numbers) != 1)
    lowers, uppers = numbers[np.append(0, last + 1)], numbers[np.append(last, len(numbers) - 1)]
    return tuple(TaskRange(lower, upper + 1) for lower, upper in zip(lowers.tolist(), uppers.tolist(), strict=True))


def _common_stride(items: Sequence[tuple[int, int, int]]) -> Stride:
    """各项 (第一个任务号, 个数, 步长) 都落在其上的最大的步长：步长一样、没有错开的几项各是一个区间。"""
    base = min(first for first, _, _ in items)
    if all(step == 1 for _, _, step in items):
        return CONSECUTIVE
    apart = math.gcd(*(first - base for first, _, _ in items), *(step for _, count, step in items if count > 1))
    return CONSECUTIVE if apart == 1 else Stride(base, apart)


def merge_ranges(spans: Iterable[tuple[int, int]]) -> tuple[TaskRange, ...]:
    """半开区间排序、合并成不相交的升序区间。"""
    merged: list[list[int]] = []
    for lower, upper in sorted(spans):
        if merged and lower <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], upper)
        else:
            merged.append([lower, upper])
    return tuple(TaskRange(lower, upper) for lower, upper in merged)


def intersection(left: Sequence[TaskRange], right: Sequence[TaskRange]) -> tuple[TaskRange, ...]:
    """两组升序不相交区间的交；一组多一组少时不走遍多的那组。"""
    if len(left) > len(right):
        left, right = right, left
    found: list[TaskRange] = []
    for span in left:
        for index in range(bisect_right(right, span.lower, key=lambda other: other.upper), len(right)):
            lower, upper = max(span.lower, right[index].lower), min(span.upper, right[index].upper)
            if lower >= upper:
                break
            found.append(TaskRange(lower, upper))
    return tuple(found)


def union(left: Sequence[TaskRange], right: Sequence[TaskRange]) -> tuple[TaskRange, ...]:
    """两组区间的并。"""
    return merge_ranges((span.lower, span.upper) for span in (*left, *right))


def difference(left: Sequence[TaskRange], right: Sequence[TaskRange]) -> tuple[TaskRange, ...]:
    """在 left 而不在 right 里的；都是升序不相交的区间。"""
    found: list[TaskRange] = []
    gaps = iter([*right, TaskRange(2**62, 2**62)])
    gap = next(gaps)
    for span in left:
        lower = span.lower
        while gap.upper <= lower:
            gap = next(gaps)
        while gap.lower < span.upper:
            if lower < gap.lower:
                found.append(TaskRange(lower, gap.lower))
            lower = max(lower, gap.upper)
            if gap.upper > span.upper:
                break
            gap = next(gaps)
        if lower < span.upper:
            found.append(TaskRange(lower, span.upper))
    return tuple(found)


def remove_task(ranges: list[TaskRange], task_id: int) -> None:
    """从升序不相交的区间里就地去掉一个任务；没有则不变。"""
    index = bisect_right(ranges, task_id, key=lambda span: span.lower) - 1
    if index < 0 or ranges[index].upper <= task_id:
        return
    span = ranges[index]
    left = [TaskRange(span.lower, task_id)] if span.lower < task_id else []
    right = [TaskRange(task_id + 1, span.upper)] if task_id + 1 < span.upper else []
    ranges[index : index + 1] = [*left, *right]


def count_tasks(ranges: Sequence[TaskRange]) -> int:
    """区间里一共几个任务。"""
    return sum(span.upper - span.lower for span in ranges)


def format_ranges(ranges: Sequence[TaskRange], max_running: int | None = None) -> str:
    """区间 -> Slurm 的写法：0-3,7 或等步长的 1-9:2；max_running 写在 % 之后。"""
    singles = [span.lower for span in ranges if span.upper - span.lower == 1]
    if len(singles) == len(ranges) > 2:
        step = singles[1] - singles[0]
        if all(later - earlier == step for earlier, later in itertools.pairwise(singles)):
            text = f"{singles[0]}-{singles[-1]}:{step}"
            return f"{text}%{max_running}" if max_running else text
    text = ",".join(
        str(span.lower) if span.upper - span.lower == 1 else f"{span.lower}-{span.upper - 1}" for span in ranges
    )
    return f"{text}%{max_running}" if max_running else text
