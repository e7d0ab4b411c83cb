"""用量的报告（sreport）。"""

import sqlalchemy as sa

# 一段时间里各账户、用户、分区、QOS、作业大小占用的 CPU、内存与节点；每次尝试都算，运行中的算到此刻。
USAGE = sa.text(
    """
    WITH spans AS (
      SELECT j.account, j.user_name, j.wckey, j.partition, j.qos, j.job_id, j.allocated_cpus, a.cpus, a.memory,
        extract(epoch FROM least(coalesce(a.released_at, clock_timestamp()), CAST(:until AS timestamptz))
          - greatest(a.created_at, CAST(:since AS timestamptz)))::double precision AS seconds
      FROM jobs AS j JOIN resource_allocations AS a ON a.job_id = j.job_id
      WHERE j.submit_time < CAST(:until AS timestamptz)
        AND (j.end_time IS NULL OR j.end_time >= CAST(:since AS timestamptz))
        AND a.created_at < CAST(:until AS timestamptz)
        AND (a.released_at IS NULL OR a.released_at > CAST(:since AS timestamptz))
    )
    SELECT account, user_name, wckey, partition, qos, allocated_cpus AS job_cpus, count(DISTINCT job_id) AS jobs,
      sum(cpus * seconds) AS cpu_s, sum(memory * seconds) AS memory_mb_s, sum(seconds) AS node_s
    FROM spans WHERE seconds > 0 GROUP BY account, user_name, wckey, partition, qos, allocated_cpus
    ORDER BY account NULLS FIRST, user_name, wckey NULLS FIRST, partition, qos NULLS FIRST, allocated_cpus
    """
)
