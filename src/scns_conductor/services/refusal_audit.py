"""审计里没有做成的：登录失败，不对的令牌，被拒绝的管理的事。

没有那件事的事务可以同在，所以各写各的；写不成只记日志，不改对请求的回答。同样的一分钟写一条（不对的令牌一小时：
过期了还一直在问的程序不少），一个地址一分钟也只写这么多条：乱试的人写不满一张只增的表。
"""

import asyncio
import time
from collections.abc import Hashable, Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import ORIGIN, record
from scns_conductor.services.rate_limits import MINUTE_S, Quota

PER_ADDRESS_A_MINUTE = 60
_HOUR_S = 3600.0
# 数据库慢、不在时，回答至多为它等这么久（秒）。
_WRITE_S = 2.0
# 说不出是谁。
_NOBODY = "(unknown)"
_TARGET_MOST = 300
logger = structlog.get_logger(__name__)


class RefusalAudit:
    """一个 API 进程一个。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._acts = _Limits(MINUTE_S)
        # 另算：乱试令牌的挤不掉登录失败的。
        self._tokens = _Limits(_HOUR_S)

    async def login_failed(self, method: str, user_name: str, reason: str) -> None:
        """method 是 password、oidc；user_name 是他说自己是谁。"""
        identity = Identity(user_name, admin=False, method=method)
        await self._write(identity, "login.failed", user_name, {"reason": reason}, self._acts)

    async def not_identified(self, claimed: str | None, method: str, code: str) -> None:
        """带来的令牌、本机套接字的那一头没有认出来（401）。claimed 是它说自己是谁，没有核对过。"""
        identity = Identity(_NOBODY, admin=False, method=method)
        await self._write(identity, "token.refused", claimed or _NOBODY, {"code": code}, self._tokens)

    async def refused(self, identity: Identity, what: str, error: ConductorError) -> None:
        """what 是方法与路径，如 DELETE /nodes/node1。"""
        await self._write(identity, "request.refused", what[:_TARGET_MOST], {"code": error.code}, self._acts)

    async def _write(
        self, identity: Identity, action: str, target: str, after: Mapping[str, Any], limits: "_Limits"
    ) -> None:
        address = ORIGIN.get().address
        if not limits.take(address, (identity.user_name, address, action, target, *after.values())):
            return
        try:
            async with asyncio.timeout(_WRITE_S), self._engine.begin() as connection:
                await record(connection, identity, action, target, after=after)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError) as error:
            logger.warning("audit_failed", action=action, error=first_line(error))


class _Limits:
    """同样的 every_s 秒一条，一个地址一分钟 PER_ADDRESS_A_MINUTE 条。"""

    def __init__(self, every_s: float) -> None:
        self._same = Quota(1 / every_s, every_s)
        self._addresses = Quota(PER_ADDRESS_A_MINUTE / MINUTE_S, MINUTE_S)

    def take(self, address: str | None, what: Hashable) -> bool:
        """许不许写。"""
        now = time.monotonic()
        if self._addresses.wait_s(address, now) > 0 or self._same.take(what, now) > 0:
            return False
        self._addresses.take(address, now)
        return True
