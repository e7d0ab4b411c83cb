"""用量的报告（sreport）：一段时间里各账户、用户、作业大小占用的 CPU、内存与节点。

按分配的每一次尝试算（重新排队过的也在内），运行中的算到此刻；不必等整点汇总。
"""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.statements.nodes import CAPACITY
from scns_conductor.statements.usage_report import USAGE


async def usage_report(engine: AsyncEngine, since: datetime, until: datetime) -> dict[str, Any]:
    """{usage: [{account, user_name, wckey, partition, qos, job_cpus, jobs, cpu_s, memory_mb_s, node_s}], capacity}。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(USAGE, {"since": since, "until": until})).mappings().all()
        capacity = (await connection.execute(CAPACITY)).mappings().one()
    return {"usage": [dict(row) for row in rows], "capacity": dict(capacity)}
