"""有关联的用户：列出，改管理级别与缺省账户，删除；账户的协调人。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.core.errors import Forbidden, InvalidRequest, NotFound
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.accounting_rules import (
    refuse_busy,
    require_account,
    require_changes,
    tell_accounting,
    tidy_users,
)
from scns_conductor.services.accounts import account_row
from scns_conductor.services.audit import record
from scns_conductor.services.webhooks import pause_webhooks
from scns_conductor.statements.accounts import (
    COORDINATOR_DELETE,
    COORDINATOR_INSERT,
    LIST_ASSOCIATIONS,
    LIST_USERS,
    LOCK_ACCOUNTS,
    associations_of_user_delete,
    user_update,
)

# 管理级别定得了哪些范围的 webhook；降了级的，从前定的停下。
_WEBHOOK_SCOPES = {"Administrator": {"account", "cluster"}, "Operator": {"account"}}


async def list_users(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """有关联的用户。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_USERS, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise no_user(name)
    return [dict(row) for row in rows]


def no_user(name: str) -> NotFound:
    """没有这个用户。"""
    return NotFound(f"没有用户 {name[:64]}；先用 POST /associations 把他加进账户", code="user_not_found")


async def update_user(engine: Database, identity: Identity, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """改管理级别（只有管理员）与缺省账户（要有那个账户里的关联）。"""
    require_changes(changes)
    if "admin_level" in changes and not identity.admin:
        raise Forbidden("admin_level：只有管理员能改；请联系管理员", code="admin_required")
    async with engine.begin() as connection:
        before = (await connection.execute(LIST_USERS, {"name": name})).mappings().one_or_none()
        if before is None:
            raise no_user(name)
        account = changes.get("default_account")
        if account is not None:
            require_account(identity, account, "改缺省账户")
            if before["default_account"] not in (None, account):
                # 不然谁都能把别的账户的人拉进来，他以后的作业就归这里看、这里管。
                require_account(identity, before["default_account"], "改缺省账户")
            found = (await connection.execute(LIST_ASSOCIATIONS, {"account": account, "user": name})).first()
            if found is None:
                raise InvalidRequest(
                    "default_account", f"用户 {name} 不在账户 {account} 里；先加进去", code="account_unknown"
                )
        await connection.execute(user_update(name, changes))
        await record(connection, identity, "user.update", name, before=before, after=changes)
        if "admin_level" in changes:
            lost = _WEBHOOK_SCOPES.get(before["admin_level"], set())
            kept = _WEBHOOK_SCOPES.get(changes["admin_level"], set())
            await pause_webhooks(connection, identity, [name], sorted(lost - kept))
        await tell_accounting(connection)
    return (await list_users(engine, name))[0]


async def delete_user(engine: Database, identity: Identity, name: str) -> None:
    """删除用户与他的全部关联；还有没结束的作业抛 Conflict。协调人要管得了他的每一个账户。"""
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        rows = (await connection.execute(LIST_ASSOCIATIONS, {"account": None, "user": name})).mappings().all()
        if not rows:
            raise no_user(name)
        for row in rows:
            require_account(identity, row["account"], "删除用户")
        await refuse_busy(connection, [row["account"] for row in rows], name)
        await connection.execute(associations_of_user_delete(name))
        await record(connection, identity, "user.delete", name, before={"accounts": [row["account"] for row in rows]})
        await tidy_users(connection, identity)
        await tell_accounting(connection)


async def set_coordinator(engine: Database, identity: Identity, account: str, user: str, *, on: bool) -> None:
    """让用户作（不再作）账户的协调人；账户、用户不存在抛 NotFound。"""
    async with engine.begin() as connection:
        await account_row(connection, account)
        require_account(identity, account, "改协调人")
        if (await connection.execute(LIST_USERS, {"name": user})).first() is None:
            raise no_user(user)
        statement = COORDINATOR_INSERT if on else COORDINATOR_DELETE
        await connection.execute(statement, {"account": account, "user": user})
        action = "coordinator.add" if on else "coordinator.remove"
        await record(connection, identity, action, account, after={"user": user})
        await tell_accounting(connection)
