"""QOS：列出；管理员与 Operator 新建、修改、删除。"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.accounting import NORMAL_QOS
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.job_limits import DENY_ON_LIMIT, NO_DECAY, REQUIRES_RESERVATION
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.accounting_rules import merged, require_operator, require_qos, tell_accounting
from scns_conductor.services.audit import record
from scns_conductor.statements.qos import (
    FIRST_LIVE_JOB_OF_QOS,
    FORGET_IN_ASSOCIATIONS,
    FORGET_IN_PREEMPT,
    LIST_QOS,
    qos_delete,
    qos_insert,
    qos_lock,
    qos_update,
)

FLAGS = (DENY_ON_LIMIT, NO_DECAY, REQUIRES_RESERVATION)


async def list_qos(engine: Database, name: str | None = None) -> list[dict[str, Any]]:
    """全部 QOS，或指名的一个（不存在抛 NotFound）。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST_QOS, {"name": name})).mappings().all()
    if name is not None and not rows:
        raise _unknown(name)
    return [dict(row) for row in rows]


def _unknown(name: str) -> NotFound:
    return NotFound(f"没有 QOS {name[:64]}；用 GET /qos 查看现有的", code="qos_not_found")


async def create_qos(engine: Database, identity: Identity, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """新建；同名的已存在抛 Conflict。"""
    require_operator(identity, "新建 QOS")
    async with engine.begin() as connection:
        await _check(connection, name, values)
        row = {"description": name, **merged({}, values)}
        try:
            async with connection.begin_nested():
                await connection.execute(qos_insert({"name": name, **row}))
        except IntegrityError as error:
            raise Conflict(f"QOS {name} 已存在", code="qos_exists") from error
        await record(connection, identity, "qos.create", name, after=row)
        await tell_accounting(connection)
    return (await list_qos(engine, name))[0]


async def update_qos(engine: Database, identity: Identity, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """修改；不存在抛 NotFound。TRES 逐种合并。"""
    require_operator(identity, "修改 QOS")
    if not changes:
        raise InvalidRequest("body", '没有要改的字段；例如 {"max_jobs_per_user": 2}', code="nothing_to_update")
    async with engine.begin() as connection:
        row = (await connection.execute(qos_lock(name))).mappings().one_or_none()
        if row is None:
            raise _unknown(name)
        await _check(connection, name, changes)
        values = merged(dict(row), changes)
        await connection.execute(qos_update(name, values))
        await record(connection, identity, "qos.update", name, before=row, after=values)
        await tell_accounting(connection)
    return (await list_qos(engine, name))[0]


async def delete_qos(engine: Database, identity: Identity, name: str) -> None:
    """删除；normal 不能删，还有没结束的作业在用抛 Conflict。"""
    require_operator(identity, "删除 QOS")
    if name == NORMAL_QOS:
        raise Conflict("normal 是缺省的 QOS，不能删除", code="qos_default")
    async with engine.begin() as connection:
        busy = (await connection.execute(FIRST_LIVE_JOB_OF_QOS, {"name": name})).scalar_one()
        if busy is not None:
            raise Conflict(f"作业 {busy} 还在用 QOS {name}；先取消它或等它结束", code="qos_in_use")
        row = (await connection.execute(qos_lock(name))).mappings().one_or_none()
        if row is None:
            raise _unknown(name)
        await connection.execute(qos_delete(name))
        await record(connection, identity, "qos.delete", name, before=row)
        for statement in (FORGET_IN_ASSOCIATIONS, FORGET_IN_PREEMPT):
            await connection.execute(statement, {"name": name})
        await tell_accounting(connection)


async def _check(connection: AsyncConnection, name: str, values: Mapping[str, Any]) -> None:
    preempt = values.get("preempt") or ()
    if name in preempt:
        raise InvalidRequest("preempt", f"{name} 不能抢占自己", code="qos_preempt_loop")
    await require_qos(connection, preempt, "preempt")
    for flag in values.get("flags") or ():
        if flag not in FLAGS:
            raise InvalidRequest("flags", f"不支持 {flag}；可用 {'、'.join(FLAGS)}", code="flag_unknown")
