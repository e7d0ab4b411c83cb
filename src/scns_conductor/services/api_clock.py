"""API 的「现在」照数据库的钟：隔一会儿问一次。"""

import asyncio

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError
from scns_conductor.core.instants import boot_s, follow_database
from scns_conductor.statements.server_facts import DATABASE_NOW

# 隔这么久（秒）问一次；数据库不在时早些再问。
INTERVAL_S = 60.0
RETRY_S = 2.0


async def ask_clock(engine: AsyncEngine) -> None:
    """问一次。数据库不在时抛 SQLAlchemyError 或 OSError。"""
    async with engine.connect() as connection:
        # 先开始事务：往返里只有一句。
        await connection.execute(DATABASE_NOW)
        before = boot_s()
        now = (await connection.execute(DATABASE_NOW)).scalar_one()
        follow_database(now, (before + boot_s()) / 2)


async def keep_clock(engine: AsyncEngine) -> None:
    """一直问下去；取消它就停。"""
    while True:
        try:
            await ask_clock(engine)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError):
            await asyncio.sleep(RETRY_S)
        else:
            await asyncio.sleep(INTERVAL_S)
