"""sdiag 与 scontrol show config 要的：调度器的统计、作业的计数、公开的设置。"""

from typing import Any, cast

from prometheus_client import Histogram
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.cluster import ChangedSetting
from scns_conductor.core.answers.scheduler import SchedulingFigures
from scns_conductor.core.runtime_settings import RUNTIME
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.audit import record
from scns_conductor.statements.cluster_settings import SELECT_SETTINGS_WITH_AUTHORS
from scns_conductor.statements.diagnostics import JOB_COUNTS

# 不含地址、口令与文件的位置。
PUBLIC_SETTINGS = (
    *RUNTIME,
    "cluster_name", "script_max_bytes", "batch_max_jobs", "heartbeat_interval_s", "node_timeout_s", "kill_wait_s",
    "containment", "single_user", "allow_root_jobs", "scheduler_lease_s", "reconcile_interval_s", "webhooks",
    "health_check_interval_s", "health_check_node_states", "prolog_epilog_timeout_s", "prolog_serial",
    "suspend_time_s", "suspend_timeout_s", "resume_timeout_s", "suspend_rate", "resume_rate", "suspend_exc_nodes",
    "suspend_exc_partitions", "elastic", "job_sample_interval_s", "propagate_resource_limits",
    "propagate_resource_limits_except",
)  # fmt: skip


def public_settings(settings: Settings) -> dict[str, Any]:
    """谁都能看的设置；名字同 Settings。"""
    return {name: getattr(settings, name) for name in PUBLIC_SETTINGS}


async def changed_settings(engine: AsyncEngine) -> dict[str, ChangedSetting]:
    """运行时改过的设置：名字 -> 值、谁、何时改的。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(SELECT_SETTINGS_WITH_AUTHORS)).all()
    return {
        row.name: {"value": row.value, "changed_by": row.changed_by, "changed_at": row.changed_at}
        for row in rows
        if row.name in RUNTIME
    }


async def reset_diagnostics(
    engine: AsyncEngine, desk: AnswerDesk, latency: Histogram, identity: Identity
) -> dict[str, Any]:
    """统计从头计，返回归零之前的。"""
    async with engine.begin() as connection:
        await record(connection, identity, "diag.reset", "scheduler")
    return await diagnostics(engine, desk, latency, reset=True)


async def diagnostics(
    engine: AsyncEngine, desk: AnswerDesk, latency: Histogram, *, reset: bool = False
) -> dict[str, Any]:
    """slurmrestd 的 statistics。调度器没有按时回答抛 AnswerTimeout；reset 时先取数，再从头计。"""
    found = cast("SchedulingFigures", await desk.ask("diag", payload={"reset": reset}))
    async with engine.connect() as connection:
        row = (await connection.execute(JOB_COUNTS, {"since": found["req_time_start"]})).mappings().one()
    return {
        "rpcs_by_message_type": _requests(latency),
        "rpcs_by_user": [],
        "parts_packed": 1,
        "server_thread_count": 1,
        "agent_count": 0,
        "agent_thread_count": 0,
        "dbd_agent_queue_size": 0,
        "gettimeofday_latency": 0,
        **found,
        **row,
        "job_states_ts": found["req_time"],
    }


def _requests(latency: Histogram) -> list[dict[str, Any]]:
    """回答了的 HTTP 请求，按端点：次数与耗时（微秒），从多到少。只是答话的这个 API 进程的。"""
    totals: dict[str, list[float]] = {}
    for metric in latency.collect():
        for sample in metric.samples:
            index = {"_count": 0, "_sum": 1}.get(sample.name.removeprefix(metric.name))
            if index is not None:
                name = f"{sample.labels['method']} {sample.labels['route']}"
                totals.setdefault(name, [0.0, 0.0])[index] += sample.value
    rows = [
        {
            "message_type": name,
            "type_id": 0,
            "count": int(count),
            "average_time": int(spent * 1e6 / count) if count else 0,
            "total_time": int(spent * 1e6),
        }
        for name, (count, spent) in totals.items()
    ]
    return sorted(rows, key=lambda row: (-int(row["count"]), str(row["message_type"])))
