"""用量的报告（sreport）：一段时间里各账户、用户、作业大小占用的 CPU、内存、节点与 GPU。

每一次尝试都算（重新排队过的也在内），挂起的不算，运行中的算到此刻；汇总与还没有汇总的合起来，总是准的。
"""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.instants import utc_now
from scns_conductor.core.usage_periods import stretches, whole_hours
from scns_conductor.statements.nodes import CAPACITY
from scns_conductor.statements.usage_report import USAGE


async def usage_report(engine: AsyncEngine, since: datetime, until: datetime) -> dict[str, Any]:
    """{since, until, usage: [{account, …, job_cpus, jobs, cpu_s, memory_mb_s, node_s, gpu_s}], capacity}。

    since、until 放宽到整点，不晚于此刻。
    """
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
        "usage": [dict(row) for row in rows],
        "capacity": dict(capacity),
    }
