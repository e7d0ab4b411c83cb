"""本机套接字那一头是谁：uid → 身份。"""

import asyncio
import os
import pwd
import time
from collections.abc import Mapping

from scns_conductor.core.errors import Forbidden, ServiceUnavailable, Unauthorized
from scns_conductor.core.tokens import Identity, legal_user_name

# 名字服务（SSSD、LDAP）会慢：查到的记这么久，一次至多等这么久（秒）。
NAME_FRESH_S = 60.0
LOOK_UP_S = 10.0
_NAMES_MOST = 10_000
# 内核对「这个命名空间里没有的 uid」一律这么说（/proc/sys/kernel/overflowuid 的缺省）：分不出是谁。
_OVERFLOW_UID = 65534
# 反向代理转来的：那一头是代理，不是提问的人。
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip", "x-forwarded-host", "x-forwarded-proto")


class Peers:
    """single_user：作业都以启动者的身份运行，所以只认他与 root。"""

    def __init__(self, *, single_user: bool) -> None:
        self._single_user = single_user
        self._names: dict[int, tuple[float, str]] = {}

    async def identity(self, uid: int, headers: Mapping[str, str]) -> Identity:
        """root 是管理员，别人是自己。

        认不出抛 Unauthorized，不许用抛 Forbidden，查名字太久抛 ServiceUnavailable。
        """
        if any(name in headers for name in _FORWARDED):
            raise Unauthorized(
                "反向代理转来的请求要带令牌：本机套接字只认得出直接连来的；代理请连 API 的端口", code="token_missing"
            )
        owner = os.geteuid()
        if self._single_user and uid not in (0, owner):
            raise Forbidden("单用户模式的本机套接字只给启动它的用户：作业都以他的身份运行", code="peer_refused")
        admin = uid == 0 or (self._single_user and uid == owner)
        return Identity(await self._name(uid), admin, method="socket")

    async def _name(self, uid: int) -> str:
        now = time.monotonic()
        known = self._names.get(uid)
        if known is not None and now < known[0]:
            return known[1]
        name = None if uid == _OVERFLOW_UID else await _looked_up(uid)
        if name is None or not legal_user_name(name):
            raise Unauthorized(
                f"本机没有 uid {uid} 对应的用户名，认不出是谁；请先建这个用户，或带令牌来", code="peer_unknown"
            )
        if len(self._names) >= _NAMES_MOST:
            self._names.clear()
        self._names[uid] = (now + NAME_FRESH_S, name)
        return name


async def _looked_up(uid: int) -> str | None:
    def look() -> str | None:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return None

    try:
        async with asyncio.timeout(LOOK_UP_S):
            return await asyncio.to_thread(look)
    except TimeoutError as error:
        raise ServiceUnavailable(
            f"名字服务 {LOOK_UP_S:g} 秒没有说 uid {uid} 是谁；请稍后再试，或带令牌来", code="user_lookup_slow"
        ) from error
