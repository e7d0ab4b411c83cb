"""调度的统计、公开的设置、用量的报告。"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query

from scns_conductor.api.answers.cluster import ClusterWhyAnswer, LicensesAnswer, UsageAnswer, UsageSeriesAnswer
from scns_conductor.api.answers.reports import EfficiencyAnswer, UtilizationAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.middleware import LATENCY
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.instants import parse_instant, utc_now
from scns_conductor.services.diagnostics import (
    changed_settings,
    diagnostics,
    public_settings,
    reset_diagnostics,
)
from scns_conductor.services.efficiency import efficiency
from scns_conductor.services.licenses import license_usage
from scns_conductor.services.scheduler_questions import ask_utilisation
from scns_conductor.services.usage_report import usage_over_time, usage_report
from scns_conductor.services.utilization import MOST_BUCKETS

router = SegmentRouter(tags=["诊断"])


@router.get("/diag", summary="调度的统计（sdiag）")
async def diag(parts: PartsDep, _identity: IdentityDep) -> dict[str, Any]:
    """周期、回填、队列、作业的计数与各端点的耗时；时长的单位是微秒，键同 slurmrestd 的 statistics。"""
    return {"statistics": await diagnostics(parts.engine, parts.desk, LATENCY)}


@router.post("/diag/reset", summary="统计从头计（管理员）")
async def reset(parts: PartsDep, identity: IdentityDep) -> dict[str, Any]:
    """返回归零之前的。"""
    return {"statistics": await reset_diagnostics(parts.engine, parts.desk, LATENCY, identity)}


@router.get("/config", summary="公开的设置")
async def config(parts: PartsDep, _identity: IdentityDep) -> dict[str, Any]:
    """现行的设置；不含地址、口令与文件的位置。changed 是其中运行时改过的（POST /cluster/apply）：值、谁、何时改的。"""
    return {"settings": public_settings(await parts.live.get()), "changed": await changed_settings(parts.engine)}


@router.get("/cluster/why", summary="什么压着利用率，改哪一样最值（管理员、Operator）")
async def cluster_why(
    parts: PartsDep,
    identity: IdentityDep,
    horizon_s: Annotated[int, Query(description="看今后多少秒", ge=60, le=30 * 86400)] = 3600,
) -> ClusterWhyAnswer:
    """停着的节点、预留、上限、排在前面的大作业、碎片……每一样都由调度器去掉它再计划一遍，说会多用多少。什么也不改。"""
    return await ask_utilisation(parts.desk, identity.user_name, horizon_s)


@router.get("/licenses", summary="许可证")
async def licenses(parts: PartsDep, _identity: IdentityDep) -> LicensesAnswer:
    """全集群的许可证（SCNS_LICENSES）与运行中的作业用掉的。"""
    return {"licenses": await license_usage(parts.engine, (await parts.live.get()).licenses)}


@router.get("/reports/usage", summary="一段时间的用量（sreport）")
async def usage(
    parts: PartsDep,
    _identity: IdentityDep,
    since: Annotated[str, Query(description="从何时起；ISO 8601、Unix 秒、now-1day 等", max_length=64)],
    until: Annotated[str, Query(description="到何时为止（不含）；晚于此刻的按此刻", max_length=64)] = "now",
) -> UsageAnswer:
    """各账户、用户、作业大小占用的 CPU 秒、MiB 秒、节点秒、GPU 秒；每次尝试都算，挂起的不算，运行中的算到此刻。

    since、until 放宽到整点（UTC），回答里是放宽之后的。jobs 是其间结束的与还在运行的。
    """
    moments = _moments(since, until)
    found = await usage_report(parts.engine, moments["since"], moments["until"])
    return {"cluster": parts.settings.cluster_name, **found}


@router.get("/reports/usage/series", summary="一段时间的用量，一格一格的（scns report）")
async def usage_series(
    parts: PartsDep,
    _identity: IdentityDep,
    since: Annotated[str, Query(description="从何时起；ISO 8601、Unix 秒、now-1day 等", max_length=64)],
    until: Annotated[str, Query(description="到何时为止（不含）；晚于此刻的按此刻", max_length=64)] = "now",
    every: Annotated[Literal["hour", "day", "month"], Query(description="一格多长")] = "day",
    by: Annotated[str, Query(description="按什么分：account,user,partition,qos,wckey 里的几个", max_length=64)] = "",
    zone: Annotated[str, Query(description="天、月按哪个时区，如 Asia/Shanghai", max_length=64)] = "UTC",
) -> UsageSeriesAnswer:
    """每一格、每一组占用的 CPU 秒、MiB 秒、节点秒、GPU 秒，与其间结束的作业数；没有用的格不在其中，至多 20,000 行。

    UTC 的天与月两头放宽到整格。
    """
    moments = _moments(since, until)
    groups = [word.strip() for word in by.split(",") if word.strip()]
    return await usage_over_time(parts.engine, moments["since"], moments["until"], every, groups, zone)


@router.get("/reports/utilization", summary="占用的历史与等待的分位数")
async def utilization(
    parts: PartsDep,
    _identity: IdentityDep,
    since: Annotated[str, Query(description="从何时起；ISO 8601、Unix 秒、now-1day 等", max_length=64)] = "now-1day",
    until: Annotated[str, Query(description="到何时为止（不含）；晚于此刻的按此刻", max_length=64)] = "now",
    buckets: Annotated[int, Query(ge=1, le=MOST_BUCKETS, description="分成几格")] = 96,
    by: Annotated[Literal["account", "user", "partition", "qos"], Query(description="按什么分")] = "account",
) -> UtilizationAnswer:
    """各账户（或用户、分区、QOS）每一格平均占用的 CPU、内存（MiB）、GPU（用得最多的几个，其余合成一个，有 others）。

    waits 是这段时间里开始的作业等了多久（秒）。至多旧 20 秒。
    """
    moments = _moments(since, until)
    return await parts.utilization.history(moments["since"], moments["until"], buckets, by)


@router.get("/reports/efficiency", summary="要了多少、用了多少")
async def show_efficiency(
    parts: PartsDep,
    _identity: IdentityDep,
    since: Annotated[str, Query(description="从何时起；ISO 8601、Unix 秒、now-1day 等", max_length=64)] = "now-7day",
    until: Annotated[str, Query(description="到何时为止（不含）；晚于此刻的按此刻", max_length=64)] = "now",
) -> EfficiencyAnswer:
    """这段时间里结束的作业，按账户与用户合计；没有写内存的作业不算内存。"""
    moments = _moments(since, until)
    return await efficiency(parts.engine, moments["since"], moments["until"])


def _moments(since: str, until: str) -> dict[str, datetime]:
    now = utc_now()
    moments = {name: moment_of(name, text, now) for name, text in (("since", since), ("until", until))}
    if moments["until"] < moments["since"]:
        raise InvalidRequest("until", "不能早于 since")
    return moments


def moment_of(name: str, text: str, now: datetime) -> datetime:
    """查询参数 name 写的时刻，晚于 now 的是 now；写法不对抛 InvalidRequest。"""
    try:
        return min(parse_instant(text, now.astimezone()).astimezone(UTC), now)
    except ValueError as error:
        raise InvalidRequest(name, str(error)) from error
