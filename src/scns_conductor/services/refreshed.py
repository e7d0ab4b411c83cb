"""至多旧一小会儿的一份：热路径不为它查库。"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

FRESH_S = 1.0

_Found = TypeVar("_Found")


class Refreshed(Generic[_Found]):
    """read 读到的，最多旧 fresh_s 秒；本进程里改过之后用 forget 立即重读。

    过了期一起来要的合读一次：连着几百个客户端时，不是每秒几百个都去查库。读不了时一起得到那个错，不是排着队各等一次。
    """

    def __init__(self, read: Callable[[], Awaitable[_Found]], first: _Found, fresh_s: float = FRESH_S) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._reading: asyncio.Task[None] | None = None
        # 这一份是何时开始读的；要的至早是何时开始读的（time.monotonic）。
        self._began = self._wanted = -math.inf
        # 上次读到的，不管多旧；没有读过是 first。
        self.last = first

    def forget(self) -> None:
        """以后要的都重读；此刻正在读的那一次不算。"""
        self._wanted = time.monotonic()

    async def get(self, *, fresh: bool = False) -> _Found:
        """当前的；fresh 要此刻之后才开始读的。读不了抛它的错。"""
        wanted = time.monotonic()
        if not fresh:
            wanted -= self._fresh_s
            if wanted < self._wanted:
                wanted = self._wanted
        while self._began < wanted:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read_now())
                self._reading.add_done_callback(self._read_done)
            await asyncio.shield(self._reading)
        return self.last

    async def _read_now(self) -> None:
        began = time.monotonic()
        self.last = await self._read()
        self._began = began

    def _read_done(self, task: "asyncio.Task[None]") -> None:
        self._reading = None
        # 等着它的请求都走了也要看一眼，不然留下一条没有人取的异常。
        if not task.cancelled():
            task.exception()
