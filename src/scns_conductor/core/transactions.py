"""几件业务合成一个事务：services 的函数各自开始一个事务，给它们 SharedTransaction 就都在同一个里，一起成、一起不成。"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class Database(Protocol):
    """AsyncEngine，或 SharedTransaction。"""

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """一个事务：正常离开时提交，有异常时撤销。"""

    def connect(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """只读的一段。"""


class SharedTransaction:
    """已经开始的一个事务；提交与撤销归开始它的人。"""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """同一个事务。"""
        yield self._connection

    connect = begin
