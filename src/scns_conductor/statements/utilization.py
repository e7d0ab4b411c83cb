"""一段时间里占用的 CPU、内存、GPU，分成等长的几格；以及这段时间里开始的作业等了多久。"""

import sqlalchemy as sa

from scns_conductor.statements.archive import EVERY_JOB
from scns_conductor.statements.conditions import ACTIVE

# 结束的沿结束时刻的索引找，运行中的沿状态的索引找：与历史多长无关。
_TOUCHED = f"""
    touched AS (
      SELECT job_id, account, user_name, partition, qos, submit_time, start_time FROM {EVERY_JOB} AS jobs
      WHERE end_time >= CAST(:since AS timestamptz) AND submit_time < CAST(:until AS timestamptz)
      UNION ALL
      SELECT job_id, account, user_name, partition, qos, submit_time, start_time FROM jobs
      WHERE state IN {ACTIVE} AND submit_time < CAST(:until AS timestamptz)
    )
"""
# 按什么分 -> 列。
GROUPS = {"account": "account", "user": "user_name", "partition": "partition", "qos": "qos"}
# 每一格里各账户（用户、分区、QOS）平均占用多少；bucket 从 0 起，长 :width 秒。
_UTILIZATION = f"""
    WITH {_TOUCHED}, spans AS (
      SELECT t.{{group}} AS name, a.cpus, a.memory,
        (SELECT coalesce(sum(CAST(value AS bigint)), 0) FROM jsonb_each_text(a.gres)
         WHERE key = 'gpu' OR key LIKE 'gpu:%') AS gpus,
        extract(epoch FROM greatest(a.created_at, CAST(:since AS timestamptz)) - CAST(:since AS timestamptz))::float8
          AS begun,
        extract(epoch FROM least(coalesce(a.released_at, clock_timestamp()), CAST(:until AS timestamptz))
          - CAST(:since AS timestamptz))::float8 AS ended
      FROM touched AS t JOIN (
        SELECT job_id, cpus, memory, gres, created_at, released_at FROM resource_allocations UNION ALL
        SELECT job_id, cpus, memory, gres, created_at, released_at FROM history.resource_allocations
        -- 作业结束得不比它早：只看得着的几个月。
        WHERE job_end >= CAST(:since AS timestamptz)) AS a USING (job_id)
      WHERE a.created_at < CAST(:until AS timestamptz)
        AND (a.released_at IS NULL OR a.released_at > CAST(:since AS timestamptz))
    ), pieces AS (
      SELECT name, cpus, memory, gpus, bucket,
        (least(ended, (bucket + 1) * CAST(:width AS float8)) - greatest(begun, bucket * CAST(:width AS float8)))
          / CAST(:width AS float8) AS share
      FROM spans, generate_series(CAST(floor(begun / :width) AS integer), CAST(floor(ended / :width) AS integer))
        AS bucket
      WHERE ended > begun
    )
    SELECT name, bucket, sum(cpus * share)::float8 AS cpus, sum(memory * share)::float8 AS memory_mb,
      sum(gpus * share)::float8 AS gpus
    FROM pieces WHERE share > 0 GROUP BY name, bucket ORDER BY bucket
    """.replace("::", r"\:\:")
UTILIZATION = {by: sa.text(_UTILIZATION.format(group=column)) for by, column in GROUPS.items()}
# 这段时间里开始的作业等了多久（秒）的分位数。
WAITS = sa.text(
    f"""
    WITH {_TOUCHED}
    SELECT count(*) AS started,
      percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM start_time - submit_time))
        AS waits
    FROM touched WHERE start_time >= CAST(:since AS timestamptz) AND start_time < CAST(:until AS timestamptz)
    """
)
