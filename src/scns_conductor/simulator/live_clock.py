"""重放线上系统的虚拟时钟：到达、结束、要再看的时刻，从早到晚。"""

import heapq
from enum import IntEnum


class Kind(IntEnum):
    """同一时刻：先结束，再到达，再看空闲够久的节点，最后是到了时刻要再看的（一个作业，或大家）。"""

    END = 0
    ARRIVAL = 1
    IDLE_LONG = 2
    LOOK = 3


# 要再看的是大家。
EVERYONE = -1


class Clock:
    """见模块的说明。时刻是 Unix 秒；number 是哪个作业，IDLE_LONG 是第几次空闲。"""

    def __init__(self) -> None:
        self._events: list[tuple[float, Kind, int]] = []
        # 在跑的何时结束：被抢占过的，从前定下的不算。
        self.ends: dict[int, float] = {}
        # 其中作业的（到达、结束）有几个：没有了，余下的空闲就不算。
        self.due = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def next_s(self) -> float:
        """最早的一个的时刻。"""
        return self._events[0][0]

    def push(self, moment: float, kind: Kind, number: int) -> None:
        """到时。"""
        self.due += kind in (Kind.END, Kind.ARRIVAL)
        heapq.heappush(self._events, (moment, kind, number))

    def ends_at(self, number: int, moment: float) -> None:
        """作业在这时结束。"""
        self.ends[number] = moment
        self.push(moment, Kind.END, number)

    def pop(self) -> tuple[Kind, int]:
        """最早的一个。"""
        _, kind, number = heapq.heappop(self._events)
        self.due -= kind in (Kind.END, Kind.ARRIVAL)
        return kind, number
