"""把结束了的尝试加进用量的汇总：取走与加上是一条语句，做到一半死了什么也没有发生。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import LIVE
from scns_conductor.statements.usage_spans import KEYS, spans

_SUMS = ("jobs", "wall_s", "cpu_s", "memory_mb_s", "node_s", "gpu_s", "wall_moment")
_ADDED = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
_SECONDS = "extract(epoch FROM least(until, hour + interval '1 hour') - greatest(since, hour))"
_HOURS_OF_SPAN = (
    "generate_series(date_trunc('hour', since, 'UTC'), until - interval '1 microsecond', interval '1 hour') AS hour"
)


def _by_period(period: str) -> str:
    # 重心离开头多远，换一格长的要加上这个小时离那一格开头多远。
    start = f"date_trunc('{period}', hour, 'UTC')"
    moved = f"sum(wall_moment + wall_s * extract(epoch FROM hour - {start})) AS wall_moment"
    return (
        f"SELECT CAST('{period}' AS text) AS period, {start} AS start, {KEYS}, "
        f"{_ADDED.replace('sum(wall_moment) AS wall_moment', moved)} FROM hours GROUP BY 2, {KEYS}"
    )


def _others_by_period(period: str) -> str:
    return (
        f"SELECT CAST('{period}' AS text) AS period, date_trunc('{period}', hour, 'UTC') AS start, {KEYS}, tres, "
        f"sum(amount) AS amount FROM other_hours GROUP BY 2, {KEYS}, tres"
    )


_PERIODS = ("hour", "day", "month")
# attempts 里的按小时分开，加进三种汇总；同一格的按主键的次序写，两个一起做也不会死锁。
_ADD = f"""
    {spans("attempts")},
    hours AS MATERIALIZED (
      SELECT {KEYS}, hour, {_ADDED} FROM (
        SELECT {KEYS}, hour, 0 AS jobs, wall * s.seconds AS wall_s, cpus * s.seconds AS cpu_s,
          memory * s.seconds AS memory_mb_s, nodes * s.seconds AS node_s, gpus * s.seconds AS gpu_s,
          wall * s.seconds * (extract(epoch FROM greatest(since, hour) - hour) + s.seconds / 2) AS wall_moment
        FROM parts CROSS JOIN LATERAL {_HOURS_OF_SPAN} CROSS JOIN LATERAL (SELECT {_SECONDS} AS seconds) AS s
        UNION ALL
        SELECT {KEYS}, date_trunc('hour', at, 'UTC'), 1, 0, 0, 0, 0, 0, 0 FROM finishes
      ) AS each GROUP BY {KEYS}, hour
    ),
    other_hours AS (
      SELECT {KEYS}, hour, tres, sum(amount * {_SECONDS}) AS amount
      FROM extras CROSS JOIN LATERAL {_HOURS_OF_SPAN} GROUP BY {KEYS}, hour, tres
    ),
    totals AS ({" UNION ALL ".join(map(_by_period, _PERIODS))}),
    other_totals AS (
      SELECT period, start, {KEYS}, jsonb_object_agg(tres, amount) AS others
      FROM ({" UNION ALL ".join(map(_others_by_period, _PERIODS))}) AS named GROUP BY period, start, {KEYS}
    ),
    added AS (
      INSERT INTO usage_rollups AS u (period, start, {KEYS}, {", ".join(_SUMS)}, others)
      SELECT period, start, {KEYS}, {", ".join(_SUMS)}, coalesce(others, CAST('{{}}' AS jsonb))
      FROM totals LEFT JOIN other_totals USING (period, start, {KEYS}) ORDER BY period, start, {KEYS}
      ON CONFLICT (period, start, {KEYS}) DO UPDATE SET
        {", ".join(f"{name} = u.{name} + excluded.{name}" for name in _SUMS)},
        others = scns_usage_plus(u.others, excluded.others)
    )"""
# 刚结束的 GPU 作业等这么久：它最后一次采样（能耗）在结束之后才写。
_SAMPLES_SETTLE = "interval '3 minutes'"
# 至多 :most 个结束了的尝试；返回取走了几个。
ROLL_UP = sa.text(
    f"""
    WITH attempts AS (
      DELETE FROM usage_due AS d USING (
        SELECT job_id, restart_count FROM usage_due AS u
        WHERE NOT EXISTS (
          SELECT FROM resource_allocations AS a WHERE a.job_id = u.job_id AND a.restart_count = u.restart_count
            AND a.gres <> CAST('{{}}' AS jsonb) AND a.released_at > clock_timestamp() - {_SAMPLES_SETTLE})
        ORDER BY job_id, restart_count LIMIT :most FOR UPDATE SKIP LOCKED
      ) AS t WHERE d.job_id = t.job_id AND d.restart_count = t.restart_count
      RETURNING d.*
    ), {_ADD}
    SELECT count(*) FROM attempts
    """
)
# 升级之前就结束了的，从新到旧 :most 个作业；补到哪里、还有没有。
BACK_FILL = sa.text(
    f"""
    WITH place AS MATERIALIZED (
      SELECT next_job_id, before, coalesce((SELECT min(job_id) FROM (
          SELECT job_id FROM jobs WHERE job_id <= b.next_job_id ORDER BY job_id DESC LIMIT :most) AS t), 0) AS floor
      FROM usage_backfill AS b FOR UPDATE SKIP LOCKED
    ),
    attempts AS (
      SELECT j.job_id, a.restart_count, j.account, j.user_name, j.partition, j.qos, j.wckey, j.licenses,
        a.restart_count = j.restart_count AND j.state NOT IN {LIVE} AS final
      FROM place AS p JOIN jobs AS j ON j.job_id BETWEEN p.floor AND p.next_job_id
      JOIN resource_allocations AS a ON a.job_id = j.job_id
      GROUP BY j.job_id, a.restart_count, p.before
      HAVING bool_and(a.released_at IS NOT NULL) AND max(a.released_at) < p.before
    ), {_ADD},
    moved AS (UPDATE usage_backfill SET next_job_id = p.floor - 1 FROM place AS p)
    SELECT floor - 1 AS next_job_id FROM place
    """
)
# 补完了。
BACK_FILLED = sa.text("DELETE FROM usage_backfill WHERE next_job_id < 1")
