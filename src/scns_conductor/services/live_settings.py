"""此刻的设置：环境变量与设置文件的，盖上运行时改过的（cluster_settings）。缓存一小会儿。"""

import time

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.runtime_settings import effective
from scns_conductor.core.settings import Settings
from scns_conductor.core.transactions import Database
from scns_conductor.statements.cluster_settings import SELECT_SETTINGS

FRESH_S = 1.0


async def read_settings(database: Database, base: Settings) -> Settings:
    """此刻的。"""
    async with database.connect() as connection:
        rows = (await connection.execute(SELECT_SETTINGS)).all()
    return effective(base, {row.name: row.value for row in rows})


class LiveSettings:
    """最多旧 FRESH_S 秒；本进程里改过之后用 forget 立即重读。"""

    def __init__(self, engine: AsyncEngine, base: Settings) -> None:
        self._engine = engine
        self._base = base
        self._found = base
        self._read_at = -FRESH_S

    def forget(self) -> None:
        """下一次 get 重读。"""
        self._read_at = -FRESH_S

    async def get(self) -> Settings:
        """当前的设置。"""
        if time.monotonic() - self._read_at > FRESH_S:
            self._found = await read_settings(self._engine, self._base)
            self._read_at = time.monotonic()
        return self._found
