"""各 API 进程共用的账，在 Valkey 里：谁的配额用到了哪一刻，谁登录失败了几次。

Valkey 不在（或刚才不在）时一律返回 None，各进程照自己的账：只是宽一些，从不因此拒绝或等待。
时刻都照 Valkey 的钟；键里没有名字，只有摘要（有人把口令当名字写）。
"""

import asyncio
import hashlib
import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog

from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.core.settings import Settings
from scns_conductor.services.login_delays import (
    FORGOTTEN_S,
    FREE_PER_ADDRESS,
    FREE_PER_USER,
    MOST_ADDRESS_S,
    MOST_USER_S,
)
from scns_conductor.statements.incarnation import CURRENT_INCARNATION

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

# 等 Valkey 回答至多这么久；它不在，这么久之后再试（秒）。
ANSWER_S = 0.5
AWAY_S = 5.0
# 配额又用掉几秒 -> 用到了此刻之后几秒。
_ADD = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local found = {}
for i, key in ipairs(KEYS) do
  local reached = math.max(tonumber(redis.call('GET', key) or '0'), now) + tonumber(ARGV[i])
  redis.call('SET', key, string.format('%.6f', reached), 'PX', math.ceil((reached - now) * 1000) + 1000)
  found[i] = string.format('%.6f', reached - now)
end
return found
"""
# 用户的、地址的都不必等才许试一次，试之前先当作失败记下；返回要等几秒。次数与等法同 LoginDelays。
_TRY = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local wait = 0
for i, key in ipairs(KEYS) do
  wait = math.max(wait, tonumber(redis.call('HGET', key, 'until') or '0') - now)
end
if wait > 0 then return string.format('%.6f', wait) end
for i, key in ipairs(KEYS) do
  local over = redis.call('HINCRBY', key, 'failures', 1) - tonumber(ARGV[2 * i - 1])
  if over > 0 then
    local pause = math.min(tonumber(ARGV[2 * i]), 2 ^ math.min(over - 1, 10))
    redis.call('HSET', key, 'until', string.format('%.6f', now + pause))
  end
  redis.call('EXPIRE', key, tonumber(ARGV[5]))
end
return '0'
"""
# 成功了：用户的清掉，地址的退这一次。
_SUCCEEDED = """
redis.call('DEL', KEYS[1])
if tonumber(redis.call('HGET', KEYS[2], 'failures') or '0') > 0 then redis.call('HINCRBY', KEYS[2], 'failures', -1) end
"""
logger = structlog.get_logger(__name__)


class SharedLedger:
    """一个 API 进程一个；用到才连。engine 是哪个系统的数据库：同一个 Valkey 上可以有几个系统，键里带着化身。"""

    engine: "AsyncEngine | None" = None

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url.get_secret_value()
        self._redis: Redis | None = None
        self._errors: tuple[type[Exception], ...] = (OSError, TimeoutError)
        self._system: str | None = None
        self._away_until = 0.0

    async def add(self, entries: Sequence[tuple[str, float]]) -> list[float] | None:
        """(哪本账的谁, 又用掉几秒) -> 各自用到了此刻之后几秒，次序与给的相同。"""
        found = await self._ask(_ADD, [name for name, _ in entries], [f"{seconds:.6f}" for _, seconds in entries])
        return None if found is None else [float(each) for each in found]

    async def try_login(self, user_name: str, address: str) -> float | None:
        """还要等几秒才许试；0 是许，这一次先当作失败记下了。"""
        limits = [FREE_PER_USER, MOST_USER_S, FREE_PER_ADDRESS, MOST_ADDRESS_S, int(FORGOTTEN_S)]
        found = await self._ask(_TRY, self._login(user_name, address), limits)
        return None if found is None else float(found)

    async def login_succeeded(self, user_name: str, address: str) -> None:
        """刚才许试的那一次成功了。"""
        await self._ask(_SUCCEEDED, self._login(user_name, address), [])

    async def close(self) -> None:
        """断开。"""
        if self._redis is not None:
            await self._redis.aclose()

    @staticmethod
    def _login(user_name: str, address: str) -> list[str]:
        return [f"user:{user_name}", f"address:{address}"]

    async def _system_name(self) -> str | None:
        """数据库的化身；还不知道、数据库不在是 None。"""
        if self._system is None and self.engine is not None:
            try:
                async with self.engine.connect() as connection:
                    self._system = await connection.scalar(CURRENT_INCARNATION)
            except (OSError, sa.exc.SQLAlchemyError, ConductorError):
                return None
        return self._system

    async def _connected(self) -> "Redis":
        if self._redis is None:
            # 导入要几百毫秒，多数进程用不到：用到时在别的线程里。
            library: Any = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
            self._errors = (OSError, TimeoutError, library.RedisError)
            if self._redis is None:
                # 不重试：断了的这一次照自己的账。
                self._redis = library.Redis.from_url(
                    self._url,
                    socket_connect_timeout=ANSWER_S,
                    socket_timeout=ANSWER_S,
                    retry=None,
                    decode_responses=True,
                )
        return self._redis

    async def _ask(self, script: str, names: Sequence[str], arguments: Sequence[Any]) -> Any:
        if time.monotonic() < self._away_until:
            return None
        system = await self._system_name()
        if system is None:
            return None
        client = await self._connected()
        keys = [f"scns:limits:{system}:" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in names]
        try:
            found = await client.register_script(script)(keys=keys, args=arguments)
        except self._errors as error:
            self._away_until = time.monotonic() + AWAY_S
            logger.warning("limits_not_shared", error=first_line(error))
            return None
        # 没有返回值的也要与「不在」分开。
        return "0" if found is None else found
