"""关联（账户里的用户）：列出；管理员、Operator 与协调人新建、修改、删除。"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.accounting import AssociationFacts
from scns_conductor.core.errors import Conflict, NotFound
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.accounting_cache import read_accounting
from scns_conductor.services.accounting_rules import (
    check_limits,
    check_reach,
    merged,
    qos_of,
    refuse_busy,
    require_account,
    require_changes,
    require_qos,
    tell_accounting,
    tidy_users,
)
from scns_conductor.services.accounts import account_row, unknown_account
from scns_conductor.services.audit import record, record_each
from scns_conductor.statements.accounts import (
    ASSOCIATION_DEFAULTS,
    INSERT_ASSOCIATIONS,
    LIST_ACCOUNTS,
    LIST_ASSOCIATIONS,
    LOCK_ACCOUNTS,
    REGISTER_USER,
    association_delete,
    association_lock,
    association_update,
)


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
            raise unknown_account(row["account"], "account")
    for field in ("qos", "default_qos"):
        await require_qos(connection, sorted({name for row in rows for name in qos_of(row, field)}), field)
    for row in rows:
        await check_reach(connection, identity, row["account"], row)
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
    require_changes(changes)
    row = await _one(connection, number)
    above = row["account"] if row["user_name"] else (await account_row(connection, row["account"]))["parent"]
    require_account(identity, above, "修改关联")
    await check_limits(connection, identity, above or row["account"], changes)
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
        await refuse_busy(connection, [row["account"]], row["user_name"])
        await connection.execute(association_delete(number))
        await record(connection, identity, "association.delete", _named(row), before=row)
        await tidy_users(connection, identity)
        await tell_accounting(connection)
