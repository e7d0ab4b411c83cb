"""用掉的：公平份额与上限要看的合计，按半衰期衰减。

加进了汇总的按一格的重心衰减，还没有加进去的与运行中的按每一刻；读多少与历史多长无关，只看十个半衰期。
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.usage_periods import recent
from scns_conductor.statements.usage_spans import UNROLLED, spans

# 十个半衰期之前的用量不到千分之一，不再看。
HALF_LIVES = 10
# 汇总里这么久以内的按小时看，再早的按日：照重心衰减，一日长的一格对七天的半衰期差不到万分之五。
_FINE = timedelta(days=2)
_FINE_ONLY_S = 86400.0


def decay_values(now: float, half_life_s: float) -> dict[str, Any]:
    """USAGE_AGAINST_LIMITS、DECAYED_USAGE 的参数；now 是 Unix 秒。半衰期不到一天的一律按小时看。"""
    moment, window = datetime.fromtimestamp(now, UTC), timedelta(seconds=HALF_LIVES * half_life_s)
    chosen = recent(moment, window, _FINE if half_life_s >= _FINE_ONLY_S else window)
    return {
        "now": now,
        "half_life": half_life_s,
        "periods": [each.period.value for each in chosen],
        "sinces": [each.since for each in chosen],
        "untils": [each.until for each in chosen],
    }


# 一段从 since 到 until，每一刻各自衰减，合计相当于此刻的几秒。
_DECAYED_SPAN = """CAST(CAST(:half_life AS float8) / ln(2::float8) * (
      power(0.5, extract(epoch FROM to_timestamp(:now) - until)::float8 / CAST(:half_life AS float8))
      - power(0.5, extract(epoch FROM to_timestamp(:now) - since)::float8 / CAST(:half_life AS float8))) AS float8)"""
_CENTRE = "start + make_interval(secs => coalesce(CAST(wall_moment / nullif(wall_s, 0) AS float8), 0))"
_DECAY = (
    f"power(0.5, extract(epoch FROM to_timestamp(:now) - ({_CENTRE}))::float8 / CAST(:half_life AS float8))::float8"
)
_ROLLED = """
    rolled AS (
      SELECT u.* FROM unnest(CAST(:periods AS text[]), CAST(:sinces AS timestamptz[]), CAST(:untils AS timestamptz[]))
        AS p(period, since, until)
      JOIN usage_rollups AS u ON u.period = p.period AND u.start >= p.since AND u.start < p.until
    )"""
_LIMIT_KEYS = "account, user_name, qos, partition"


def _limit_sums(factor: str) -> str:
    """usage_rollups 的几行 -> 各 TRES 一行。"""
    return f"""
      SELECT {_LIMIT_KEYS}, t.tres, t.amount * {factor} AS used FROM chosen CROSS JOIN LATERAL (VALUES
        ('cpu', cpu_s), ('mem', memory_mb_s), ('node', node_s), ('', wall_s), ('gres/gpu', gpu_s)) AS t(tres, amount)
      WHERE t.amount > 0
      UNION ALL
      SELECT {_LIMIT_KEYS}, t.key, CAST(t.value AS float8) * {factor}
      FROM chosen CROSS JOIN LATERAL jsonb_each_text(others) AS t WHERE others <> CAST('{{}}' AS jsonb)
    """


def _span_sums(seconds: str) -> str:
    return f"""
      SELECT {_LIMIT_KEYS}, t.tres, t.amount * {seconds} AS used FROM parts CROSS JOIN LATERAL (VALUES
        ('cpu', cpus), ('mem', memory), ('node', nodes), ('', wall), ('gres/gpu', gpus)) AS t(tres, amount)
      WHERE t.amount > 0
      UNION ALL SELECT {_LIMIT_KEYS}, tres, amount * {seconds} FROM extras
    """


_PLAIN_SPAN = "CAST(extract(epoch FROM until - since) AS float8)"


def _limit_usage(rolled: str, chosen: str, factor: str, seconds: str) -> sa.TextClause:
    return sa.text(
        f"""
        WITH {rolled}chosen AS ({chosen}), due AS (SELECT * FROM usage_due), {spans("due")},
        everything AS ({_limit_sums(factor)} UNION ALL {_span_sums(seconds)})
        SELECT {_LIMIT_KEYS}, tres, sum(used)::float8 AS used FROM everything GROUP BY {_LIMIT_KEYS}, tres
        """.replace("::", r"\:\:")
    )


# 结束了的尝试用掉的，按账户、用户、QOS、分区与 TRES（'' 是时长），衰减过的。
USAGE_AGAINST_LIMITS = _limit_usage(f"{_ROLLED}, ", "SELECT * FROM rolled", _DECAY, _DECAYED_SPAN)
# 同上，不衰减、从头算：只有 NoDecay 的 QOS（:kept）要看。
UNDECAYED_USAGE = _limit_usage(
    "",
    "SELECT * FROM usage_rollups WHERE period = 'month' AND qos = ANY(CAST(:kept AS text[]))",
    "1",
    f"CASE WHEN qos = ANY(CAST(:kept AS text[])) THEN {_PLAIN_SPAN} ELSE 0 END",
)
# 各账户、各用户用掉的 CPU 秒，衰减过的，连同运行中的（公平份额）。
DECAYED_USAGE = sa.text(
    f"""
    WITH {_ROLLED}, {UNROLLED}, {spans("unrolled")},
    everything AS (
      SELECT account, user_name, qos, cpu_s * {_DECAY} AS used FROM rolled
      UNION ALL
      SELECT account, user_name, qos, cpus * {_DECAYED_SPAN} FROM parts
    )
    SELECT coalesce(nullif(account, ''), :none) AS account, user_name,
      sum(used * coalesce(q.usage_factor, 1))::float8 AS used
    FROM everything LEFT JOIN qos AS q ON q.name = qos GROUP BY 1, 2
    """.replace("::", r"\:\:")
)
