"""FastAPI 应用的装配。"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.api import problems
from scns_conductor.api.bodiless import bodies_checked
from scns_conductor.api.dependencies import Parts, Verifier, authorized
from scns_conductor.api.english import English
from scns_conductor.api.job_request import JobRequest
from scns_conductor.api.middleware import Entrance
from scns_conductor.api.peers import Peers
from scns_conductor.api.quick_submit import QuickSubmit
from scns_conductor.api.roles import without_rule
from scns_conductor.api.routers import (
    accounting,
    audit,
    cluster,
    cluster_file,
    control,
    crontab,
    diagnostics,
    health,
    history,
    identity,
    job_history,
    job_logs,
    jobs,
    login,
    metrics,
    notifications,
    priority,
    reservations,
    simulations,
    steps,
    submission,
    tokens,
    triggers,
    webhooks,
)
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import Settings
from scns_conductor.core.signing_keys import KeyRing, ensure_key
from scns_conductor.owned_tasks import owned_task
from scns_conductor.services.accounting_cache import AccountingCache
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.api_clock import keep_clock
from scns_conductor.services.cluster_limits import LimitsCache
from scns_conductor.services.current_rules import CurrentRules
from scns_conductor.services.dashboard import Dashboard
from scns_conductor.services.health import readiness
from scns_conductor.services.housekeeping import keep_house
from scns_conductor.services.job_output import OutputReader
from scns_conductor.services.job_policy import JobPolicy
from scns_conductor.services.live_settings import LiveSettings
from scns_conductor.services.oidc_login import OidcLogin
from scns_conductor.services.password_login import PasswordLogin
from scns_conductor.services.policy_pool import PolicyPool
from scns_conductor.services.queue_metrics import QueueMetrics
from scns_conductor.services.rate_limits import RateLimits
from scns_conductor.services.refusal_audit import RefusalAudit
from scns_conductor.services.retention import keep_retention
from scns_conductor.services.shared_ledger import SharedLedger
from scns_conductor.services.simulations import Simulations
from scns_conductor.services.submission import SubmitQueue
from scns_conductor.services.submit_desk import SubmitDesk
from scns_conductor.services.token_registry import TokenRegistry
from scns_conductor.services.usage_rollup import keep_rolling_up
from scns_conductor.services.utilization import Utilization
from scns_conductor.tracing import tracer_of

GC_THRESHOLD = 50_000
LOOK_S = 5.0
logger = structlog.get_logger(__name__)

DESCRIPTION = """
SCNS-Conductor 的作业接口：提交整份脚本，由系统决定何时何地运行，运行它，并且绝不丢失。

