"""指标要的：队列按状态、分区、原因，调度器的统计，数据库来回一次多久。标签的种类有限：没有作业号，没有用户。"""

import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.services.answers import AnswerDesk, AnswerTimeout
from scns_conductor.services.refreshed import Refreshed
from scns_conductor.statements.queue_metrics import QUEUE_COUNTS, ROUNDTRIP

# 调度器这么久不答（忙、换人）就没有它的统计，别的照常。
DIAG_WAIT_S = 2.0
# 再多的 (状态, 分区, 原因) 合成一行。
MOST_SERIES = 300
OTHER = "(other)"
FRESH_S = 5.0


class QueueMetrics:
    """一个 API 进程一份；几个采集者一起来也只数一次。"""

    def __init__(self, engine: AsyncEngine, desk: AnswerDesk) -> None:
        self._engine, self._desk = engine, desk
        self._queue: Refreshed[dict[tuple[str, str, str], int]] = Refreshed(self._count, {}, FRESH_S)

    async def queue(self) -> dict[tuple[str, str, str], int]:
        """(状态, 分区, 原因) -> 没有结束的作业数，数组按任务计；运行中的没有原因。"""
        return await self._queue.get()

    async def _count(self) -> dict[tuple[str, str, str], int]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(QUEUE_COUNTS, {"most": MOST_SERIES + 1})).all()
        found: dict[tuple[str, str, str], int] = {}
        for index, row in enumerate(rows):
            key = (row.state, row.partition, row.reason) if index < MOST_SERIES else (row.state, OTHER, OTHER)
            found[key] = found.get(key, 0) + int(row.jobs)
        return found

    async def scheduler(self) -> dict[str, Any]:
        """sdiag 的统计；调度器没有按时回答是空的。"""
        try:
            return await self._desk.ask("diag", payload={"reset": False}, wait_s=DIAG_WAIT_S)
        except AnswerTimeout:
            return {}

    async def database_roundtrip_s(self) -> float:
        """借一个连接、问一句、还回去，一共多久（秒）。"""
        began = time.perf_counter()
        async with self._engine.connect() as connection:
            await connection.execute(ROUNDTRIP)
        return time.perf_counter() - began
