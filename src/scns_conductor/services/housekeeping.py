"""定时删掉过期的行；每个 API 进程都做，别人正删着的再删一遍也无妨。"""

import asyncio
import random

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.statements.housekeeping import EXPIRED

INTERVAL_S = 1800.0
BATCH = 10_000

logger = structlog.get_logger(__name__)


async def delete_expired(engine: AsyncEngine) -> dict[str, int]:
    """删掉全部过期的，返回各表删了几行；数据库不在时抛 SQLAlchemyError。"""
    found: dict[str, int] = {}
    for table, statement in EXPIRED.items():
        while True:
            async with engine.begin() as connection:
                removed = (await connection.execute(statement, {"most": BATCH})).rowcount
            found[table] = found.get(table, 0) + removed
            if removed < BATCH:
                break
    return found


async def keep_house(engine: AsyncEngine) -> None:
    """隔半小时左右删一遍，直到被取消。"""
    while True:
        # 几个 API 进程错开。
        await asyncio.sleep(INTERVAL_S * random.uniform(0.8, 1.2))
        try:
            removed = await delete_expired(engine)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError) as error:
            logger.warning("housekeeping_failed", error=first_line(error))
            continue
        if any(removed.values()):
            logger.info("housekeeping", **removed)
