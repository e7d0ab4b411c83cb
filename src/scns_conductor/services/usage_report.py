"""用量的报告（sreport）：一段时间里各账户、用户、作业大小占用的 CPU、内存与节点。

按分配的每一次尝试算（重新排队过的也在内），运行中的算到此刻；不必等整点汇总。
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

_USAGE = sa.text(
    """
    WITH spans AS (
      SELECT j.account, j.user_name, j.wckey, j.job_id, j.allocated_cpus, a.cpus, a.memory,
        extract(epoch FROM least(coalesce(a.released_at, clock_timestamp()), CAST(:until AS timestamptz))
          - greatest(a.created_at, CAST(:since AS timestamptz)))::double precision AS seconds
      FROM jobs AS j JOIN resource_allocations AS a ON a.job_id = j.job_id
      WHERE j.submit_time < CAST(:until AS timestamptz)
        AND (j.end_time IS NULL OR j.end_time >= CAST(:since AS timestamptz))
        AND a.created_at < CAST(:until AS timestamptz)
        AND (a.released_at IS NULL OR a.released_at > CAST(:since AS timestamptz))
    )
    SELECT account, user_name, wckey, allocated_cpus AS job_cpus, count(DISTINCT job_id) AS jobs,
      sum(cpus * seconds) AS cpu_s, sum(memory * seconds) AS memory_mb_s, sum(seconds) AS node_s
    FROM spans WHERE seconds > 0 GROUP BY account, user_name, wckey, allocated_cpus
    ORDER BY account NULLS FIRST, user_name, wckey NULLS FIRST, allocated_cpus
    """
)
_CAPACITY = sa.text(
    "SELECT coalesce(sum(cpus), 0)::bigint AS cpus, coalesce(sum(memory), 0)::bigint AS memory_mb, "
    "count(*) AS nodes FROM nodes"
)


async def usage_report(engine: AsyncEngine, since: datetime, until: datetime) -> dict[str, Any]:
    """{usage: [{account, user_name, wckey, job_cpus, jobs, cpu_s, memory_mb_s, node_s}], capacity}。"""
    async with engine.connect() as connection:
        rows = (await connection.execute(_USAGE, {"since": since, "until": until})).mappings().all()
        capacity = (await connection.execute(_CAPACITY)).mappings().one()
    return {"usage": [dict(row) for row in rows], "capacity": dict(capacity)}
