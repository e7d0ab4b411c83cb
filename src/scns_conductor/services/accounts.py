"""账户：列出；管理员、Operator 与上级的协调人新建、修改、删除。"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.accounting import ROOT_ACCOUNT
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.accounting_rules import (
    check_limits,
    merged,
    refuse_busy,
    require_account,
    require_changes,
    tell_accounting,
    tidy_users,
)
from scns_conductor.services.audit import record
from scns_conductor.statements.accounts import (
    ACCOUNT_SUBTREE,
    LIST_ACCOUNTS,
    LIST_ASSOCIATIONS,
    LOCK_ACCOUNTS,
    account_insert,
    account_update,
    accounts_delete,
    association_insert,
    association_update,
)

ACCOUNT_COLUMNS = ("parent", "description", "organization")


async def list_accounts(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """全部账户，或指名的一个（不存在抛 NotFound）。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_ACCOUNTS, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _no_account(name)
    return [dict(row) for row in rows]


def _no_account(name: str) -> NotFound:
    return NotFound(f"没有账户 {name[:64]}；用 GET /accounts 查看现有的账户", code="account_not_found")


async def create_account(engine: Database, identity: Identity, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """新建账户与它自己的关联；上级缺省是 root。同名的已存在抛 Conflict，上级不存在抛 InvalidRequest。"""
    own = own_columns(name, values)
    require_account(identity, own["parent"], "新建账户")
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        if (await connection.execute(LIST_ACCOUNTS, {"name": name})).first() is not None:
            raise Conflict(f"账户 {name} 已存在", code="account_exists")
        await _require_known(connection, own["parent"], "parent")
        limits = {key: value for key, value in values.items() if key not in ACCOUNT_COLUMNS}
        await check_limits(connection, identity, own["parent"], limits)
        await connection.execute(account_insert({"name": name, **own}))
        await connection.execute(association_insert({"account": name, **merged({}, limits)}))
        await record(connection, identity, "account.create", name, after={**own, **limits})
        await tell_accounting(connection)
    return (await list_accounts(engine, name))[0]


async def account_row(connection: AsyncConnection, name: str) -> dict[str, Any]:
    """一个账户的行；没有抛 NotFound。"""
    row = (await connection.execute(LIST_ACCOUNTS, {"name": name})).mappings().one_or_none()
    if row is None:
        raise _no_account(name)
    return dict(row)


def own_columns(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """账户自己的各列，没有写的取缺省：上级是 root，说明是名字，单位是上级（上级是 root 的是名字）。"""
    parent = values.get("parent") or ROOT_ACCOUNT
    defaults = {"description": name, "organization": parent if parent != ROOT_ACCOUNT else name}
    given = {key: values[key] for key in defaults if values.get(key) is not None}
    return {"parent": parent, **defaults, **given}


async def _require_known(connection: AsyncConnection, name: str, field: str) -> None:
    if (await connection.execute(LIST_ACCOUNTS, {"name": name})).first() is None:
        raise unknown_account(name, field)


def unknown_account(name: str, field: str) -> InvalidRequest:
    """没有这个账户；field 是哪个字段写的。"""
    return InvalidRequest(field, f"没有账户 {name!r}；先用 POST /accounts 新建它", code="account_unknown")


async def update_account(engine: Database, identity: Identity, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """修改账户与它自己的关联；搬到自己的下级之下抛 InvalidRequest。协调人只改得了自己的账户之下的。"""
    require_changes(changes)
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        account = await account_row(connection, name)
        parent = account["parent"]
        require_account(identity, parent, "修改账户")
        own = {key: value for key, value in changes.items() if key in ACCOUNT_COLUMNS}
        if own.get("parent") is not None:
            if name == ROOT_ACCOUNT:
                raise InvalidRequest("parent", "root 没有上级")
            require_account(identity, own["parent"], "搬到别的账户之下")
            await _require_known(connection, own["parent"], "parent")
            if own["parent"] in set((await connection.execute(ACCOUNT_SUBTREE, {"name": name})).scalars()):
                raise InvalidRequest("parent", f"{own['parent']} 在 {name} 之下，不能作它的上级", code="account_cycle")
        if own:
            await connection.execute(account_update(name, own))
        limits = {key: value for key, value in changes.items() if key not in ACCOUNT_COLUMNS}
        if limits:
            row = (await connection.execute(LIST_ASSOCIATIONS, {"account": name, "user": ""})).mappings().one()
            await check_limits(connection, identity, parent or name, limits)
            limits = merged(dict(row), limits)
            await connection.execute(association_update(row["association_id"], limits))
            account = {**account, **row}
        await record(connection, identity, "account.update", name, before=account, after={**own, **limits})
        await tell_accounting(connection)
    return (await list_accounts(engine, name))[0]


async def delete_account(engine: Database, identity: Identity, name: str) -> list[str]:
    """删除账户连同它的下级与其中的关联，返回删掉的账户；还有没结束的作业抛 Conflict。"""
    if name == ROOT_ACCOUNT:
        raise Conflict("root 账户不能删除", code="account_root")
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        require_account(identity, (await account_row(connection, name))["parent"], "删除账户")
        names = list((await connection.execute(ACCOUNT_SUBTREE, {"name": name})).scalars())
        await refuse_busy(connection, names, None)
        await connection.execute(accounts_delete(names))
        await record(connection, identity, "account.delete", name, before={"accounts": sorted(names)})
        await tidy_users(connection, identity)
        await tell_accounting(connection)
    return sorted(names)
