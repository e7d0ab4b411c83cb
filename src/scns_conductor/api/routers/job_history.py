"""别的系统的历史。"""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.history_request import HistoryRequest
from scns_conductor.services.history_import import import_history

router = APIRouter(prefix="/jobs", tags=["作业"])


class HistoryRefused(BaseModel):
    """没有收的一个。"""

    job_id: str = Field(description="作业号")
    reason: str = Field(description="为什么")


class HistoryAnswer(BaseModel):
    """一批的结果。"""

    added: int = Field(description="写进了几个")
    present: int = Field(description="从前就搬来了的几个")
    refused: list[HistoryRefused] = Field(description="没有收的")
    unknown_accounts: list[str] = Field(description="写进了的里，这里没有的账户：用量记下了，不在公平份额的树里")


@router.post("/history", summary="写进别的系统的历史（管理员）")
async def add_history(body: HistoryRequest, parts: PartsDep, identity: IdentityDep) -> HistoryAnswer:
    """结束了的作业，连同它们占用的；用量当场记进汇总。再送一遍不重。不发邮件与 webhook。"""
    jobs = [job.model_dump() for job in body.jobs]
    return HistoryAnswer.model_validate(await import_history(parts.engine, identity, body.source, jobs))
