"""用掉的：公平份额与上限要看的合计。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import ACTIVE

# 已经结束的作业用掉的，按账户、用户、QOS、分区合计，原样与衰减过的。
USAGE_AGAINST_LIMITS = sa.text(
    """
    WITH ended AS (
      SELECT account, user_name, qos, split_part(partition, ',', 1) AS partition, allocated_gres, licenses,
        allocated_cpus, allocated_memory, allocated_nodes,
        greatest(0, extract(epoch FROM end_time - start_time) - suspended_s)::float8 AS elapsed,
        power(0.5, extract(epoch FROM to_timestamp(:now) - end_time)::float8 / CAST(:half_life AS float8)) AS decay
      FROM jobs WHERE start_time IS NOT NULL
        AND (end_time > to_timestamp(:now) - make_interval(secs => :window)
             OR (end_time IS NOT NULL AND qos = ANY(CAST(:kept AS text[]))))
    )
    SELECT account, user_name, qos, partition, allocated_gres, licenses,
      sum(allocated_cpus * elapsed)::float8 AS cpu, sum(allocated_memory * elapsed)::float8 AS mem,
      sum(allocated_nodes * elapsed)::float8 AS node, sum(elapsed)::float8 AS wall,
      sum(allocated_cpus * elapsed * decay)::float8 AS cpu_decayed,
      sum(allocated_memory * elapsed * decay)::float8 AS mem_decayed,
      sum(allocated_nodes * elapsed * decay)::float8 AS node_decayed, sum(elapsed * decay)::float8 AS wall_decayed
    FROM ended GROUP BY 1, 2, 3, 4, 5, 6
    """.replace("::", r"\:\:")
)
# 各账户、各用户用掉的 CPU 秒，结束的按半衰期衰减，连同运行中的（公平份额）。
DECAYED_USAGE = sa.text(
    f"""
    WITH ended AS (
      SELECT account, user_name, qos,
        allocated_cpus * greatest(0, extract(epoch FROM end_time - start_time) - suspended_s)
        * power(0.5, extract(epoch FROM to_timestamp(:now) - end_time) / CAST(:half_life AS double precision)) AS used
      FROM jobs
      WHERE end_time > to_timestamp(:now) - make_interval(secs => :window) AND start_time IS NOT NULL
    ), running AS (
      SELECT account, user_name, qos,
        allocated_cpus * greatest(0, :now - extract(epoch FROM start_time) - suspended_s)
      FROM jobs WHERE state IN {ACTIVE}
    )
    SELECT coalesce(account, :none) AS account, user_name, sum(used * coalesce(q.usage_factor, 1))::float8 AS used
    FROM (SELECT * FROM ended UNION ALL SELECT * FROM running) AS everything LEFT JOIN qos AS q ON q.name = qos
    GROUP BY 1, 2
    """.replace("::", r"\:\:")
)
