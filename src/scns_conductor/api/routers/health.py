"""健康检查与指标。"""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest

from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.services.health import readiness, server_facts

router = APIRouter(tags=["健康"])


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
    found = await readiness(parts.engine, parts.settings, parts.schema_version)
    good = found["status"] == "ok"
    return JSONResponse(found, 200 if good else 503, headers=None if good else {"Retry-After": "5"})


@router.get("/metrics", summary="Prometheus 指标", responses={200: {"content": {"text/plain": {}}}})
async def metrics(parts: PartsDep, _identity: IdentityDep) -> Response:
    """作业、节点、资源、请求耗时。"""
    counts, resources, leader = (
        await parts.dashboard.counts(),
        await parts.dashboard.resources(),
        await parts.dashboard.leader(),
    )
    registry = CollectorRegistry()

    def gauge(name: str, text: str, values: dict[tuple[str, ...], float], labels: tuple[str, ...] = ()) -> None:
        found = Gauge(name, text, labels, registry=registry)
        for key, value in values.items():
            (found.labels(*key) if labels else found).set(value)

    gauge("scns_jobs", "各状态的作业数", {(state,): count for state, count in counts.items()}, ("state",))
    nodes: dict[str, Any] = resources["nodes"]["by_state"]
    gauge("scns_nodes", "各状态的节点数", {(state,): count for state, count in nodes.items()}, ("state",))
    for name in ("cpus", "memory_mb"):
        gauge(f"scns_{name}_total", "可用节点的总量", {(): resources[name]["total"]})
        gauge(f"scns_{name}_used", "已分配的", {(): resources[name]["used"]})
    gauge("scns_scheduler_blockers", "锁着调度器要写的行、它只好绕开的会话", {(): len(leader["blocked"])})
    facts = await server_facts(parts.engine)
    gauge("scns_notify_queue_usage", "通知的队列用了几成（0–1）", {(): float(facts["notify_usage"])})
    gauge("scns_scheduler_leader_alive", "有没有调度领导者", {(): float(leader["alive"])})
    return Response(generate_latest(registry) + generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
