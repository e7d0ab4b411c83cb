"""要了多少、用了多少：一段时间里结束的作业，按账户与用户合计。"""

import sqlalchemy as sa

from scns_conductor.statements.archive import EVERY_JOB

# 白占的 CPU 多的在前；没有写内存的作业不算内存。
EFFICIENCY = sa.text(
    f"""
    WITH ended AS (
      SELECT account, user_name, allocated_cpus, allocated_memory, max_rss_kb, time_limit,
        greatest(0, extract(epoch FROM end_time - start_time) - suspended_s)::float8 AS run_s,
        coalesce(cpu_user_s, 0) + coalesce(cpu_system_s, 0) AS cpu_s
      FROM {EVERY_JOB} AS jobs WHERE end_time >= CAST(:since AS timestamptz) AND end_time < CAST(:until AS timestamptz)
        AND start_time IS NOT NULL
    )
    SELECT account, user_name, count(*) AS jobs, sum(allocated_cpus * run_s)::float8 AS cpu_asked_s,
      sum(least(cpu_s, allocated_cpus * run_s))::float8 AS cpu_used_s,
      sum(allocated_memory * run_s)::float8 AS memory_asked_mb_s,
      sum(CASE WHEN allocated_memory > 0 THEN least(coalesce(max_rss_kb, 0) / 1024.0, allocated_memory) * run_s
        ELSE 0 END)::float8 AS memory_used_mb_s,
      sum(time_limit)::float8 AS limit_asked_s,
      sum(CASE WHEN time_limit IS NOT NULL THEN run_s ELSE 0 END)::float8 AS limit_used_s
    FROM ended GROUP BY account, user_name ORDER BY sum(allocated_cpus * run_s) - sum(cpu_s) DESC LIMIT 1000
    """.replace("::", r"\:\:")
)
