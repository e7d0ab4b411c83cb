"""用量的报告（sreport）：一段时间里各账户、用户、作业大小占用的 CPU、内存、节点与 GPU。

每一次尝试都算（重新排队过的也在内），挂起的不算，运行中的算到此刻；汇总与还没有汇总的合起来，总是准的。
"""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.cluster import Capacity, MeasuredUsage, UsageRow, UsageSeries, UsageSlot
from scns_conductor.core.answers.writing import rows_of
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.instants import utc_now
from scns_conductor.core.usage_periods import Period, end_of, start_of, stretches, whole_hours
from scns_conductor.statements.nodes import CAPACITY
from scns_conductor.statements.usage_report import SERIES_GROUPS, USAGE
from scns_conductor.statements.usage_report import usage_over_time as usage_series

MOST_ROWS = 20_000


async def usage_report(engine: AsyncEngine, since: datetime, until: datetime) -> MeasuredUsage:
    """各账户、用户、分区、QOS、大小的用量。since、until 放宽到整点，不晚于此刻。"""
    first, last = whole_hours(since, until)
    chosen = stretches(first, last)
    values = {
        "first": first,
        "last": last,
        "periods": [each.period.value for each in chosen],
        "sinces": [each.since for each in chosen],
        "untils": [each.until for each in chosen],
    }
    async with engine.connect() as connection:
        rows = (await connection.execute(USAGE, values)).mappings().all()
        capacity = (await connection.execute(CAPACITY)).mappings().one()
    return {
        "since": first,
        "until": max(first, min(last, utc_now())),
        "usage": rows_of(UsageRow, rows),
        "capacity": rows_of(Capacity, [capacity])[0],
    }


async def usage_over_time(
    engine: AsyncEngine, since: datetime, until: datetime, every: str, by: Sequence[str], zone: str
) -> UsageSeries:
    """按 by 的各列分的用量，一格一格的。every 是 hour、day、month；时区不认识、by 不对、行太多抛 InvalidRequest。"""
    unknown = [name for name in by if name not in SERIES_GROUPS]
    if unknown:
        raise InvalidRequest("by", f"应是 {'、'.join(SERIES_GROUPS)} 里的几个")
    try:
        clock = ZoneInfo(zone)
    except (ValueError, OSError, KeyError) as error:
        raise InvalidRequest("zone", f"不认识时区 {zone[:64]!r}；例如 UTC、Asia/Shanghai") from error
    first, last = whole_hours(since, until)
    # 别的时区的天与月，要由小时合起来；UTC 的整格地取，两头放宽到整格。
    period = Period(every) if clock.key == "UTC" else Period.HOUR
    first, last = start_of(period, first), end_of(period, last)
    values = {"first": first, "last": last, "every": every, "zone": zone, "period": period.value, "most": MOST_ROWS + 1}
    async with engine.connect() as connection:
        rows = (await connection.execute(usage_series(by), values)).mappings().all()
    if len(rows) > MOST_ROWS:
        raise InvalidRequest("since", f"多于 {MOST_ROWS} 行；请缩短时间，或按更长的一格、更少的列分")
    return {
        "since": first,
        "until": max(first, min(last, utc_now())),
        "every": every,
        "zone": zone,
        "rows": rows_of(UsageSlot, ({**row, "start": row["start"].astimezone(clock)} for row in rows)),
    }