除健康检查与登录外都要令牌：`Authorization: Bearer <令牌>`，用 `scns token` 签发。
错误是 RFC 9457 的 problem JSON：`code` 是稳定的英文码，`detail` 与 `errors` 说明哪个字段、怎么办。
"""


def build_app(settings: Settings, more_routers: Iterable[APIRouter] = ()) -> FastAPI:
    """造一个应用，more_routers 是另外挂上的接口（slurmrestd）；密钥有问题时抛 SettingsError。"""
    ensure_key(settings.jwt_key_path)
    keys = KeyRing(settings.jwt_key_path)
    ledger = SharedLedger(settings)
    passwords = None if settings.pam_service is None else PasswordLogin(settings, ledger)
    oidc = None if settings.oidc_issuer is None else OidcLogin(settings, keys.keys)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = ledger.engine = async_engine(settings)
        # 听回答的会话要一直留着：不经 PgBouncer。
        listening = async_engine(settings, direct=True, pool_size=1, max_overflow=0)
        desk = AnswerDesk(engine, listening)
        queue = SubmitQueue(engine)
        tracer = tracer_of(settings.otel_endpoint, settings.cluster_name, "api", settings.otel_ratio)
        accounting_cache = AccountingCache(engine)
        live = LiveSettings(engine, settings)
        rates = RateLimits(settings)
        rules = CurrentRules(live, LimitsCache(engine, live), accounting_cache)
        policy = _policy(settings)
        app.state.parts = Parts(
            settings=settings,
            live=live,
            engine=engine,
            accounting=accounting_cache,
            rules=rules,
            submit_desk=SubmitDesk(engine, settings, rules, queue, desk, tracer, policy),
            desk=desk,
            output=OutputReader(engine, settings, desk),
            dashboard=Dashboard(engine, settings.scheduler_lease_s),
            utilization=Utilization(engine),
            queue_metrics=QueueMetrics(engine, desk),
            simulations=Simulations(settings.simulations_at_once),
            tokens=TokenRegistry(engine),
            rates=rates,
            verifier=Verifier(keys, rates, require_issuer=settings.token_issuer_required),
            policy=policy,
            peers=Peers(single_user=settings.single_user),
            passwords=passwords,
            oidc=oidc,
            refusals=RefusalAudit(engine),
        )
        # 载入的模块不会消失：不必每次垃圾回收都走一遍；一批一万个作业也不必回收几十次。
        gc.freeze()
        gc.enable()
        await _look_at_server(engine, settings)
        registry = app.state.parts.tokens
        tasks = [
            owned_task(registry.keep_used(), "token_use"),
            owned_task(keep_clock(engine), "clock"),
            owned_task(keep_house(engine), "housekeeping"),
            owned_task(keep_rolling_up(engine), "usage"),
            owned_task(keep_retention(engine), "retention"),
            owned_task(rates.keep_sharing(ledger), "limits"),
        ]
        if policy is not None:
            tasks.append(owned_task(policy.warm(), "policy"))
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        yield
        for task in tasks:
            task.cancel()
        await registry.write_used()
        await queue.close()
        if policy is not None:
            await policy.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)
        await ledger.close()
        await desk.close()
        await listening.dispose()
        await engine.dispose()

    # 接口文档的脚本与样式由自己送出：不从 CDN 取，断网也看得到。
    app = FastAPIOffline(
        title="SCNS-Conductor",
        version="1",
        description=DESCRIPTION,
        redoc_url=None,
        lifespan=lifespan,
        # 跟踪与指标是自己的（tracing、/metrics）：FastAPI 的不必每个请求都问一遍有没有人收。
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses={
            "4XX": {"description": "problem JSON", "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}}},
            "5XX": {"description": "problem JSON", "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}}},
        },
    )
    problems.install(app)
    app.add_api_route("/", _front_page, include_in_schema=False)
    app.add_api_route("/redoc", _redoc, include_in_schema=False)
    # submission、steps 在前：/jobs/submit、/jobs/query、/jobs/steps 不能被 /jobs/{job_id} 抢走。
    routers = (
        submission,
        steps,
        control,
        job_history,
        history,
        jobs,
        job_logs,
        cluster,
        cluster_file,
        accounting,
        reservations,
        crontab,
        triggers,
        priority,
        diagnostics,
        simulations,
        notifications,
        webhooks,
        identity,
        tokens,
        audit,
        login,
        health,
        metrics,
    )
    for router in (module.router for module in routers):
        app.include_router(bodies_checked(router), dependencies=[Depends(authorized)])
        missing = without_rule((method, route.path) for route in router.routes for method in route.methods)
        if missing:
            raise RuntimeError(f"api/roles.py 的表里没有这些端点：{missing}")
    for router in more_routers:
        app.include_router(router)
    app.add_middleware(QuickSubmit)
    app.add_middleware(Entrance, settings=settings)
    app.add_middleware(English)
    return app


async def _redoc(request: Request) -> HTMLResponse:
    """另一种样子的接口文档；它自己还要去别处取一个商标，不许。"""
    root = request.scope.get("root_path", "")
    assets = f"{root}/static-offline-docs"
    page = get_redoc_html(
        openapi_url=f"{root}/openapi.json",
        title="SCNS-Conductor - ReDoc",
        redoc_js_url=f"{assets}/redoc.standalone.js",
        redoc_favicon_url=f"{assets}/favicon.png",
        with_google_fonts=False,
    )
    page.headers["Content-Security-Policy"] = "img-src 'self' data:"
    return page


async def _front_page() -> RedirectResponse:
    """浏览器打开根地址：去接口文档；相对的地址，放在别的前缀下也对。"""
    return RedirectResponse("docs")


def _policy(settings: Settings) -> JobPolicy | None:
    """站点的提交策略；没有设是 None。插件写的字段照请求的规矩读。"""
    if settings.job_submit_plugin is None:
        return None
    pool = PolicyPool(settings.job_submit_plugin, settings.job_submit_timeout_s)
    return JobPolicy(
        pool,
        settings,
        lambda written: JobRequest.model_validate(written).columns(),
        lambda written: JobRequest.model_validate(written).changes(),
    )


async def _look_at_server(engine: AsyncEngine, settings: Settings) -> None:
    """启动时看一眼数据库服务器：不够的记进日志；数据库还没起来也照样启动。"""
    try:
        async with asyncio.timeout(LOOK_S):
            found = await readiness(engine, settings, wanted_version())
    except (ConductorError, sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
        logger.warning("database_unavailable", error=first_line(error))
        return
    for shortfall in found["checks"]["database"]["shortfalls"]:
        logger.warning("database_shortfall", shortfall=shortfall)
    for name in ("database", "schema"):
        if "remedy" in found["checks"][name]:
            logger.error(f"{name}_unusable", **found["checks"][name])


_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
