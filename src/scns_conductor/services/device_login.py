"""scns login 的设备流程（照 RFC 8628，批准的页就是看板）。

终端拿两个码；人在浏览器里登录、对上码、批准；终端取走令牌。
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Forbidden, NotFound, TooManyRequests
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import record
from scns_conductor.statements.device_logins import (
    ASK_DEVICE,
    BEGIN_DEVICE,
    DECIDE_DEVICE,
    DROP_OLD_DEVICES,
    TAKE_DEVICE,
    WAITING_DEVICE,
)

LIFETIME_S = 600
INTERVAL_S = 2
_MOST, _MOST_ADDRESS = 5000, 50
# 没有元音（拼不出词），没有看错的字。
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


@dataclass(frozen=True, slots=True)
class DeviceCodes:
    """device_code 只给终端；user_code 给人看。"""

    device_code: str
    user_code: str


@dataclass(frozen=True, slots=True)
class DeviceWaiting:
    """等着批准的终端：它说自己在哪台机器上，它的地址。"""

    host: str
    address: str
    created_at: datetime
    expires_at: datetime


async def begin_device(engine: AsyncEngine, host: str, address: str) -> DeviceCodes:
    """开始一个；等着的太多抛 TooManyRequests。"""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    codes = DeviceCodes(secrets.token_urlsafe(32), f"{letters[:4]}-{letters[4:]}")
    values = {
        "digest": _digest(codes.device_code),
        "user_code": codes.user_code,
        "host": host,
        "address": address,
        "lifetime_s": LIFETIME_S,
        "most": _MOST,
        "most_address": _MOST_ADDRESS,
    }
    async with engine.begin() as connection:
        await connection.execute(DROP_OLD_DEVICES)
        if (await connection.execute(BEGIN_DEVICE, values)).scalar_one_or_none() is None:
            raise TooManyRequests("等着批准的登录太多；请稍后再试", code="too_many_logins", retry_after_s=60)
    return codes


async def waiting_device(engine: AsyncEngine, user_code: str) -> DeviceWaiting:
    """等着批准的一个；没有抛 NotFound。"""
    async with engine.connect() as connection:
        found = (await connection.execute(WAITING_DEVICE, {"user_code": _typed(user_code)})).mappings().one_or_none()
    return _known(found)


async def decide_device(engine: AsyncEngine, identity: Identity, user_code: str, *, allow: bool) -> DeviceWaiting:
    """批准（终端得到这个人的令牌）或拒绝；没有抛 NotFound。"""
    code = _typed(user_code)
    values = {"user_code": code, "user_name": identity.user_name, "allow": allow}
    async with engine.begin() as connection:
        found = _known((await connection.execute(DECIDE_DEVICE, values)).mappings().one_or_none())
        action = "device.approve" if allow else "device.deny"
        told = {"host": found.host, "address": found.address}
        await record(connection, identity, action, code, after=told)
    return found


async def approved_user(engine: AsyncEngine, device_code: str) -> str | None:
    """批准的人，一个码只取一次；还在等是 None。不认识、过期抛 NotFound，被拒绝抛 Forbidden。"""
    values = {"digest": _digest(device_code)}
    async with engine.begin() as connection:
        row = (await connection.execute(ASK_DEVICE, values)).one_or_none()
        if row is not None and row.user_name is None and not row.denied:
            return None
        row = (await connection.execute(TAKE_DEVICE, values)).one_or_none() if row is not None else None
    if row is None:
        raise NotFound("这个登录过期了，或已经取走；请再来一次 scns login", code="device_code_unknown")
    if row.denied:
        raise Forbidden("登录被拒绝了", code="login_denied")
    return str(row.user_name)


def _known(found: sa.RowMapping | None) -> DeviceWaiting:
    if found is None:
        raise NotFound("没有这个码，或它过期了；请看终端里的，或再来一次 scns login", code="user_code_unknown")
    return DeviceWaiting(**found)


def _typed(user_code: str) -> str:
    """人输入的：大小写、空格、短横不论。"""
    letters = "".join(letter for letter in user_code.upper() if letter.isalnum())
    return f"{letters[:4]}-{letters[4:]}"


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
