"""闹钟：到了时刻要重看资格的作业。"""

import heapq
from collections.abc import Container, Sized
from dataclasses import dataclass, field
from typing import Protocol

# 闹钟比排队的作业多出这么多才清一遍。
MOST_EXTRA = 1000


class Jobs(Sized, Container[int], Protocol):
    """排队的作业号。"""


@dataclass(slots=True)
class Alarms:
    """waiting 是此刻排队的作业；不在其中的闹钟不作数。"""

    waiting: Jobs
    _heap: list[tuple[float, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._heap)

    def clear(self) -> None:
        """全取消。"""
        self._heap.clear()

    def set(self, moment: float, job_id: int) -> None:
        """在 moment（Unix 秒）叫醒它。"""
        heapq.heappush(self._heap, (moment, job_id))
        # 每改一次分区，还没到时刻的都重看一遍、各添一个：同样的、已经不在的清掉。
        if len(self._heap) > 8 * len(self.waiting) + MOST_EXTRA:
            self._heap = sorted({each for each in self._heap if each[1] in self.waiting})

    def pop_due(self, now: float) -> int | None:
        """一个到了时刻的作业号；没有了是 None。"""
        return heapq.heappop(self._heap)[1] if self._heap and self._heap[0][0] <= now else None

    @property
    def next(self) -> float | None:
        """最早的时刻；没有是 None。"""
        return self._heap[0][0] if self._heap else None
