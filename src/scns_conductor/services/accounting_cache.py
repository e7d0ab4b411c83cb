"""账户、关联与 QOS 的快照，缓存一小会儿：提交与认证的热路径不为它查库。"""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.accounting import Accounting, accounting_of
from scns_conductor.services.refreshed import Refreshed
from scns_conductor.statements.accounting import SELECT_ACCOUNTS, SELECT_ASSOCIATIONS, SELECT_QOS, SELECT_USERS


async def read_accounting(connection: AsyncConnection) -> Accounting:
    """此刻的快照。"""
    parts = [
        [dict(row) for row in (await connection.execute(statement)).mappings()]
        for statement in (SELECT_ACCOUNTS, SELECT_ASSOCIATIONS, SELECT_QOS, SELECT_USERS)
    ]
    return accounting_of(*parts)


class AccountingCache(Refreshed[Accounting]):
    """此刻的快照；本进程里改过之后用 forget 立即重读。"""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(self._load, Accounting())
        self._engine = engine

    async def _load(self) -> Accounting:
        async with self._engine.connect() as connection:
            return await read_accounting(connection)
