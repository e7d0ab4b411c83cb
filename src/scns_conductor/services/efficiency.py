"""谁要得多、用得少：按账户与用户合计，白占的 CPU 多的在前。"""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.reports import Efficiency, UserEfficiency
from scns_conductor.core.answers.writing import rows_of
from scns_conductor.statements.efficiency import EFFICIENCY


async def efficiency(engine: AsyncEngine, since: datetime, until: datetime) -> Efficiency:
    """一段时间里结束的作业要的与用掉的 CPU 秒、MiB 秒、时限。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(EFFICIENCY, {"since": since, "until": until})).mappings().all()
    return {"since": since.isoformat(), "until": until.isoformat(), "users": rows_of(UserEfficiency, rows)}
