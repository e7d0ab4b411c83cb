"""改账户、用户、关联、QOS 的规矩：谁能改，QOS 要有，有没结束的作业不能删；每次改动都告诉调度器。"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, Forbidden, InvalidRequest
from scns_conductor.core.tokens import Identity
from scns_conductor.core.webhooks import SCOPES
from scns_conductor.services.accounting_cache import read_accounting
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.services.user_tokens import revoke_users
from scns_conductor.services.webhooks import pause_webhooks
from scns_conductor.statements.accounts import (
    ADOPT_DEFAULT_ACCOUNTS,
    DELETE_ORPHANS,
    FIRST_LIVE_JOB_OF_ACCOUNTS,
)
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.qos import QOS_NAMES


def require_operator(identity: Identity, what: str) -> None:
    """管理员与 Operator 能做；否则抛 Forbidden。"""
    if not identity.admin and not identity.operator:
        raise Forbidden(f"{what}要管理员或 Operator；请联系管理员", code="admin_required")


def require_account(identity: Identity, account: str | None, what: str) -> None:
    """管理员、Operator 与这个账户（或它的上级）的协调人能做；否则抛 Forbidden。"""
    if not identity.oversees(account):
        raise Forbidden(f"{what}要管理员、Operator，或账户 {account} 的协调人", code="account_out_of_reach")


def require_changes(changes: Mapping[str, Any]) -> None:
    """要有改动；否则抛 InvalidRequest。"""
    if not changes:
        raise InvalidRequest("body", '没有要改的字段；例如 {"grp_tres": "cpu=8"}', code="nothing_to_update")


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


async def check_limits(
    connection: AsyncConnection, identity: Identity, account: str, values: Mapping[str, Any]
) -> None:
    """要写进 account 之下的关联的：QOS 都要有；协调人只能给这个账户许用的 QOS，不能给优先级。"""
    for field in ("qos", "default_qos"):
        await require_qos(connection, qos_of(values, field), field)
    await check_reach(connection, identity, account, values)


def qos_of(row: Mapping[str, Any], field: str) -> Sequence[str]:
    """这一列写着的 QOS 的名字。"""
    found = row.get(field) or ()
    return [found] if isinstance(found, str) else found


async def check_reach(connection: AsyncConnection, identity: Identity, account: str, values: Mapping[str, Any]) -> None:
    """协调人不能给优先级，只能给自己的账户许用的 QOS；否则抛 Forbidden。"""
    if identity.privileged:
        return
    named = [*qos_of(values, "qos"), *qos_of(values, "default_qos")]
    if values.get("priority") is not None:
        raise Forbidden("priority：只有管理员与 Operator 能给", code="admin_required")
    if named:
        accounting = await read_accounting(connection)
        own = accounting.associations.get((account, "", ""))
        for name in named:
            if own is None or not accounting.allows(own, name):
                raise Forbidden(f"账户 {account} 自己不许用 QOS {name}，协调人不能给别人", code="account_out_of_reach")


async def refuse_busy(connection: AsyncConnection, accounts: Sequence[str], user: str | None) -> None:
    """这些账户里（这个用户的）还有没结束的作业时抛 Conflict。"""
    busy = (
        await connection.execute(FIRST_LIVE_JOB_OF_ACCOUNTS, {"accounts": list(accounts), "user": user})
    ).scalar_one()
    if busy is not None:
        raise Conflict(f"作业 {busy} 还没有结束；先取消它或等它结束", code="association_in_use")


async def tidy_users(connection: AsyncConnection, identity: Identity) -> None:
    """没有关联了的用户不再登记，他的令牌也不再有效，他的 webhook 停下。"""
    await connection.execute(ADOPT_DEFAULT_ACCOUNTS)
    gone = list((await connection.execute(DELETE_ORPHANS)).scalars())
    await revoke_users(connection, identity, gone)
    await pause_webhooks(connection, identity, gone, SCOPES)
