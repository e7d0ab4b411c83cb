"""从空闲的核里挑几个：先同一个 NUMA 节点，再同一个插槽，整个的核先，挨着的先。纯计算。"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from scns_conductor.worker.agent.cpu_topology import CpuUnit


def choose(free: Iterable[CpuUnit], count: int, near: Collection[int] = frozenset()) -> list[CpuUnit]:
    """count 份；不够是空的。near 是最好在哪些 NUMA 节点（分到的卡挨着的），没有偏好是空的。

    放得下的 NUMA 节点（插槽）里取空闲最少的：大块的留给要得多的。
    """
    units = list(free)
    if not 0 < count <= len(units):
        return []
    for place in (_numa, _socket):
        groups: dict[int, list[CpuUnit]] = defaultdict(list)
        for unit in units:
            groups[place(unit)].append(unit)
        fitting = [group for group in groups.values() if len(group) >= count]
        if fitting and (place is _socket or not near or any(group[0].numa in near for group in fitting)):
            best = min(fitting, key=lambda group: (_remote(group, near), len(group), place(group[0])))
            return _within(best, count, near)
    # 一个插槽放不下：空闲多的插槽先用完。
    chosen: list[CpuUnit] = []
    for group in sorted(groups.values(), key=lambda group: (_remote(group, near), -len(group), group[0].socket)):
        chosen += _within(group, min(count - len(chosen), len(group)), near)
    return chosen


def arranged(units: Iterable[CpuUnit], order: str = "block", threads: int | None = None, chunk: int = 1) -> list[int]:
    """一个任务一个任务地取时的次序：block 用完一个插槽再下一个；cyclic 每个插槽轮流给一个任务（chunk 个）；

    fcyclic 一个一个地轮流，一个任务的 CPU 也分在各插槽。threads 是一个核至多用几个线程
    （--threads-per-core、--hint=nomultithread），None 不限。
    """
    cores: dict[tuple[int, int], list[int]] = defaultdict(list)
    for unit in units:
        cores[unit.socket, unit.core].extend(unit.ids)
    sockets: dict[int, list[int]] = defaultdict(list)
    for (socket, _), ids in sorted(cores.items()):
        sockets[socket].extend(sorted(ids)[:threads])
    if order == "block":
        return [cpu for ids in sockets.values() for cpu in ids]
    each = chunk if order == "cyclic" else 1
    longest = max(map(len, sockets.values()), default=0)
    return [cpu for at in range(0, longest, each) for ids in sockets.values() for cpu in ids[at : at + each]]


def _numa(unit: CpuUnit) -> int:
    return unit.numa


def _socket(unit: CpuUnit) -> int:
    return unit.socket


def _remote(group: Sequence[CpuUnit], near: Collection[int]) -> bool:
    """组里没有一份在 near；没有偏好都不算。"""
    return bool(near) and all(unit.numa not in near for unit in group)


def _within(group: Sequence[CpuUnit], count: int, near: Collection[int]) -> list[CpuUnit]:
    cores: dict[int, list[CpuUnit]] = defaultdict(list)
    for unit in group:
        cores[unit.core].append(unit)
    width = max(map(len, cores.values()))
    whole = sorted((units for units in cores.values() if len(units) == width), key=_place)
    rest = count % width
    chosen: list[CpuUnit] = []
    if width > 1 and rest:
        # 零头用已经有人占了一半的核，免得再拆一个整的。
        partial = [units for units in cores.values() if rest <= len(units) < width]
        if partial:
            chosen = min(partial, key=len)[:rest]
    wanted = -(-(count - len(chosen)) // width)
    if wanted <= len(whole):
        # 相邻的核多半共享缓存：取跨度最小的一段。
        starts = range(len(whole) - wanted + 1)
        best = min(
            starts,
            key=lambda at: (
                sum(_remote(units, near) for units in whole[at : at + wanted]),
                whole[at + wanted - 1][0].ids[0] - whole[at][0].ids[0] if wanted else 0,
            ),
        )
        taken = whole[best : best + wanted]
    else:
        taken = [*whole, *sorted((units for units in cores.values() if len(units) < width), key=len, reverse=True)]
    left = (unit for units in taken for unit in units if unit not in chosen)
    return [*chosen, *islice(left, count - len(chosen))]


def _place(units: Sequence[CpuUnit]) -> int:
    return units[0].ids[0]
