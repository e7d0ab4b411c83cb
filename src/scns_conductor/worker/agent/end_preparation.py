"""结束写进数据库之前要做的：管理员的 epilog、读输出的尾部。各作业并行，有上限，谁慢只耽误谁自己的结束。

尾部按（用户，目录）分道：同一个目录里的一个线程读完一串；读不到（文件系统不答话）的等 TAIL_WAIT_S 秒，
之后不带尾部照样送出，那条道答话之前后来的也不等。
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from scns_conductor.statements.ends import OutputTail
from scns_conductor.worker.host.thread_owner import Lanes
from scns_conductor.worker.wire.end_record import EndRecord

EPILOGS_MOST = 64
READERS_MOST = 64
READERS_OF_USER = 8
TAIL_WAIT_S = 10.0
# 读好了尾部、等着写进数据库的至多这么多：数据库不在的时候不把它们都攒在内存里。
READ_AHEAD_MOST = 1000

# 一条备好的结束：记录，与输出的尾部。
Prepared = tuple[EndRecord, list[OutputTail]]
Lane = tuple[int | None, frozenset[str]]

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Reading:
    """正在读尾部的同一条道上的一批结束；owned 之后别人不再碰它。"""

    ends: list[EndRecord]
    lane: Lane
    due: float
    owned: bool = False


class EndPreparation:
    """put 收下结束；备好之后交给 ready（任何线程）。epilog、read_tails 为 None 表示不做。"""

    def __init__(
        self,
        *,
        epilog: Callable[[EndRecord], None] | None,
        read_tails: Callable[[EndRecord], list[OutputTail]] | None,
        ready: Callable[[list[Prepared]], None],
    ) -> None:
        self._epilog = epilog
        self._read_tails = read_tails
        self._ready = ready
        self._epilogs = Lanes("epilog", most=EPILOGS_MOST)
        self._readers = Lanes("output-tail", most=READERS_MOST, most_of_group=READERS_OF_USER)
        self._lock = threading.Lock()
        self._waiting: deque[EndRecord] = deque()
        self._readings: deque[_Reading] = deque()
        self._silent: set[Lane] = set()
        self._ahead = 0

    def put(self, ends: list[EndRecord]) -> None:
        """备好一批作业的结束。epilog 只给启动过的。"""
        epilog = self._epilog
        if epilog is None:
            self._queue(ends)
            return
        started = [end for end in ends if end.id is not None and end.pid]
        self._queue([end for end in ends if end.id is None or not end.pid])
        for end in started:

            def run(end: EndRecord = end) -> None:
                epilog(end)
                self._queue([end])

            self._epilogs.submit(end.key, run)

    def due_s(self) -> float | None:
        """还有几秒要看一次 expire；没有在读的返回 None。"""
        with self._lock:
            while self._readings and self._readings[0].owned:
                self._readings.popleft()
            return max(0.0, self._readings[0].due - time.monotonic()) if self._readings else None

    def expire(self) -> None:
        """等够了的不再等，不带尾部。"""
        late = []
        with self._lock:
            now = time.monotonic()
            while self._readings and (self._readings[0].owned or self._readings[0].due <= now):
                reading = self._readings.popleft()
                if not reading.owned:
                    reading.owned = True
                    self._silent.add(reading.lane)
                    late.append(reading)
        for reading in late:
            keys = [end.key for end in reading.ends]
            logger.warning("output_tail_unread", extra={"keys": keys, "folders": sorted(reading.lane[1])})
            self._ready([(end, []) for end in reading.ends])

    def written(self, count: int) -> None:
        """这么多个写进了数据库（或放下了）：可以再读这么多。"""
        with self._lock:
            self._ahead -= count
        self._advance()

    def close(self) -> None:
        """还没开始的不再做。"""
        self._epilogs.close()
        self._readers.close()

    def _queue(self, ends: list[EndRecord]) -> None:
        with self._lock:
            self._waiting.extend(ends)
        self._advance()

    def _advance(self) -> None:
        """还读得下的分到各自的道上。"""
        lanes: dict[Lane, list[EndRecord]] = {}
        plain: list[Prepared] = []
        with self._lock:
            while self._waiting and self._ahead < READ_AHEAD_MOST:
                end = self._waiting.popleft()
                self._ahead += 1
                lane = _lane_of(end)
                if not lane[1] or self._read_tails is None or lane in self._silent:
                    plain.append((end, []))
                else:
                    lanes.setdefault(lane, []).append(end)
            due = time.monotonic() + TAIL_WAIT_S
            readings = [_Reading(ends, lane, due) for lane, ends in lanes.items()]
            self._readings.extend(readings)
        if plain:
            self._ready(plain)
        for reading in readings:
            self._readers.submit(reading.lane, lambda reading=reading: self._read(reading), group=reading.lane[0])  # type: ignore[misc]

    def _read(self, reading: _Reading) -> None:
        with self._lock:
            # 轮到了，说明这条道在答话，只是先前排不上。
            if reading.owned:
                self._silent.discard(reading.lane)
                return
        assert self._read_tails is not None
        read = [(end, self._read_tails(end)) for end in reading.ends]
        with self._lock:
            first = not reading.owned
            reading.owned = True
            self._silent.discard(reading.lane)
        if first:
            self._ready(read)


def _lane_of(end: EndRecord) -> Lane:
    folders = {os.path.dirname(path) for path in (end.stdout, end.stderr) if path}
    return end.uid, frozenset(folders)
