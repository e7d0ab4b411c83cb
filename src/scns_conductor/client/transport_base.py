"""同步与异步的收发共有的：到哪里、等多久、闲着的连接。"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from scns_conductor.client.problem import Problem
from scns_conductor.client.wire import Place, Times

C = TypeVar("C")


class TransportBase(Generic[C]):
    """C 是一条连接。"""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        source: str = "",
        renew: Callable[[], str | None] | None = None,
        times: Times | None = None,
        on_wait: Callable[[Problem, float], None] | None = None,
    ) -> None:
        self.place = Place(url, token, source, renew)
        self.times = times or Times()
        self._on_wait = on_wait
        # append 与 pop 本来就是原子的，不必为它加锁。
        self._idle: deque[C] = deque()
