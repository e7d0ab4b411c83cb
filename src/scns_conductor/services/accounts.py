"""账户、用户与关联：列出；管理员与 Operator 新建、修改、删除。每次改动都告诉调度器。"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.accounting import ROOT_ACCOUNT, AssociationFacts
from scns_conductor.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.accounting_cache import read_accounting
from scns_conductor.services.audit import record, record_each
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.services.user_tokens import revoke_users
from scns_conductor.statements.accounts import (
    ACCOUNT_SUBTREE,
    ADOPT_DEFAULT_ACCOUNTS,
    ASSOCIATION_DEFAULTS,
    COORDINATOR_DELETE,
    COORDINATOR_INSERT,
    DELETE_ORPHANS,
    FIRST_LIVE_JOB_OF_ACCOUNTS,
    INSERT_ASSOCIATIONS,
    LIST_ACCOUNTS,
    LIST_ASSOCIATIONS,
    LIST_USERS,
    LOCK_ACCOUNTS,
    REGISTER_USER,
    account_insert,
    account_update,
    accounts_delete,
    association_delete,
    association_insert,
    association_lock,
    association_update,
    associations_of_user_delete,
    user_update,
)
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.qos import QOS_NAMES

ACCOUNT_COLUMNS = ("parent", "description", "organization")


def require_operator(identity: Identity, what: str) -> None:
    """管理员与 Operator 能做；否则抛 Forbidden。"""
    if not identity.admin and not identity.operator:
        raise Forbidden(f"{what}要管理员或 Operator；请联系管理员", code="admin_required")


def require_account(identity: Identity, account: str | None, what: str) -> None:
    """管理员、Operator 与这个账户（或它的上级）的协调人能做；否则抛 Forbidden。"""
    if not identity.oversees(account):
        raise Forbidden(f"{what}要管理员、Operator，或账户 {account} 的协调人", code="account_out_of_reach")


async def tell_accounting(connection: AsyncConnection) -> None:
    """告诉调度器记账的表变了；在调用者的事务里。"""
    await tell_scheduler(connection, inbox_insert("accounting"))


def merged(old: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """TRES 逐种合并（None 去掉那一种，整个是 None 清空），其余照写。"""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        if "tres" in name:
            both = {**(old.get(name) or {}), **value} if value is not None else {}
            found[name] = {tres: amount for tres, amount in both.items() if amount is not None}
        else:
            found[name] = value
    return found


async def require_qos(connection: AsyncConnection, names: Sequence[str], field: str) -> None:
    """这些 QOS 都要有；否则抛 InvalidRequest。"""
    known: set[str] = set((await connection.execute(QOS_NAMES)).scalars())
    for name in names:
        if name not in known:
            listed = "、".join(sorted(known))
            raise InvalidRequest(field, f"没有 QOS {name!r}；现有 {listed}", code="qos_unknown")


async def _check_limits(
    connection: AsyncConnection, identity: Identity, account: str, values: Mapping[str, Any]
) -> None:
    """要写进 account 之下的关联的：QOS 都要有；协调人只能给这个账户许用的 QOS，不能给优先级。"""
    for field in ("qos", "default_qos"):
        await require_qos(connection, _qos_of(values, field), field)
    await _check_reach(connection, identity, account, values)


def _qos_of(row: Mapping[str, Any], field: str) -> Sequence[str]:
    found = row.get(field) or ()
    return [found] if isinstance(found, str) else found


async def _check_reach(
    connection: AsyncConnection, identity: Identity, account: str, values: Mapping[str, Any]
) -> None:
    if identity.privileged:
        return
    named = [*_qos_of(values, "qos"), *_qos_of(values, "default_qos")]
    if values.get("priority") is not None:
        raise Forbidden("priority：只有管理员与 Operator 能给", code="admin_required")
    if named:
        accounting = await read_accounting(connection)
        own = accounting.associations.get((account, "", ""))
        for name in named:
            if own is None or not accounting.allows(own, name):
                raise Forbidden(f"账户 {account} 自己不许用 QOS {name}，协调人不能给别人", code="account_out_of_reach")


# ---- 账户 ----


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
        await _require_account(connection, own["parent"], "parent")
        limits = {key: value for key, value in values.items() if key not in ACCOUNT_COLUMNS}
        await _check_limits(connection, identity, own["parent"], limits)
        await connection.execute(account_insert({"name": name, **own}))
        await connection.execute(association_insert({"account": name, **merged({}, limits)}))
        await record(connection, identity, "account.create", name, after={**own, **limits})
        await tell_accounting(connection)
    return (await list_accounts(engine, name))[0]


async def _account(connection: AsyncConnection, name: str) -> dict[str, Any]:
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


async def _require_account(connection: AsyncConnection, name: str, field: str) -> None:
    if (await connection.execute(LIST_ACCOUNTS, {"name": name})).first() is None:
        raise _unknown_account(name, field)


def _unknown_account(name: str, field: str) -> InvalidRequest:
    return InvalidRequest(field, f"没有账户 {name!r}；先用 POST /accounts 新建它", code="account_unknown")


async def update_account(engine: Database, identity: Identity, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """修改账户与它自己的关联；搬到自己的下级之下抛 InvalidRequest。协调人只改得了自己的账户之下的。"""
    _require_changes(changes)
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        account = await _account(connection, name)
        parent = account["parent"]
        require_account(identity, parent, "修改账户")
        own = {key: value for key, value in changes.items() if key in ACCOUNT_COLUMNS}
        if own.get("parent") is not None:
            if name == ROOT_ACCOUNT:
                raise InvalidRequest("parent", "root 没有上级")
            require_account(identity, own["parent"], "搬到别的账户之下")
            await _require_account(connection, own["parent"], "parent")
            if own["parent"] in set((await connection.execute(ACCOUNT_SUBTREE, {"name": name})).scalars()):
                raise InvalidRequest("parent", f"{own['parent']} 在 {name} 之下，不能作它的上级", code="account_cycle")
        if own:
            await connection.execute(account_update(name, own))
        limits = {key: value for key, value in changes.items() if key not in ACCOUNT_COLUMNS}
        if limits:
            row = (await connection.execute(LIST_ASSOCIATIONS, {"account": name, "user": ""})).mappings().one()
            await _check_limits(connection, identity, parent or name, limits)
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
        require_account(identity, (await _account(connection, name))["parent"], "删除账户")
        names = list((await connection.execute(ACCOUNT_SUBTREE, {"name": name})).scalars())
        await _refuse_busy(connection, names, None)
        await connection.execute(accounts_delete(names))
        await record(connection, identity, "account.delete", name, before={"accounts": sorted(names)})
        await _tidy_users(connection, identity)
        await tell_accounting(connection)
    return sorted(names)


async def _refuse_busy(connection: AsyncConnection, accounts: Sequence[str], user: str | None) -> None:
    busy = (
        await connection.execute(FIRST_LIVE_JOB_OF_ACCOUNTS, {"accounts": list(accounts), "user": user})
    ).scalar_one()
    if busy is not None:
        raise Conflict(f"作业 {busy} 还没有结束；先取消它或等它结束", code="association_in_use")


async def _tidy_users(connection: AsyncConnection, identity: Identity) -> None:
    """没有关联了的用户不再登记，他的令牌也不再有效。"""
    await connection.execute(ADOPT_DEFAULT_ACCOUNTS)
    gone = list((await connection.execute(DELETE_ORPHANS)).scalars())
    await revoke_users(connection, identity, gone)


def _require_changes(changes: Mapping[str, Any]) -> None:
    if not changes:
        raise InvalidRequest("body", '没有要改的字段；例如 {"grp_tres": "cpu=8"}', code="nothing_to_update")


async def set_coordinator(engine: Database, identity: Identity, account: str, user: str, *, on: bool) -> None:
    """让用户作（不再作）账户的协调人；账户、用户不存在抛 NotFound。"""
    async with engine.begin() as connection:
        await _account(connection, account)
        require_account(identity, account, "改协调人")
        if (await connection.execute(LIST_USERS, {"name": user})).first() is None:
            raise _no_user(user)
        statement = COORDINATOR_INSERT if on else COORDINATOR_DELETE
        await connection.execute(statement, {"account": account, "user": user})
        action = "coordinator.add" if on else "coordinator.remove"
        await record(connection, identity, action, account, after={"user": user})
        await tell_accounting(connection)


# ---- 用户 ----


async def list_users(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """有关联的用户。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_USERS, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _no_user(name)
    return [dict(row) for row in rows]


