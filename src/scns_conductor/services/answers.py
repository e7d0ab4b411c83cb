"""问调度器或节点：请求写进收件箱，回答写在 request_answers 并 NOTIFY；每个 API 进程一条 LISTEN 连接。"""

import asyncio
import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import ConductorError, TooManyRequests
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.answers import ANSWER_CHANNEL, TAKE_ANSWER
from scns_conductor.statements.inbox import inbox_insert

ANSWER_WAIT_S = 10.0
# 一个用户同时问调度器的问题至多这么多个（每个 API 进程）：它们真的计划一次，不便宜。
MOST_OPEN = 4
# 通知没有来（队列满时不送，连接断过）：隔这么久自己看一眼。
LOOK_S = 1.0

logger = logging.getLogger(__name__)


class AnswerTimeout(ConductorError):
    """调度器或节点没有按时回答（504）。"""

    def __init__(self) -> None:
        super().__init__(
            detail="调度器或节点没有按时回答；可能正在重启或失联，请稍后再试", code="answer_timeout", status=504
        )


class AnswerDesk:
    """在途的提问。听着的会话（listening）断了会自己重连；漏掉的通知由等待者隔 LOOK_S 直接查库补上。"""

    def __init__(self, engine: AsyncEngine, listening: AsyncEngine) -> None:
        self._engine = engine
        self._listening = listening
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._open: Counter[str] = Counter()
        self._listener: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def ask_scheduler(self, kind: str, user_name: str, payload: dict[str, Any]) -> dict[str, Any]:
        """替一个用户问调度器要计划才答得出的；同时问得太多抛 TooManyRequests，等久了抛 AnswerTimeout。"""
        if self._open[user_name] >= MOST_OPEN:
            raise TooManyRequests(
                f"你同时有 {MOST_OPEN} 个问题在等调度器回答；请等它们答完再问", code="too_many_questions"
            )
        self._open[user_name] += 1
        try:
            return await self.ask(kind, payload={**payload, "user_name": user_name})
        finally:
            self._open[user_name] -= 1
            if not self._open[user_name]:
                del self._open[user_name]

    async def ask(
        self,
        kind: str,
        *,
        job_ids: Sequence[int] = (),
        node_names: Sequence[str] = (),
        payload: dict[str, Any],
        wait_s: float = ANSWER_WAIT_S,
    ) -> dict[str, Any]:
        """写进收件箱并等回答；wait_s 秒没有回答抛 AnswerTimeout。"""
        await self._listen()
        request_id = uuid.uuid4().hex
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            async with self._engine.begin() as connection:
                await tell_scheduler(
                    connection,
                    inbox_insert(
                        kind, job_ids=job_ids, node_names=node_names, payload={**payload, "request_id": request_id}
                    ),
                )
            answer = None
            deadline = asyncio.get_running_loop().time() + wait_s
            while answer is None and (left := deadline - asyncio.get_running_loop().time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_S, left)):
                        await asyncio.shield(future)
                async with self._engine.begin() as connection:
                    answer = (await connection.execute(TAKE_ANSWER, {"request_id": request_id})).scalar_one_or_none()
                if answer is None and future.done():
                    future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        finally:
            del self._waiting[request_id]
        if answer is None:
            raise AnswerTimeout
        return dict(answer)

    async def close(self) -> None:
        """关掉监听的连接。"""
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def _listen(self) -> None:
        async with self._lock:
            if self._listener is not None:
                raw = await self._listener.get_raw_connection()
                driver = raw.driver_connection
                if isinstance(driver, asyncpg.Connection) and not driver.is_closed():
                    return
                await self._listener.invalidate()
                await self._listener.close()
            self._listener = await (await self._listening.connect()).execution_options(isolation_level="AUTOCOMMIT")
            driver = (await self._listener.get_raw_connection()).driver_connection
            assert isinstance(driver, asyncpg.Connection)
            await driver.add_listener(ANSWER_CHANNEL, self._heard)

    def _heard(self, _connection: Any, _pid: int, _channel: str, request_id: Any) -> None:
        future = self._waiting.get(str(request_id))
        if future is not None and not future.done():
            future.set_result(None)
