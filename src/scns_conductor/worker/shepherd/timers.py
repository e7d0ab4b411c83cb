"""定时：到开机秒数 due_boot_s 时做一件事。不再要的可以取消，取消的不留着它的参数。"""

from __future__ import annotations

import heapq

from scns_conductor.worker.host.process_table import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# 取消了的至少这么多、又占到一半，才把堆重新排一遍。
SWEEP_LEAST = 256


class Timer:
    """一个定时；取消或做过之后什么也不再指着。"""

    __slots__ = ("action", "argument")

    def __init__(self, action: Callable[[Any], None], argument: Any) -> None:
        self.action: Callable[[Any], None] | None = action
        self.argument = argument


class Timers:
    """按时刻排着的定时。时限一小时的作业一秒就结束了，它的定时在堆里还要躺一小时：取消时放掉参数，多了就扫掉。"""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, due_boot_s: float, action: Callable[[Any], None], argument: Any) -> Timer:
        """到 due_boot_s 时执行 action(argument)。"""
        self._count += 1
        timer = Timer(action, argument)
        heapq.heappush(self._heap, (due_boot_s, self._count, timer))
        return timer

    def cancel(self, timers: Iterable[Timer]) -> None:
        """这些不做了；做过的、取消过的不要紧。"""
        for timer in timers:
            if timer.action is not None:
                timer.action = timer.argument = None
                self._cancelled += 1
        if self._cancelled >= SWEEP_LEAST and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_s(self) -> float | None:
        """距最近一个定时还有几秒；没有返回 None。"""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return max(0.0, self._heap[0][0] - boot_now()) if self._heap else None

    def run(self) -> None:
        """执行已到时的动作。"""
        now_boot_s = boot_now()
        while self._heap and self._heap[0][0] <= now_boot_s:
            timer = heapq.heappop(self._heap)[2]
            action, argument = timer.action, timer.argument
            if action is None:
                self._cancelled -= 1
                continue
            timer.action = timer.argument = None
            action(argument)
