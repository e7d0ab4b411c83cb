"""为什么还没有开始：在排队的去问调度器。"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.states import JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.job_queries import read_job
from scns_conductor.statements.job_detail import REASON


async def job_why(engine: AsyncEngine, desk: AnswerDesk, identity: Identity, job_id: str) -> dict[str, Any]:
    """缺什么、谁在前面、预计何时、怎样能更早；不在排队的只说状态。"""
    row = await read_job(engine, job_id, REASON)
    if row["state"] != JobState.PENDING:
        return {
            "job_id": job_id,
            "state": row["state"],
            "reason": row["reason"],
            "text": f"作业 {job_id} 不在排队，它的状态是 {row['state']}"
            + (f"：{row['error_msg']}" if row["error_msg"] else ""),
        }
    answer = await desk.ask_scheduler("explain", identity.user_name, {"job_id": row["job_id"]})
    return {"job_id": job_id, "state": row["state"], **answer}
