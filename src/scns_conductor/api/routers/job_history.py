"""别的系统的历史。"""

from scns_conductor.api.answers.history import HistoryImportedAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.history_request import HistoryRequest
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services.history_import import import_history

router = SegmentRouter(prefix="/jobs", tags=["作业"])


@router.post("/history", summary="写进别的系统的历史（管理员）")
async def add_history(body: HistoryRequest, parts: PartsDep, identity: IdentityDep) -> HistoryImportedAnswer:
    """结束了的作业，连同它们占用的；用量当场记进汇总。再送一遍不重。不发邮件与 webhook。"""
    jobs = [job.model_dump() for job in body.jobs]
    return await import_history(parts.engine, identity, body.source, jobs)
