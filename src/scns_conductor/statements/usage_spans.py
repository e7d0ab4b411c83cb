"""一次尝试用了什么、从何时到何时：分配的记录减去挂起的时段。汇总与现算的用量都由此而来。

分配到放开为止；放开得晚的（库不在、节点失联）以作业真正结束的时刻（事件里的）为准。
"""

from scns_conductor.statements.conditions import ACTIVE

# 按这些合计；没有的是空的字符串。
KEYS = "account, user_name, partition, qos, wckey, job_cpus"
_NAMES = (
    "coalesce(account, '') AS account, user_name, partition, coalesce(qos, '') AS qos, coalesce(wckey, '') AS wckey"
)
# 还在运行的；有了 attempts 的列。
ACTIVE_ATTEMPTS = f"""
    SELECT job_id, restart_count, account, user_name, partition, qos, wckey, licenses, true AS final
    FROM jobs WHERE state IN {ACTIVE}
"""
# 还没有加进汇总的：结束了的与还在运行的。
UNROLLED = f"""
    unrolled AS (
      SELECT job_id, restart_count, account, user_name, partition, qos, wckey, licenses, final FROM usage_due
      UNION ALL {ACTIVE_ATTEMPTS}
    )"""


def spans(attempts: str) -> str:
    """CTE 片段：attempts（列同 usage_due）的三样。

    parts 一行是一段：wall、cpus、memory、nodes、gpus 从 since 到 until；extras 是别的 TRES（tres、amount）；
    energy 是 GPU 的能耗，平摊在运行的时段上（amount 是瓦，乘以秒就是焦耳），也在 extras 里；
    finishes 是到此结束了的作业（at）。
    """
    return f"""
    timeline AS (
      SELECT t.*, c.ended_at, coalesce(c.suspended, CAST('{{}}' AS tstzmultirange)) AS suspended
      FROM {attempts} AS t CROSS JOIN LATERAL (
        SELECT min(since) FILTER (WHERE away) AS ended_at,
          range_agg(tstzrange(since, until)) FILTER (WHERE to_state = 'SUSPENDED' AND until > since) AS suspended
        FROM (
          SELECT event_time AS since, to_state, from_state IN {ACTIVE} AND to_state NOT IN {ACTIVE} AS away,
            coalesce(lead(event_time) OVER (ORDER BY event_id), statement_timestamp()) AS until
          FROM job_events AS e
          WHERE e.job_id = t.job_id AND e.restart_count = t.restart_count AND e.from_state <> e.to_state
        ) AS changes) AS c
    ),
    held AS MATERIALIZED (
      SELECT job_id, restart_count, {_NAMES}, licenses, final, suspended, a.gres, a.memory, a.created_at,
        a.cpus + a.lent_cpus AS cpus,
        CAST(sum(a.cpus + a.lent_cpus) OVER (PARTITION BY job_id, restart_count) AS integer) AS job_cpus,
        greatest(a.created_at, least(coalesce(a.released_at, statement_timestamp()), t.ended_at)) AS gone_at
      FROM timeline AS t JOIN resource_allocations AS a USING (job_id, restart_count)
    ),
    whole AS (
      SELECT job_id, restart_count, {KEYS}, licenses, final, max(gone_at) AS at,
        bool_or(gres <> CAST('{{}}' AS jsonb)) AS has_gres,
        tstzmultirange(tstzrange(min(created_at), max(gone_at))) - suspended AS run
      FROM held GROUP BY job_id, restart_count, {KEYS}, licenses, final, suspended
    ),
    running AS (
      SELECT {KEYS}, 0 AS wall, cpus, memory, 1 AS nodes,
        CASE WHEN gres = CAST('{{}}' AS jsonb) THEN 0 ELSE (SELECT coalesce(sum(CAST(value AS bigint)), 0)
          FROM jsonb_each_text(gres) WHERE key = 'gpu' OR key LIKE 'gpu:%') END AS gpus,
        tstzmultirange(tstzrange(created_at, gone_at)) - suspended AS run
      FROM held
      UNION ALL
      SELECT {KEYS}, 1, 0, 0, 0, 0, run FROM whole
    ),
    parts AS (
      SELECT {KEYS}, wall, cpus, memory, nodes, gpus, lower(span) AS since, upper(span) AS until
      FROM running CROSS JOIN LATERAL unnest(run) AS span
    ),
    energy AS (
      SELECT {KEYS}, CAST(joules AS numeric) / run_s AS amount, lower(span) AS since, upper(span) AS until
      FROM whole AS w CROSS JOIN LATERAL (
        SELECT sum(gpu_energy_j) AS joules FROM job_samples AS s
        WHERE s.job_id = w.job_id AND s.restart_count = w.restart_count) AS measured
      CROSS JOIN LATERAL (SELECT sum(extract(epoch FROM upper(r) - lower(r))) AS run_s FROM unnest(run) AS r) AS ran
      CROSS JOIN LATERAL unnest(run) AS span
      WHERE has_gres AND joules > 0 AND run_s > 0
    ),
    extras AS (
      SELECT {KEYS}, tres, amount, lower(span) AS since, upper(span) AS until FROM (
        SELECT {KEYS}, g.tres, CAST(g.value AS numeric) AS amount,
          tstzmultirange(tstzrange(created_at, gone_at)) - suspended AS run
        FROM held CROSS JOIN LATERAL (
          SELECT 'gres/' || key AS tres, value FROM jsonb_each_text(gres) WHERE key <> 'gpu'
          UNION ALL
          SELECT 'gres/' || split_part(key, ':', 1), value FROM jsonb_each_text(gres)
          WHERE key LIKE '%:%' AND key NOT LIKE 'gpu:%') AS g
        WHERE gres <> CAST('{{}}' AS jsonb)
        UNION ALL
        SELECT {KEYS}, 'license/' || split_part(word, ':', 1),
          CAST(coalesce(nullif(split_part(word, ':', 2), ''), '1') AS numeric), run
        FROM whole CROSS JOIN LATERAL unnest(string_to_array(translate(licenses, '= ', ':'), ',')) AS word
        WHERE split_part(word, ':', 1) <> ''
      ) AS named CROSS JOIN LATERAL unnest(run) AS span
      UNION ALL
      SELECT {KEYS}, 'energy', amount, since, until FROM energy
    ),
    finishes AS (SELECT {KEYS}, at FROM whole WHERE final)"""
