"""令牌的登记簿，API 的一侧：哪些作废了（至多旧 FRESH_S 秒，不是每个请求查库），哪些刚用过（一会儿写一次）。"""

import asyncio
import time
from dataclasses import dataclass, field

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError, Unauthorized, first_line
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import ORIGIN
from scns_conductor.services.refreshed import Refreshed
from scns_conductor.statements.access_tokens import REVOKED, TOKENS_USED

# 有请求来时，比这旧的重读一次（秒）：作废在一秒之内对全部 API 进程生效，闲着的进程一条语句也不发。
FRESH_S = 0.8
# 多久写一次最近的使用（秒）。
WRITE_S = 15.0
# 刚用过的至多记这么多个令牌。
_MOST_USED = 100_000

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Revoked:
    """作废了的令牌的号；用户 -> 何时及以前签发的都作废（Unix 秒）。"""

    tokens: frozenset[str] = frozenset()
    users: dict[str, int] = field(default_factory=dict)


class TokenRegistry:
    """一个进程一份。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._revoked = Refreshed(self._read, _Revoked(), FRESH_S)
        self._used: dict[str, tuple[float, str | None]] = {}

    def forget(self) -> None:
        """下一次核对重读：本进程里刚作废了一个。"""
        self._revoked.forget()

    async def require_live(self, identity: Identity) -> None:
        """作废了的令牌抛 Unauthorized；数据库读不了抛它的错。记下用过。"""
        revoked = await self._revoked.get()
        if identity.token_id is not None:
            if identity.token_id in revoked.tokens:
                raise Unauthorized("令牌已作废；请重新签发", code="token_revoked")
            if len(self._used) < _MOST_USED:
                self._used[identity.token_id] = (time.time(), ORIGIN.get().address)
        elif identity.issued_at is not None and identity.issued_at <= revoked.users.get(identity.user_name, -1):
            raise Unauthorized("令牌已作废：用户删除了，或作废了他的全部令牌；请重新签发", code="token_revoked")

    async def _read(self) -> _Revoked:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(REVOKED)).all()
        return _Revoked(
            frozenset(row.token_id for row in rows if row.token_id is not None),
            {row.user_name: row.revoked_at for row in rows if row.user_name is not None},
        )

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
            logger.warning("token_use_not_written", error=first_line(error))
            self._used = {**used, **self._used}

    async def keep_used(self) -> None:
        """隔一会儿写一次，直到被取消。"""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.write_used()
