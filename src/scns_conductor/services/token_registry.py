"""令牌的登记簿，API 的一侧：哪些作废了（至多旧 FRESH_S 秒，不是每个请求查库），哪些刚用过（一会儿写一次）。"""

import asyncio
import time

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError, Unauthorized
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import ORIGIN
from scns_conductor.statements.access_tokens import REVOKED, TOKENS_USED

# 有请求来时，比这旧的重读一次（秒）：作废在一秒之内对全部 API 进程生效，闲着的进程一条语句也不发。
FRESH_S = 0.8
# 多久写一次最近的使用（秒）。
WRITE_S = 15.0
# 刚用过的至多记这么多个令牌。
_MOST_USED = 100_000

logger = structlog.get_logger(__name__)


class TokenRegistry:
    """一个进程一份。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._read_at = -FRESH_S
        self._reading: asyncio.Task[None] | None = None
        self._tokens: frozenset[str] = frozenset()
        self._users: dict[str, int] = {}
        self._used: dict[str, tuple[float, str | None]] = {}

    def forget(self) -> None:
        """下一次核对重读：本进程里刚作废了一个。"""
        self._read_at = -FRESH_S

    async def require_live(self, identity: Identity) -> None:
        """作废了的令牌抛 Unauthorized；数据库读不了抛它的错。记下用过。"""
        if time.monotonic() - self._read_at > FRESH_S:
            await self._refresh()
        if identity.token_id is not None:
            if identity.token_id in self._tokens:
                raise Unauthorized("令牌已作废；请重新签发", code="token_revoked")
            if len(self._used) < _MOST_USED:
                self._used[identity.token_id] = (time.time(), ORIGIN.get().address)
        elif identity.issued_at is not None and identity.issued_at <= self._users.get(identity.user_name, -1):
            raise Unauthorized("令牌已作废：用户删除了，或作废了他的全部令牌；请重新签发", code="token_revoked")

    async def _refresh(self) -> None:
        """几个请求一起等的是同一次读；读不了时一起得到那个错，不是排着队各等一次。"""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._read_done)
        await asyncio.shield(self._reading)

    def _read_done(self, task: "asyncio.Task[None]") -> None:
        self._reading = None
        # 等着它的请求都走了也要看一眼，不然留下一条没有人取的异常。
        if not task.cancelled():
            task.exception()

    async def _read(self) -> None:
        began = time.monotonic()
        async with self._engine.connect() as connection:
            rows = (await connection.execute(REVOKED)).all()
        self._tokens = frozenset(row.token_id for row in rows if row.token_id is not None)
        self._users = {row.user_name: row.revoked_at for row in rows if row.user_name is not None}
        self._read_at = began

    async def write_used(self) -> None:
        """把刚用过的写下来；写不成的下次再写。"""
        if not self._used:
            return
        used, self._used = self._used, {}
        values = {
            "token_ids": list(used),
            "moments": [moment for moment, _ in used.values()],
            "addresses": [address for _, address in used.values()],
        }
        try:
            async with self._engine.begin() as connection:
                await connection.execute(TOKENS_USED, values)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError) as error:
            logger.warning("token_use_not_written", error=str(error).splitlines()[:1])
            self._used = {**used, **self._used}

    async def keep_used(self) -> None:
        """隔一会儿写一次，直到被取消。"""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.write_used()
