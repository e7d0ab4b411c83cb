"""用量的报告（sreport）。"""

import sqlalchemy as sa

from scns_conductor.statements.usage_spans import KEYS, UNROLLED, spans

_SUMS = ("jobs", "cpu_s", "memory_mb_s", "node_s", "gpu_s")
_CLIPPED = "extract(epoch FROM least(until, :last) - greatest(since, :first))"
# 一段时间（:first 到 :last，整点）里各账户、用户、分区、QOS、作业大小占用的 CPU、内存、节点、GPU，与结束了几个作业。
# 加进了汇总的取 :periods 的那些格，还没有加进去的与运行中的现算。
USAGE = sa.text(
    f"""
    WITH {UNROLLED}, {spans("unrolled")},
    everything AS (
      SELECT {KEYS}, {", ".join(_SUMS)}
      FROM unnest(CAST(:periods AS text[]), CAST(:sinces AS timestamptz[]), CAST(:untils AS timestamptz[]))
        AS p(period, since, until)
      JOIN usage_rollups AS u ON u.period = p.period AND u.start >= p.since AND u.start < p.until
      UNION ALL
      SELECT {KEYS}, 0, cpus * {_CLIPPED}, memory * {_CLIPPED}, nodes * {_CLIPPED}, gpus * {_CLIPPED}
      FROM parts WHERE since < :last AND until > :first
      UNION ALL
      SELECT {KEYS}, 1, 0, 0, 0, 0 FROM finishes WHERE at >= :first AND at < :last
    )
    SELECT nullif(account, '') AS account, user_name, nullif(wckey, '') AS wckey, partition, nullif(qos, '') AS qos,
      job_cpus, CAST(sum(jobs) AS bigint) AS jobs,
      {", ".join(f"CAST(sum({name}) AS double precision) AS {name}" for name in _SUMS[1:])}
    FROM everything GROUP BY {KEYS} HAVING sum(jobs) > 0 OR sum(node_s) > 0
    ORDER BY account NULLS FIRST, user_name, wckey NULLS FIRST, partition, qos NULLS FIRST, job_cpus
    """.replace(":first", "CAST(:first AS timestamptz)").replace(":last", "CAST(:last AS timestamptz)")
)
