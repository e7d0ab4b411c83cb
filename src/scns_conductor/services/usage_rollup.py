"""用量的汇总：隔一会儿把结束了的尝试加进去，一次一小批，各自一个事务。"""

import asyncio

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.statements.usage_rollups import BACK_FILL, BACK_FILLED, ROLL_UP

INTERVAL_S = 30.0
BATCH = 1000

logger = structlog.get_logger(__name__)


async def roll_up(engine: AsyncEngine) -> int:
    """加到没有剩下的，返回加了几个；几个进程一起做也不重。数据库不在时抛 SQLAlchemyError。"""
    total = 0
    while True:
        async with engine.begin() as connection:
            taken = int((await connection.execute(ROLL_UP, {"most": BATCH})).scalar_one())
        total += taken
        if taken < BATCH:
            return total


async def back_fill(engine: AsyncEngine) -> bool:
    """补一段升级之前就结束了的；补完了（或别人正在补）返回假。"""
    async with engine.begin() as connection:
        place = (await connection.execute(BACK_FILL, {"most": BATCH})).scalar_one_or_none()
        if place is None:
            return False
        if place < 1:
            await connection.execute(BACK_FILLED)
        return int(place) >= 1


async def keep_rolling_up(engine: AsyncEngine) -> None:
    """隔 INTERVAL_S 加一遍，先把从前的补完，直到被取消。"""
    while True:
        try:
            while await back_fill(engine):
                pass
            await roll_up(engine)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError) as error:
            logger.warning("usage_roll_up_failed", error=first_line(error))
        await asyncio.sleep(INTERVAL_S)
