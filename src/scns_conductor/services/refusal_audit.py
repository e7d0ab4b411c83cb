"""审计里没有做成的：登录失败，被拒绝的管理的事。

没有那件事的事务可以同在，所以各写各的；写不成只记日志，不改对请求的回答。同样的一分钟写一条，一个地址一分钟也只写
这么多条：乱试的人写不满一张只增的表。
"""

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import ConductorError
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import ORIGIN, record
from scns_conductor.services.rate_limits import MINUTE_S, Quota

PER_ADDRESS_A_MINUTE = 60
_TARGET_MOST = 300
logger = structlog.get_logger(__name__)


class RefusalAudit:
    """一个 API 进程一个。"""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._same = Quota(1 / MINUTE_S, MINUTE_S)
        self._addresses = Quota(PER_ADDRESS_A_MINUTE / MINUTE_S, MINUTE_S)

    async def login_failed(self, method: str, user_name: str, reason: str) -> None:
        """method 是 password、oidc；user_name 是他说自己是谁。"""
        identity = Identity(user_name, admin=False, method=method)
        await self._write(identity, "login.failed", user_name, {"reason": reason})

    async def refused(self, identity: Identity, what: str, error: ConductorError) -> None:
        """what 是方法与路径，如 DELETE /nodes/node1。"""
        await self._write(identity, "request.refused", what[:_TARGET_MOST], {"code": error.code})

    async def _write(self, identity: Identity, action: str, target: str, after: Mapping[str, Any]) -> None:
        now, address = time.monotonic(), ORIGIN.get().address
        same = (identity.user_name, address, action, target, *after.values())
        if self._same.take(same, now) > 0 or self._addresses.take(address, now) > 0:
            return
        try:
            async with self._engine.begin() as connection:
                await record(connection, identity, action, target, after=after)
        except (sa.exc.SQLAlchemyError, ConductorError, OSError, TimeoutError) as error:
            logger.warning("audit_failed", action=action, error=str(error).splitlines()[:1])
