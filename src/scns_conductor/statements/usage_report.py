"""用量的报告（sreport）。"""

from collections.abc import Sequence

import sqlalchemy as sa

from scns_conductor.statements.usage_spans import KEYS, UNROLLED, spans

_SUMS = ("jobs", "cpu_s", "memory_mb_s", "node_s", "gpu_s")
_TOTALS = ", ".join(f"CAST(sum({name}) AS double precision) AS {name}" for name in (*_SUMS[1:], "energy_j"))
# 汇总里的 GPU 能耗（焦耳）。
_ROLLED_ENERGY = "CAST(coalesce(others ->> 'energy', '0') AS numeric)"
_CLIPPED = "extract(epoch FROM least(until, :last) - greatest(since, :first))"
# 一段时间（:first 到 :last，整点）里各账户、用户、分区、QOS、作业大小占用的 CPU、内存、节点、GPU，与结束了几个作业。
# 加进了汇总的取 :periods 的那些格，还没有加进去的与运行中的现算。
USAGE = sa.text(
    f"""
    WITH {UNROLLED}, {spans("unrolled")},
    everything AS (
      SELECT {KEYS}, {", ".join(_SUMS)}, {_ROLLED_ENERGY} AS energy_j
      FROM unnest(CAST(:periods AS text[]), CAST(:sinces AS timestamptz[]), CAST(:untils AS timestamptz[]))
        AS p(period, since, until)
      JOIN usage_rollups AS u ON u.period = p.period AND u.start >= p.since AND u.start < p.until
      UNION ALL
      SELECT {KEYS}, 0, cpus * {_CLIPPED}, memory * {_CLIPPED}, nodes * {_CLIPPED}, gpus * {_CLIPPED}, 0
      FROM parts WHERE since < :last AND until > :first
      UNION ALL
      SELECT {KEYS}, 0, 0, 0, 0, 0, amount * {_CLIPPED} FROM energy WHERE since < :last AND until > :first
      UNION ALL
      SELECT {KEYS}, 1, 0, 0, 0, 0, 0 FROM finishes WHERE at >= :first AND at < :last
    )
    SELECT nullif(account, '') AS account, user_name, nullif(wckey, '') AS wckey, partition, nullif(qos, '') AS qos,
      job_cpus, CAST(sum(jobs) AS bigint) AS jobs,
      {_TOTALS}
    FROM everything GROUP BY {KEYS} HAVING sum(jobs) > 0 OR sum(node_s) > 0
    ORDER BY account NULLS FIRST, user_name, wckey NULLS FIRST, partition, qos NULLS FIRST, job_cpus
    """.replace(":first", "CAST(:first AS timestamptz)").replace(":last", "CAST(:last AS timestamptz)")
)

# 按什么分 -> 列。
SERIES_GROUPS = {"account": "account", "user": "user_name", "partition": "partition", "qos": "qos", "wckey": "wckey"}
_HOUR_OF_SPAN = (
    "generate_series(date_trunc('hour', greatest(since, CAST(:first AS timestamptz)), 'UTC'), "
    "least(until, CAST(:last AS timestamptz)) - interval '1 microsecond', interval '1 hour') AS hour"
)
_SPAN_SECONDS = "extract(epoch FROM least(until, hour + interval '1 hour') - greatest(since, hour))"


def usage_over_time(by: Sequence[str]) -> sa.TextClause:
    """一段时间（:first 到 :last，整点）里每 :every（hour、day、month，按时区 :zone）用掉的，按 by 分。

    加进了汇总的取 :period 长的格。
    """
    keys = "".join(f"{SERIES_GROUPS[name]}, " for name in by)
    shown = "".join(f"nullif({SERIES_GROUPS[name]}, '') AS \"{name}\", " for name in by)
    slot = "date_trunc(CAST(:every AS text), {0}, CAST(:zone AS text))"
    return sa.text(
        f"""
        WITH {UNROLLED}, {spans("unrolled")},
        everything AS (
          SELECT {slot.format("start")} AS slot, {keys}{", ".join(_SUMS)}, {_ROLLED_ENERGY} AS energy_j
          FROM usage_rollups
          WHERE period = :period AND start >= CAST(:first AS timestamptz) AND start < CAST(:last AS timestamptz)
          UNION ALL
          SELECT {slot.format("hour")}, {keys}0, cpus * s.seconds, memory * s.seconds, nodes * s.seconds,
            gpus * s.seconds, 0
          FROM parts CROSS JOIN LATERAL {_HOUR_OF_SPAN} CROSS JOIN LATERAL (SELECT {_SPAN_SECONDS} AS seconds) AS s
          WHERE since < CAST(:last AS timestamptz) AND until > CAST(:first AS timestamptz)
          UNION ALL
          SELECT {slot.format("hour")}, {keys}0, 0, 0, 0, 0, amount * {_SPAN_SECONDS}
          FROM energy CROSS JOIN LATERAL {_HOUR_OF_SPAN}
          WHERE since < CAST(:last AS timestamptz) AND until > CAST(:first AS timestamptz)
          UNION ALL
          SELECT {slot.format("at")}, {keys}1, 0, 0, 0, 0, 0 FROM finishes
          WHERE at >= CAST(:first AS timestamptz) AND at < CAST(:last AS timestamptz)
        )
        SELECT slot AS start, {shown}CAST(sum(jobs) AS bigint) AS jobs,
          {_TOTALS}
        FROM everything GROUP BY slot{", " if by else ""}{keys.rstrip(", ")}
        HAVING sum(jobs) > 0 OR sum(node_s) > 0 ORDER BY slot, cpu_s DESC LIMIT :most
        """
    )
