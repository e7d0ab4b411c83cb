"""此刻的设置：环境变量与设置文件的，盖上运行时改过的（cluster_settings）。缓存一小会儿。"""

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.runtime_settings import effective
from scns_conductor.core.settings import Settings
from scns_conductor.core.transactions import Database
from scns_conductor.services.refreshed import Refreshed
from scns_conductor.statements.cluster_settings import SELECT_SETTINGS


async def read_settings(database: Database, base: Settings) -> Settings:
    """此刻的。"""
    async with database.connect() as connection:
        rows = (await connection.execute(SELECT_SETTINGS)).all()
    return effective(base, {row.name: row.value for row in rows})


class LiveSettings(Refreshed[Settings]):
    """当前的设置；本进程里改过之后用 forget 立即重读。"""

    def __init__(self, engine: AsyncEngine, base: Settings) -> None:
        super().__init__(self._load, base)
        self._engine = engine
        self._base = base

    async def _load(self) -> Settings:
        return await read_settings(self._engine, self._base)
