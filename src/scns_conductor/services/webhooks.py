"""webhook：订阅的列出、新建、修改、删除；要送的列出、试一试、重送。送是后台进程的事。"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.accounting import Accounting
from scns_conductor.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from scns_conductor.core.instants import utc_now
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.core.webhooks import CHAT_SIGNED, PING, check_url, events_of, new_secret, secret_key
from scns_conductor.services.audit import many, record
from scns_conductor.services.nodes import require_admin
from scns_conductor.statements import webhooks as statements

# 给人看的没有这些：密钥，与里面用的。
HIDDEN = ("secret", "as_coordinator", "leased_until", "after_job_event", "after_cluster_event")


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """要定下的订阅。"""

    url: str
    events: Sequence[str]
    scope: str
    account: str | None
    format: str
    secret: str | None


async def list_webhooks(engine: AsyncEngine, identity: Identity, webhook_id: int | None = None) -> list[dict[str, Any]]:
    """自己的（管理员是全部的）；指名的没有抛 NotFound。"""
    async with engine.connect() as connection:
        return [_shown(row) for row in await _rows(connection, identity, webhook_id)]


async def create_webhook(
    engine: AsyncEngine, settings: Settings, accounting: Accounting, identity: Identity, wants: NewWebhook
) -> dict[str, Any]:
    """定下，返回它与密钥（只这一次看得到）。没有打开抛 Conflict，不许的抛 Forbidden，写错的抛 InvalidRequest。"""
    if not settings.webhooks:
        raise Conflict("没有打开 webhook；请管理员写上设置 webhooks = true", code="webhooks_off")
    _require_scope(accounting, identity, wants)
    _check(settings, {"url": wants.url, "events": wants.events})
    secret = _secret(wants.format, wants.secret)
    values: dict[str, Any] = {
        "user_name": identity.user_name, "scope": wants.scope,
        "as_coordinator": wants.account is not None and not identity.privileged,
        "account": wants.account, "url": wants.url,
        "format": wants.format, "events": list(wants.events), "secret": secret,
    }  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(statements.LOCK_WEBHOOKS_OF, {"user_name": identity.user_name})
        owned = await connection.scalar(statements.COUNT_WEBHOOKS_OF, {"user_name": identity.user_name})
        if int(owned or 0) >= settings.webhooks_per_user:
            raise Conflict(f"一个人至多 {settings.webhooks_per_user} 个订阅；先删掉不用的", code="too_many_webhooks")
        values |= await _so_far(connection)
        row = (await connection.execute(statements.webhook_insert(values))).mappings().one()
        await record(connection, identity, "webhook.create", str(row["webhook_id"]), after=_audited(dict(row)))
    return {**_shown({**row, "queued": 0}), "secret": secret}


async def update_webhook(
    engine: AsyncEngine, settings: Settings, identity: Identity, webhook_id: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """改 url、events、secret、active；重新打开的从此刻算起，停着时的事不补。不再够得着的只许停下，别的抛 Forbidden。"""
    if not changes:
        raise InvalidRequest("body", "没有要改的", code="nothing_to_update")
    _check(settings, changes)
    async with engine.begin() as connection:
        (row,) = await _rows(connection, identity, webhook_id)
        if dict(changes) != {"active": False}:
            _require_reach(identity, row["scope"], row["account"])
        values = dict(changes)
        if "secret" in values:
            values["secret"] = _secret(row["format"], values["secret"])
        if values.get("active") and not row["active"]:
            values |= await _so_far(connection)
        # 改了地址、重新打开的，马上就试。
        values |= {"failures": 0, "resume_at": None}
        await connection.execute(statements.webhook_update(webhook_id, values))
        (changed,) = await _rows(connection, identity, webhook_id)
        told = {**_audited(changed), **({"secret": "(changed)"} if "secret" in changes else {})}
        before = {**_audited(row), **({"secret": "(hidden)"} if "secret" in changes else {})}
        await record(connection, identity, "webhook.update", str(webhook_id), before=before, after=told)
        return _shown(changed)


async def pause_webhooks(
    connection: AsyncConnection, identity: Identity, user_names: Sequence[str], scopes: Sequence[str]
) -> None:
    """停下这些人的这些范围的订阅（作为协调人定的不在内：送的时候看着），在调用者的事务里。"""
    if not user_names or not scopes:
        return
    values = {"user_names": list(user_names), "scopes": list(scopes)}
    paused = sorted((await connection.execute(statements.PAUSE_WEBHOOKS, values)).scalars())
    if paused:
        before, after = {"active": True, "users": sorted(user_names)}, {"active": False, "users": sorted(user_names)}
        await record(connection, identity, "webhook.update", many([str(each) for each in paused]), before, after)


async def delete_webhook(engine: AsyncEngine, identity: Identity, webhook_id: int) -> None:
    """删除，还没有送的也没有了。"""
    async with engine.begin() as connection:
        (row,) = await _rows(connection, identity, webhook_id)
        await connection.execute(statements.webhook_delete(webhook_id))
        await record(connection, identity, "webhook.delete", str(webhook_id), before=_audited(row))


async def ping_webhook(engine: AsyncEngine, settings: Settings, identity: Identity, webhook_id: int) -> int:
    """送一件试一试的，返回它的编号；停着的抛 Conflict。"""
    async with engine.begin() as connection:
        (row,) = await _rows(connection, identity, webhook_id)
        if not row["active"]:
            raise Conflict("这个订阅停着；先打开它", code="webhook_inactive")
        payload = {
            "type": PING, "timestamp": utc_now().isoformat(), "cluster": settings.cluster_name,
            "data": {"webhook_id": webhook_id},
        }  # fmt: skip
        await connection.execute(statements.WAKE, {"webhook_id": webhook_id})
        values = {"webhook_id": webhook_id, "event": PING, "payload": json.dumps(payload, ensure_ascii=False)}
        delivery_id = int(await connection.scalar(statements.PING_INSERT, values) or 0)
        await record(connection, identity, "webhook.ping", str(webhook_id), after={"delivery_id": delivery_id})
        return delivery_id


async def list_deliveries(
    engine: AsyncEngine,
    identity: Identity,
    *,
    webhook_id: int | None,
    state: str | None,
    limit: int,
    before: int | None,
) -> list[dict[str, Any]]:
    """自己的（管理员是全部的）要送的、送到的、送不到的，新的在前；before 是上一页最后一个的号。"""
    values = {
        "user_name": None if identity.admin else identity.user_name,
        "webhook_id": webhook_id,
        "state": state,
        "before": 2**62 if before is None else before,
        "limit": limit,
    }
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(statements.DELIVERIES, values)).mappings()]


async def redeliver(
    engine: AsyncEngine, identity: Identity, webhook_id: int, delivery_ids: Sequence[int] | None
) -> list[int]:
    """再送一遍（webhook-id 不变），返回编号；没有指明的是全部不再试的，指明的有一个没有抛 NotFound。"""
    async with engine.begin() as connection:
        await _rows(connection, identity, webhook_id)
        # 订阅的行在前，同删掉它、送它的一个次序：反过来两边互相等。
        await connection.execute(statements.WAKE, {"webhook_id": webhook_id})
        values = {"webhook_id": webhook_id, "delivery_ids": None if delivery_ids is None else list(delivery_ids)}
        found = sorted((await connection.execute(statements.REDELIVER, values)).scalars())
        missing = set(delivery_ids or ()) - set(found)
        if missing:
            raise NotFound(
                f"订阅 {webhook_id} 没有要重送的 {min(missing)}：没有这一件，或它还等着送", code="delivery_not_found"
            )
        await record(connection, identity, "webhook.redeliver", str(webhook_id), after={"deliveries": len(found)})
        return found


def _require_scope(accounting: Accounting, identity: Identity, wants: NewWebhook) -> None:
    if (wants.scope == "account") != (wants.account is not None):
        raise InvalidRequest("account", "scope 是 account 时写账户，别的时候不写")
    _require_reach(identity, wants.scope, wants.account)
    if wants.account is not None and wants.account not in accounting.parents:
        raise InvalidRequest("account", f"没有账户 {wants.account}", code="account_unknown")


def _require_reach(identity: Identity, scope: str, account: str | None) -> None:
    """整个集群的要管理员，一个账户的要管得了它；不然抛 Forbidden。"""
    if scope == "cluster":
        require_admin(identity, "整个集群的 webhook")
    elif account is not None and not identity.oversees(account):
        raise Forbidden(f"账户 {account} 的 webhook 要它的协调人、Operator 或管理员来定", code="admin_required")


def _check(settings: Settings, values: Mapping[str, Any]) -> None:
    try:
        field = "url"
        if "url" in values:
            check_url(values["url"], settings.webhook_allowed_networks)
        field = "events"
        if "events" in values:
            events_of(values["events"])
    except ValueError as error:
        raise InvalidRequest(field, str(error)) from error


def _secret(kind: str, given: str | None) -> str | None:
    """json 的没有写就造一个；群机器人的是那边给的。"""
    if kind == "json":
        secret = given or new_secret()
        try:
            secret_key(secret)
        except ValueError as error:
            raise InvalidRequest("secret", str(error)) from error
        return secret
    if given and kind not in CHAT_SIGNED:
        raise InvalidRequest("secret", f"{kind} 的机器人不签名，密钥在地址里")
    return given or None


async def _so_far(connection: AsyncConnection) -> dict[str, int]:
    await connection.execute(statements.LOOK_FROM_NOW)
    row = (await connection.execute(statements.EVENTS_SO_FAR)).one()
    return {"after_job_event": row.job_event, "after_cluster_event": row.cluster_event}


async def _rows(connection: AsyncConnection, identity: Identity, webhook_id: int | None) -> Sequence[Mapping[str, Any]]:
    values = {"user_name": None if identity.admin else identity.user_name, "webhook_id": webhook_id}
    found = (await connection.execute(statements.WEBHOOKS, values)).mappings().all()
    if webhook_id is not None and not found:
        raise NotFound(f"没有 webhook {webhook_id}；用 GET /webhooks 或 scns webhooks 查看", code="webhook_not_found")
    return found  # type: ignore[return-value]


def _audited(row: Mapping[str, Any]) -> dict[str, Any]:
    """审计里写的：地址只写主机，群机器人的密钥在地址的其余里。"""
    kept = ("user_name", "scope", "account", "format", "events", "active")
    return {**{name: row[name] for name in kept}, "host": urlsplit(row["url"]).hostname}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in HIDDEN}
