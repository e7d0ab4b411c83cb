"""通知：发了什么、没有发出去的为什么。"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.tokens import Identity
from scns_conductor.services.job_rows import job_reference
from scns_conductor.statements.notifications import LIST


async def list_notifications(
    engine: AsyncEngine, identity: Identity, *, job_id: str | None, state: str | None, limit: int, before: int | None
) -> list[dict[str, Any]]:
    """自己的作业的（管理员、审计员是全部的），新的在前；before 是上一页最后一个的号。作业号不合法抛 NotFound。"""
    values = {
        "user_name": None if identity.privileged or identity.auditor else identity.user_name,
        "job_id": None if job_id is None else job_reference(job_id).job_id,
        "state": state,
        "before": 2**62 if before is None else before,
        "limit": limit,
    }
    async with engine.connect() as connection:
        rows = (await connection.execute(LIST, values)).mappings().all()
    return [{**row, "job_id": str(row["job_id"])} for row in rows]
