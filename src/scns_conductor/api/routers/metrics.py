"""Prometheus 指标。"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest

from scns_conductor import __version__
from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.instants import utc_now
from scns_conductor.services.health import server_facts
from scns_conductor.services.licenses import license_usage
from scns_conductor.services.node_power import power_totals

router = SegmentRouter(tags=["健康"])

MIB = 1024**2
WAIT_WINDOW = timedelta(hours=1)
_MICRO = 1e-6
# sdiag 的键 -> (指标, 说明, 换算)；计数的从调度器当上领导者起，换了人从头计。
_SCHEDULER_GAUGES: dict[str, tuple[str, str, float]] = {
    "schedule_cycle_last": ("scns_scheduler_cycle_last_seconds", "最近一个调度周期计划了多久", _MICRO),
    "schedule_cycle_mean": ("scns_scheduler_cycle_mean_seconds", "调度周期平均计划多久", _MICRO),
    "schedule_cycle_max": ("scns_scheduler_cycle_max_seconds", "调度周期最长计划多久", _MICRO),
    "bf_cycle_last": ("scns_scheduler_backfill_last_seconds", "最近一次回填计划了多久", _MICRO),
    "bf_last_depth": ("scns_scheduler_reservations", "最近一次为几个受阻的作业做了保留", 1),
    "schedule_queue_length": ("scns_scheduler_queue_length", "最近一个周期开始时队列多长", 1),
}
_SCHEDULER_COUNTERS: dict[str, tuple[str, str]] = {
    "schedule_cycle_total": ("scns_scheduler_cycles", "调度周期"),
    "jobs_started": ("scns_scheduler_jobs_started", "启动了的作业"),
    "bf_backfilled_jobs": ("scns_scheduler_jobs_backfilled", "回填启动的作业"),
    "jobs_repaired": ("scns_scheduler_jobs_repaired", "核对时修正了的作业"),
}


class _Page:
    """一次采集。"""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def gauge(self, name: str, text: str, value: float) -> None:
        """没有标签的一个数。"""
        Gauge(name, text, registry=self.registry).set(value)

    def gauges(self, name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> None:
        """各个标签各一个数。"""
        found = Gauge(name, text, labels, registry=self.registry)
        for key, value in values.items():
            found.labels(*key).set(value)

    def counter(self, name: str, text: str, value: float) -> None:
        """只增不减的一个数。"""
        Counter(name, text, registry=self.registry).inc(value)

    def text(self) -> bytes:
        """写成 Prometheus 的文字，连同这个进程自己的。"""
        return generate_latest(self.registry) + generate_latest(REGISTRY)


@router.get("/metrics", summary="Prometheus 指标", responses={200: {"content": {"text/plain": {}}}})
async def metrics(parts: PartsDep, _identity: IdentityDep) -> Response:
    """队列、节点、资源、等待、调度、数据库、请求的耗时；标签里没有作业号与用户。"""
    page = _Page()
    page.gauges("scns_build_info", "版本", ("version",), {(__version__,): 1})
    await _jobs(page, parts)
    await _nodes(page, parts)
    await _power(page, parts)
    await _licenses(page, parts)
    await _scheduler(page, parts)
    facts = await server_facts(parts.engine)
    page.gauge("scns_notify_queue_usage", "通知的队列用了几成（0–1）", float(facts["notify_usage"]))
    page.gauge(
        "scns_database_roundtrip_seconds", "问数据库一句的来回", await parts.queue_metrics.database_roundtrip_s()
    )
    return Response(page.text(), media_type=CONTENT_TYPE_LATEST)


async def _jobs(page: _Page, parts: Parts) -> None:
    counts = await parts.dashboard.counts()
    page.gauges("scns_jobs", "各状态的作业数", ("state",), {(state,): count for state, count in counts.items()})
    page.gauges(
        "scns_queue_jobs",
        "没有结束的作业，数组按任务计",
        ("state", "partition", "reason"),
        await parts.queue_metrics.queue(),
    )
    until = utc_now()
    waits = (await parts.utilization.history(until - WAIT_WINDOW, until, 1))["waits"]
    quantiles = {"0.5": waits["p50_s"], "0.9": waits["p90_s"], "0.99": waits["p99_s"]}
    page.gauges(
        "scns_job_wait_seconds",
        "过去一小时开始的作业等了多久",
        ("quantile",),
        {(name,): value for name, value in quantiles.items() if value is not None},
    )
    page.gauge("scns_jobs_started_last_hour", "过去一小时开始了几个作业", waits["started"])


async def _nodes(page: _Page, parts: Parts) -> None:
    resources = await parts.dashboard.resources()
    nodes = {(state,): count for state, count in resources["nodes"]["by_state"].items()}
    page.gauges("scns_nodes", "各状态的节点数", ("state",), nodes)
    for name, used in (("cpus", resources["cpus"]), ("memory_mb", resources["memory_mb"])):
        page.gauge(f"scns_{name}_total", "可用节点的总量", used["total"])
        page.gauge(f"scns_{name}_used", "已分配的", used["used"])
    found = {"cpu": resources["cpus"], **{f"gres/{name}": value for name, value in resources["gres"].items()}}
    memory = resources["memory_mb"]
    found["memory"] = {"total": memory["total"] * MIB, "used": memory["used"] * MIB}
    totals = {(name,): each["total"] for name, each in found.items()}
    page.gauges("scns_resource_total", "可用节点的总量，内存以字节计", ("resource",), totals)
    taken = {(name,): each["used"] for name, each in found.items()}
    page.gauges("scns_resource_used", "已分配的，内存以字节计", ("resource",), taken)


async def _power(page: _Page, parts: Parts) -> None:
    totals = await power_totals(parts.engine)
    page.gauges(
        "scns_nodes_power", "各电源状态的节点数", ("state",), {(word,): count for word, count in totals.nodes.items()}
    )
    page.counter("scns_node_off_seconds", "节点一共关了多久（节点·秒）", totals.off_s)
    page.counter("scns_node_boots", "要节点开机、开成了几次", totals.boots)
    page.counter("scns_node_boot_seconds", "各次开机一共用了多久（秒）", totals.boot_s)


async def _licenses(page: _Page, parts: Parts) -> None:
    found = await license_usage(parts.engine, (await parts.live.get()).licenses)
    page.gauges("scns_licenses", "许可证一共几个", ("license",), {(one["name"],): one["total"] for one in found})
    page.gauges("scns_licenses_used", "用着几个", ("license",), {(one["name"],): one["used"] for one in found})


async def _scheduler(page: _Page, parts: Parts) -> None:
    leader = await parts.dashboard.leader()
    page.gauge("scns_scheduler_leader_alive", "有没有调度领导者", float(leader["alive"]))
    page.gauge("scns_scheduler_blockers", "锁着调度器要写的行、它只好绕开的会话", len(leader["blocked"]))
    if not leader["alive"]:
        return
    statistics = await parts.queue_metrics.scheduler()
    for key, (name, text, factor) in _SCHEDULER_GAUGES.items():
        if key in statistics:
            page.gauge(name, text, statistics[key] * factor)
    for key, (name, text) in _SCHEDULER_COUNTERS.items():
        if key in statistics:
            page.counter(name, text, statistics[key])
