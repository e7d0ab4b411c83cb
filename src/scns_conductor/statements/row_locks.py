"""别的会话锁住的行：是谁锁着，一条语句是不是因为等锁才失败。API 与 Worker 共用。

锁着一行的事务记在行的 xmax 里；几个会话共享着锁时 xmax 不是事务号，就列出在这张表上有行锁的会话。
"""

import psycopg
import sqlalchemy as sa

# 等锁等到头、语句做到头、死锁被撤销：语句没有做成，会话还能用。
_GAVE_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)
# 锁整张表（或锁着不许写）的。
_TABLE_MODES = "('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
_HERE = "l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
# 别人没有锁着的当场锁上，直到事务结束；锁着的跳过。
_FREE = """
    held AS (
      SELECT allocation_id, job_id, node_name FROM resource_allocations
      WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND released_at IS NULL
    ),
    free_jobs AS MATERIALIZED (
      SELECT job_id FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))
      ORDER BY job_id FOR NO KEY UPDATE SKIP LOCKED
    ),
    free_allocations AS MATERIALIZED (
      SELECT allocation_id FROM resource_allocations WHERE allocation_id IN (SELECT allocation_id FROM held)
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    free_nodes AS MATERIALIZED (
      SELECT name FROM nodes WHERE name = ANY(CAST(:node_names AS text[])) OR name IN (SELECT node_name FROM held)
      ORDER BY name FOR NO KEY UPDATE SKIP LOCKED
    )"""
# 这些作业里，自己、分配与节点都没有被别人锁着的；当场锁上。
LOCK_FREE_JOBS = sa.text(
    f"""
    WITH {_FREE}
    SELECT job_id FROM free_jobs AS f WHERE NOT EXISTS (
      SELECT FROM held WHERE held.job_id = f.job_id
        AND (held.allocation_id NOT IN (SELECT allocation_id FROM free_allocations)
             OR held.node_name NOT IN (SELECT name FROM free_nodes)))
    """
)
# 这些作业、节点里被别人锁着的行：哪张表，哪一行。
LOCKED_ROWS = sa.text(
    f"""
    WITH {_FREE}
    SELECT 'jobs' AS "table", CAST(job_id AS text) AS key FROM jobs
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND job_id NOT IN (SELECT job_id FROM free_jobs)
    UNION ALL
    SELECT DISTINCT 'resource_allocations', CAST(job_id AS text) FROM held
    WHERE allocation_id NOT IN (SELECT allocation_id FROM free_allocations)
    UNION ALL
    SELECT 'nodes', name FROM nodes
    WHERE (name = ANY(CAST(:node_names AS text[])) OR name IN (SELECT node_name FROM held))
      AND name NOT IN (SELECT name FROM free_nodes)
    """
)
# 收件箱里放得太久、被别人锁着的行。
STUCK_INBOX = sa.text(
    """
    WITH oldest AS (SELECT inbox_id, created_at FROM scheduler_inbox ORDER BY inbox_id LIMIT 100),
    free AS MATERIALIZED (
      SELECT inbox_id FROM scheduler_inbox WHERE inbox_id IN (SELECT inbox_id FROM oldest) FOR UPDATE SKIP LOCKED
    )
    SELECT CAST(inbox_id AS text) FROM oldest
    WHERE created_at < clock_timestamp() - make_interval(secs => :age) AND inbox_id NOT IN (SELECT inbox_id FROM free)
    """
)
# 各张表里按 :keys 找行的条件。
ROWS_WHERE = {
    "jobs": "job_id = ANY(CAST(:keys AS bigint[]))",
    "resource_allocations": "job_id = ANY(CAST(:keys AS bigint[])) AND released_at IS NULL",
    "nodes": "name = ANY(CAST(:keys AS text[]))",
    "scheduler_inbox": "inbox_id = ANY(CAST(:keys AS bigint[]))",
}


def gave_up_waiting(error: sa.exc.DBAPIError) -> bool:
    """语句是等锁（或别的会话）太久而放弃的；事务已经撤销。"""
    return isinstance(error.orig, _GAVE_UP)


def lockers(table: str, where: str) -> sa.TextClause:
    """锁着 table 里符合 where 的行的会话：pid、application_name、user_name、held_s（事务开始了多久，看不到是空）。

    它自己也在等别人的，换成它等的那个；至多三个，最早的在前。
    """
    return _sessions(
        f"""
        exact AS (
          SELECT l.pid FROM pg_locks AS l JOIN (SELECT DISTINCT xmax AS xid FROM {table} WHERE {where}) AS r
            ON l.transactionid = r.xid
          WHERE l.locktype = 'transactionid' AND l.granted AND l.pid <> pg_backend_pid()
        ),
        holders AS (
          SELECT pid FROM exact UNION
          SELECT l.pid FROM pg_locks AS l
          WHERE NOT EXISTS (SELECT FROM exact) AND l.locktype = 'relation' AND {_HERE}
            AND l.pid <> pg_backend_pid() AND l.relation = CAST('{table}' AS regclass)
            AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
        )"""
    )


def table_lockers() -> sa.TextClause:
    """锁着整张表的会话；另有 tables，是它锁着的表。"""
    return sa.text(
        f"""
        SELECT a.pid, a.application_name, a.usename AS user_name,
          CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS double precision) AS held_s,
          array_agg(DISTINCT c.relname::text) AS tables
        FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid JOIN pg_class AS c ON c.oid = l.relation
        WHERE l.locktype = 'relation' AND {_HERE} AND l.pid <> pg_backend_pid() AND l.mode IN {_TABLE_MODES}
          AND c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%')
        GROUP BY a.pid, a.application_name, a.usename, a.xact_start ORDER BY a.xact_start LIMIT 3
        """.replace("::", r"\:\:")
    )


def advisory_lockers() -> sa.TextClause:
    """持有咨询锁 :key 的会话，自己除外。"""
    return _sessions(
        f"""
        holders AS (
          SELECT l.pid FROM pg_locks AS l WHERE l.locktype = 'advisory' AND {_HERE}
            AND l.objid = CAST(:key AS oid) AND l.pid <> pg_backend_pid()
        )"""
    )


def _sessions(holders: str) -> sa.TextClause:
    return sa.text(
        f"""
        WITH RECURSIVE {holders},
        chain (pid) AS (SELECT pid FROM holders UNION SELECT unnest(pg_blocking_pids(pid)) FROM chain)
        SELECT a.pid, a.application_name, a.usename AS user_name,
          CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS double precision) AS held_s
        FROM chain JOIN pg_stat_activity AS a ON a.pid = chain.pid
        WHERE cardinality(pg_blocking_pids(chain.pid)) = 0 AND a.pid <> pg_backend_pid()
        ORDER BY a.xact_start LIMIT 3
        """
    )


def session_bounds(*, lock_s: float, statement_s: float) -> list[sa.TextClause]:
    """一条会话里的语句至多等锁 lock_s 秒、至多做 statement_s 秒。"""
    return [
        sa.text(f"SET lock_timeout = {int(lock_s * 1000)}"),
        sa.text(f"SET statement_timeout = {int(statement_s * 1000)}"),
    ]