def _no_user(name: str) -> NotFound:
    return NotFound(f"没有用户 {name[:64]}；先用 POST /associations 把他加进账户", code="user_not_found")


async def update_user(engine: Database, identity: Identity, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """改管理级别（只有管理员）与缺省账户（要有那个账户里的关联）。"""
    _require_changes(changes)
    if "admin_level" in changes and not identity.admin:
        raise Forbidden("admin_level：只有管理员能改；请联系管理员", code="admin_required")
    async with engine.begin() as connection:
        before = (await connection.execute(LIST_USERS, {"name": name})).mappings().one_or_none()
        if before is None:
            raise _no_user(name)
        account = changes.get("default_account")
        if account is not None:
            require_account(identity, account, "改缺省账户")
            found = (await connection.execute(LIST_ASSOCIATIONS, {"account": account, "user": name})).first()
            if found is None:
                raise InvalidRequest(
                    "default_account", f"用户 {name} 不在账户 {account} 里；先加进去", code="account_unknown"
                )
        await connection.execute(user_update(name, changes))
        await record(connection, identity, "user.update", name, before=before, after=changes)
        await tell_accounting(connection)
    return (await list_users(engine, name))[0]


async def delete_user(engine: Database, identity: Identity, name: str) -> None:
    """删除用户与他的全部关联；还有没结束的作业抛 Conflict。协调人要管得了他的每一个账户。"""
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        rows = (await connection.execute(LIST_ASSOCIATIONS, {"account": None, "user": name})).mappings().all()
        if not rows:
            raise _no_user(name)
        for row in rows:
            require_account(identity, row["account"], "删除用户")
        await _refuse_busy(connection, [row["account"] for row in rows], name)
        await connection.execute(associations_of_user_delete(name))
        await record(connection, identity, "user.delete", name, before={"accounts": [row["account"] for row in rows]})
        await _tidy_users(connection, identity)
        await tell_accounting(connection)


# ---- 关联 ----


async def list_associations(
    engine: Database, account: str | None = None, user: str | None = None
) -> list[dict[str, Any]]:
    """关联；effective 是补上继承之后真正生效的那些。user 为空文字只要账户自己的。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_ASSOCIATIONS, {"account": account, "user": user})).mappings().all()
        accounting = await read_accounting(connection)
    found = []
    for row in rows:
        key = (row["account"], row["user_name"], row["partition"])
        facts = accounting.associations.get(key)
        parent = accounting.parents.get(row["account"]) if not row["user_name"] else row["account"]
        effective = {} if facts is None else _effective(accounting.effective(facts))
        found.append({**row, "parent_account": parent, "effective": effective})
    return found


def _effective(facts: AssociationFacts) -> dict[str, Any]:
    names = (
        "priority", "default_qos", "qos", "max_jobs", "max_submit_jobs", "max_wall", "max_tres_per_job",
        "max_tres_per_node", "max_tres_mins_per_job",
    )  # fmt: skip
    return {name: getattr(facts, name) for name in names}


async def create_association(
    engine: Database, identity: Identity, account: str, user: str, partition: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """把用户加进账户；第一个关联的账户就是他的缺省账户。已有抛 Conflict，账户不存在抛 InvalidRequest。"""
    row = {"account": account, "user_name": user, "partition": partition, **values}
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        try:
            async with connection.begin_nested():
                await add_associations(connection, identity, [row])
        except IntegrityError as error:
            raise Conflict(f"用户 {user} 已经在账户 {account} 里", code="association_exists") from error
    found = await list_associations(engine, account, user)
    return next(each for each in found if each["partition"] == partition)


async def add_associations(connection: AsyncConnection, identity: Identity, rows: Sequence[Mapping[str, Any]]) -> None:
    """一次把许多用户加进账户；rows 是各关联的列。账户、QOS 不存在抛 InvalidRequest，已有的抛 IntegrityError。"""
    for account in {row["account"] for row in rows}:
        require_account(identity, account, "新建关联")
    known = {row["name"] for row in (await connection.execute(LIST_ACCOUNTS, {"name": None})).mappings()}
    for row in rows:
        if row["account"] not in known:
            raise _unknown_account(row["account"], "account")
    for field in ("qos", "default_qos"):
        await require_qos(connection, sorted({name for row in rows for name in _qos_of(row, field)}), field)
    for row in rows:
        await _check_reach(connection, identity, row["account"], row)
    await connection.execute(INSERT_ASSOCIATIONS, [{**ASSOCIATION_DEFAULTS, **merged({}, row)} for row in rows])
    await connection.execute(REGISTER_USER, [{"user": row["user_name"], "account": row["account"]} for row in rows])
    await record_each(connection, identity, "association.create", [(_named(row), row) for row in rows])
    await tell_accounting(connection)


async def _one(connection: AsyncConnection, number: int) -> dict[str, Any]:
    row = (await connection.execute(association_lock(number))).mappings().one_or_none()
    if row is None:
        raise NotFound(f"没有关联 {number}；用 GET /associations 查看现有的", code="association_not_found")
    return dict(row)


def _named(row: Mapping[str, Any]) -> str:
    return "/".join(part for part in (row["account"], row["user_name"], row["partition"]) if part)


async def change_association(
    connection: AsyncConnection, identity: Identity, number: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """改一个关联，返回原来的行；在调用者的事务里。账户自己的，协调人要管得了它的上级。"""
    _require_changes(changes)
    row = await _one(connection, number)
    above = row["account"] if row["user_name"] else (await _account(connection, row["account"]))["parent"]
    require_account(identity, above, "修改关联")
    await _check_limits(connection, identity, above or row["account"], changes)
    values = merged(row, changes)
    await connection.execute(association_update(number, values))
    await record(connection, identity, "association.update", _named(row), before=row, after=values)
    await tell_accounting(connection)
    return row


async def update_association(
    engine: Database, identity: Identity, number: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """改份额、QOS 与上限。"""
    async with engine.begin() as connection:
        row = await change_association(connection, identity, number, changes)
    found = await list_associations(engine, row["account"], row["user_name"])
    return next(each for each in found if each["association_id"] == number)


async def delete_association(engine: Database, identity: Identity, number: int) -> None:
    """把用户移出账户；账户自己的关联不能单独删，还有没结束的作业抛 Conflict。"""
    async with engine.begin() as connection:
        await connection.execute(LOCK_ACCOUNTS)
        row = await _one(connection, number)
        require_account(identity, row["account"], "删除关联")
        if not row["user_name"]:
            raise Conflict(f"这是账户 {row['account']} 自己的关联；请删除账户", code="association_of_account")
        await _refuse_busy(connection, [row["account"]], row["user_name"])
        await connection.execute(association_delete(number))
        await record(connection, identity, "association.delete", _named(row), before=row)
        await _tidy_users(connection, identity)
        await tell_accounting(connection)
