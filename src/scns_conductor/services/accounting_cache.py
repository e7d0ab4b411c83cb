"""账户、关联与 QOS 的快照，缓存一小会儿：提交与认证的热路径不为它查库。"""

import time

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.accounting import Accounting, accounting_of
from scns_conductor.statements.accounting import SELECT_ACCOUNTS, SELECT_ASSOCIATIONS, SELECT_QOS, SELECT_USERS

FRESH_S = 1.0


async def read_accounting(connection: AsyncConnection) -> Accounting:
    """此刻的快照。"""
    parts = [
        [dict(row) for row in (await connection.execute(statement)).mappings()]
        for statement in (SELECT_ACCOUNTS, SELECT_ASSOCIATIONS, SELECT_QOS, SELECT_USERS)
    ]
    return accounting_of(*parts)


class AccountingCache:
    """最多旧 FRESH_S 秒；本进程里改过之后用 forget 立即重读。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._read_at = -FRESH_S
        self._found = Accounting()

    def forget(self) -> None:
        """下一次 get 重读。"""
        self._read_at = -FRESH_S

    async def get(self) -> Accounting:
        """当前的快照。"""
        if time.monotonic() - self._read_at > FRESH_S:
            async with self._engine.connect() as connection:
                self._found = await read_accounting(connection)
            self._read_at = time.monotonic()
        return self._found
