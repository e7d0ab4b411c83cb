"""用户的令牌：谁能给谁签，登记、列出、作废。"""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import Forbidden, NotFound
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Grant, Identity, sign
from scns_conductor.services.audit import many, record
from scns_conductor.statements.access_tokens import (
    TOKEN_INSERT,
    TOKEN_REVOKE,
    TOKENS,
    TOKENS_OF_USERS_REVOKE,
    USERS_REVOKE,
)

MOST_LISTED = 1000


async def issue_user_token(
    engine: AsyncEngine,
    settings: Settings,
    identity: Identity,
    *,
    user_name: str | None = None,
    name: str = "",
    role: str = "user",
    scopes: Sequence[str] = (),
    account: str | None = None,
    lifetime_s: int | None = None,
) -> dict[str, Any]:
    """签发并登记，返回 {token, token_id}。自己的谁都能签；别人的、有角色的要管理员，否则抛 Forbidden。"""
    owner = user_name or identity.user_name
    if not identity.admin and (role != "user" or owner != identity.user_name):
        raise Forbidden("只有管理员能签发别人的或管理员的令牌", code="admin_required")
    token_id = secrets.token_hex(8)
    token, expires = sign(settings, Grant(owner, role, scopes, account, token_id), lifetime_s)
    values = {"user_name": owner, "name": name, "role": role, "scopes": sorted(set(scopes)), "account": account}
    async with engine.begin() as connection:
        await connection.execute(
            TOKEN_INSERT, {**values, "token_id": token_id, "created_by": identity.user_name, "expires": expires}
        )
        await record(connection, identity, "token.create", token_id, after={**values, "expires_at": expires})
    return {"token": token, "token_id": token_id}


async def list_tokens(engine: AsyncEngine, identity: Identity, user_name: str | None) -> list[dict[str, Any]]:
    """没有到期的，新的在前。缺省是自己的；别人的（* 是全部）要管理员或审计员，否则抛 Forbidden。"""
    owner = user_name or identity.user_name
    if owner != identity.user_name and not (identity.admin or identity.auditor):
        raise Forbidden("别人的令牌只有管理员与审计员能看", code="admin_required")
    values = {"user_name": None if owner == "*" else owner, "limit": MOST_LISTED}
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(TOKENS, values)).mappings()]


async def revoke_token(engine: AsyncEngine, identity: Identity, token_id: str) -> None:
    """作废一个，一秒之内各 API 进程都不认；作废过的不变。没有、不是自己的（管理员不论）抛 NotFound。"""
    owner = None if identity.admin else identity.user_name
    async with engine.begin() as connection:
        values = {"token_id": token_id, "user_name": owner, "actor": identity.user_name}
        row = (await connection.execute(TOKEN_REVOKE, values)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"没有令牌 {token_id[:64]}；用 scns token list 查看", code="token_not_found")
        await record(connection, identity, "token.revoke", token_id, after=row)


async def revoke_tokens_of(engine: AsyncEngine, identity: Identity, user_name: str | None) -> int:
    """作废一个用户此刻之前的全部令牌（没有登记的也是），返回作废了几个登记过的；别人的要管理员，否则抛 Forbidden。"""
    owner = user_name or identity.user_name
    if owner != identity.user_name and not identity.admin:
        raise Forbidden("别人的令牌只有管理员能作废", code="admin_required")
    async with engine.begin() as connection:
        return await revoke_users(connection, identity, [owner])


async def revoke_users(connection: AsyncConnection, identity: Identity, user_names: Sequence[str]) -> int:
    """作废这些用户此刻之前的全部令牌，在调用者的事务里；返回作废了几个登记过的。"""
    if not user_names:
        return 0
    values = {"user_names": list(user_names), "actor": identity.user_name}
    await connection.execute(USERS_REVOKE, {"user_names": values["user_names"]})
    token_ids = list((await connection.execute(TOKENS_OF_USERS_REVOKE, values)).scalars())
    await record(connection, identity, "token.revoke_all", many(list(user_names)), after={"token_ids": token_ids})
    return len(token_ids)
