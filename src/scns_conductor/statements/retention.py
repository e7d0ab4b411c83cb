"""保留期：挑出结束很久的，移进历史，整月地丢。"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from scns_conductor.statements.archive import JOB_END, columns_of, partition_of
from scns_conductor.statements.conditions import LIVE
from scns_conductor.statements.table_columns import COLUMNS

# 同时只有一个在移：API 的几个进程、scns db retention。
MOVE_LOCK = 7236311
# 轮到自己是真；事务结束就放开。
TAKE_TURN = sa.text(f"SELECT pg_try_advisory_xact_lock({MOVE_LOCK})")
# 保留期，与照它此刻的界。
POLICY = sa.text(
    "SELECT p.move_after_s, p.drop_after_s, p.changed_at, clock_timestamp() AS now, "
    "clock_timestamp() - make_interval(secs => p.move_after_s) AS move_before, "
    "clock_timestamp() - make_interval(secs => p.drop_after_s) AS drop_before FROM retention_policy AS p"
)
# 定下保留期。
SET_POLICY = sa.text(
    "UPDATE retention_policy SET move_after_s = CAST(:move_after_s AS bigint), "
    "drop_after_s = CAST(:drop_after_s AS bigint), changed_at = clock_timestamp()"
)
# 结束得最早的 :look 个，从 (:after_time, :after_id) 之后看起；movable：数组、异构作业整个都结束够久了，用量也汇总了。
OLDEST = sa.text(
    f"""
    WITH oldest AS MATERIALIZED (
      SELECT job_id, end_time, coalesce(array_job_id, het_job_id, job_id) AS head FROM jobs
      WHERE end_time < CAST(:before AS timestamptz) AND state NOT IN {LIVE}
        AND (end_time, job_id) > (CAST(:after_time AS timestamptz), CAST(:after_id AS bigint))
      ORDER BY end_time, job_id LIMIT :look
    ),
    whole AS (
      SELECT head FROM (SELECT DISTINCT head FROM oldest) AS h
      WHERE NOT EXISTS (SELECT FROM jobs WHERE job_id = head {{late}})
        AND NOT EXISTS (SELECT FROM jobs WHERE array_job_id = head {{late}})
        AND NOT EXISTS (SELECT FROM jobs WHERE het_job_id = head {{late}})
    )
    SELECT o.job_id, o.end_time, w.head IS NOT NULL
        AND o.job_id > coalesce((SELECT next_job_id FROM usage_backfill), 0)
        AND NOT EXISTS (SELECT FROM usage_due AS d WHERE d.job_id = o.job_id) AS movable
    FROM oldest AS o LEFT JOIN whole AS w USING (head) ORDER BY o.end_time, o.job_id
    """.replace("{late}", "AND coalesce(end_time, 'infinity') >= CAST(:before AS timestamptz)")
)
# 这些里还移得走的，锁住；正被别人动的（重新排队）这次不移。
HOLD_STILL = sa.text(
    f"""
    SELECT job_id, date_trunc('month', end_time, 'UTC') AS month FROM jobs
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND end_time < CAST(:before AS timestamptz)
      AND state NOT IN {LIVE} ORDER BY job_id FOR UPDATE SKIP LOCKED
    """
)


# 这些里移得走的在哪些月结束。
ENDED_MONTHS = sa.text(
    "SELECT DISTINCT date_trunc('month', end_time, 'UTC') AS month FROM jobs "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND end_time < CAST(:before AS timestamptz)"
)


def _into_history() -> list[sa.TextClause]:
    found = []
    for table in COLUMNS:
        own = "" if table == "jobs" else f", {JOB_END}"
        end = "" if table == "jobs" else ", j.end_time"
        other = "jobs AS t" if table == "jobs" else f"{table} AS t JOIN jobs AS j ON j.job_id = t.job_id"
        found.append(
            sa.text(
                f"INSERT INTO history.{table} ({columns_of(table)}{own}) SELECT {columns_of(table, 't.')}{end} "
                f"FROM {other} WHERE t.job_id = ANY(CAST(:job_ids AS bigint[]))"
            )
        )
    return found


# 把这些作业与它们的记录抄进历史。
COPY_INTO_HISTORY = _into_history()
# 记下历史里各月各状态多了几个：总览不必数它们。
COUNT_MOVED = sa.text(
    """
    INSERT INTO history.counts AS c (month, state, jobs)
    SELECT date_trunc('month', end_time, 'UTC'), state, count(*) FROM jobs
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (month, state) DO UPDATE SET jobs = c.jobs + excluded.jobs
    """
)
# 平常的表里删掉；记录随外键走。
DELETE_MOVED = sa.text("DELETE FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))")
# 要放回去的：:job_ids 连同它们的数组、异构作业；:job_ids 为空时是结束得最晚的 :most 个。
FROM_HISTORY = sa.text(
    """
    SELECT job_id FROM history.jobs
    WHERE CAST(:job_ids AS bigint[]) IS NULL OR job_id = ANY(CAST(:job_ids AS bigint[]))
      OR array_job_id = ANY(CAST(:job_ids AS bigint[])) OR het_job_id = ANY(CAST(:job_ids AS bigint[]))
    ORDER BY end_time DESC LIMIT CASE WHEN CAST(:job_ids AS bigint[]) IS NULL THEN CAST(:most AS bigint) END
    """
)
# 记下历史里少了的。
COUNT_RETURNED = sa.text(
    """
    UPDATE history.counts AS c SET jobs = c.jobs - r.jobs FROM (
      SELECT date_trunc('month', end_time, 'UTC') AS month, state, count(*) AS jobs FROM history.jobs
      WHERE job_id = ANY(CAST(:job_ids AS bigint[])) GROUP BY 1, 2) AS r
    WHERE c.month = r.month AND c.state = r.state
    """
)
_THESE = "WHERE job_id = ANY(CAST(:job_ids AS bigint[]))"
# 放回平常的表；作业在前，记录指着它。
COPY_OUT_OF_HISTORY = [
    sa.text(f"INSERT INTO {table} ({columns_of(table)}) SELECT {columns_of(table)} FROM history.{table} {_THESE}")
    for table in COLUMNS
]
DELETE_FROM_HISTORY = [sa.text(f"DELETE FROM history.{table} {_THESE}") for table in COLUMNS]
# 历史里有哪些月，各有多大、各状态几个。
MONTHS = sa.text(
    """
    SELECT to_date(right(c.relname, 6), 'YYYYMM') AS month, pg_total_relation_size(c.oid) AS bytes,
      replace(c.relname, right(c.relname, 7), '') AS "table"
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_class AS p ON p.oid = i.inhparent
    WHERE p.relnamespace = 'history'::regnamespace AND p.relkind = 'p' ORDER BY 1, 3
    """.replace("::", r"\:\:")
)
# 历史里各月各状态几个。
COUNTS = sa.text("SELECT month, state, jobs FROM history.counts ORDER BY month, state")
# 不再记这几个月的。
FORGET_COUNTS = sa.text("DELETE FROM history.counts WHERE month = ANY(CAST(:months AS timestamptz[]))")
# 平常的表各有多大（连同索引）。
HOT_SIZES = sa.text(
    'SELECT t.name AS "table", pg_total_relation_size(to_regclass(t.name)) AS bytes '
    "FROM unnest(CAST(:tables AS text[])) AS t(name)"
)
# 平常的表里结束了的：几个，最早的何时结束。
HOT_FINISHED = sa.text(
    "SELECT (SELECT reltuples FROM pg_class WHERE oid = 'jobs'::regclass)::bigint AS jobs, "
    "(SELECT min(end_time) FROM jobs WHERE end_time IS NOT NULL) AS oldest".replace("::", r"\:\:")
)
# 有没有这个号的作业在历史里。
IN_HISTORY = sa.text(
    "SELECT job_id FROM history.jobs WHERE job_id = :job_id OR array_job_id = :job_id OR het_job_id = :job_id LIMIT 1"
)


# 有没有这个分区。
HAS_MONTH = sa.text("SELECT to_regclass(:name) IS NOT NULL")
# 一张表的各列与类型。
COLUMN_TYPES = sa.text(
    "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
    "WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
# 重新数一个月的。
COUNT_MONTH = sa.text(
    "INSERT INTO history.counts (month, state, jobs) SELECT CAST(:month AS timestamptz), state, count(*) "
    "FROM history.jobs WHERE end_time >= CAST(:month AS timestamptz) AND end_time < CAST(:until AS timestamptz) "
    "GROUP BY state"
)


def following(month: datetime) -> datetime:
    """下一个月的开头。"""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def month_partitions(month: datetime) -> list[str]:
    """建一个月的各分区：先建好再挂上，不挡住读历史的人。"""
    until = following(month)
    found = []
    for table in COLUMNS:
        name = partition_of(table, month)
        found += [
            f"CREATE TABLE {name} (LIKE history.{table} INCLUDING DEFAULTS)",
            f"ALTER TABLE history.{table} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{month.isoformat()}') TO ('{until.isoformat()}')",
        ]
    return found


def month_contents(table: str, month: datetime) -> str:
    """一张表在一个月的全部行，给 COPY。"""
    end = "" if table == "jobs" else f", {JOB_END}"
    return f"SELECT {columns_of(table)}{end} FROM {partition_of(table, month)} ORDER BY job_id"


# 写出、装回一个月：这一个事务里的语句不限时。
UNHURRIED = sa.text("SET LOCAL statement_timeout = 0")


def hold_partitions(month: datetime) -> str:
    """到事务结束为止，这个月的各分区只许读。"""
    return f"LOCK TABLE {', '.join(partition_of(table, month) for table in COLUMNS)} IN SHARE MODE"


def incoming_table(table: str) -> str:
    """装回时先放在这里的临时表。"""
    return f"CREATE TEMP TABLE incoming (LIKE history.{table} INCLUDING DEFAULTS) ON COMMIT DROP"


def keep_incoming(table: str, columns: Sequence[str]) -> str:
    """临时表里的放进历史，再丢掉它；已经在的、平常的表里还有的（放回去过）不要。"""
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f"INSERT INTO history.{table} ({names}) SELECT {names} FROM incoming AS i "
        "WHERE NOT EXISTS (SELECT FROM public.jobs AS j WHERE j.job_id = i.job_id) ON CONFLICT DO NOTHING"
    )


# 装完一张表。
DROP_INCOMING = sa.text("DROP TABLE incoming")


def drop_partitions(months: Sequence[datetime]) -> str:
    """丢掉这几个月的各分区。"""
    return f"DROP TABLE {', '.join(partition_of(table, month) for month in months for table in COLUMNS)}"
