"""告诉调度器：凡是它必须知道的变化，都在同一个事务里写收件箱并唤醒它。"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.statements.inbox import notify_inbox


async def tell_scheduler(connection: AsyncConnection, *changes: sa.Insert) -> None:
    """changes 是 inbox_insert 造的；在调用者的事务里，提交之后才送出。一个变化也没有时什么也不做。"""
    for change in changes:
        await connection.execute(change)
    if changes:
        await connection.execute(notify_inbox())
