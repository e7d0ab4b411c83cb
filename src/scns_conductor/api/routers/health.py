"""健康检查。"""

from fastapi import Response
from fastapi.responses import JSONResponse

from scns_conductor.api.dependencies import PartsDep
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.services.health import readiness

router = SegmentRouter(tags=["健康"])


@router.get("/health/live", summary="进程活着（不需要令牌）")
async def live() -> dict[str, str]:
    """只说明这个 API 进程在应答。"""
    return {"status": "ok"}


@router.get(
    "/health/ready",
    summary="可以服务（不需要令牌）",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, 503: {"description": "还不能"}},
)
async def ready(parts: PartsDep) -> Response:
    """数据库连得上、可写、结构是这个版本要的，调度没有整个被别的会话的锁挡住；别的只报告。"""
    found = await readiness(parts.engine, parts.settings, wanted_version())
    good = found["status"] == "ok"
    return JSONResponse(found, 200 if good else 503, headers=None if good else {"Retry-After": "5"})
