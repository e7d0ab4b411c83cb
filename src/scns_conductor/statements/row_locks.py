"""别的会话锁住的行：是哪些，一条语句是不是因为等锁才失败；是谁锁着见 blockers。"""

from collections.abc import Collection

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

# 等锁等到头、语句做到头、死锁被撤销：语句没有做成，会话还能用。
_GAVE_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)
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
    ),
    free_steps AS MATERIALIZED (
      SELECT job_id, restart_count, step_id FROM job_steps
      WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND end_time IS NULL
      ORDER BY job_id, restart_count, step_id FOR NO KEY UPDATE SKIP LOCKED
    ),
    locked_steps AS (
      SELECT job_id FROM job_steps WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND end_time IS NULL
        AND (job_id, restart_count, step_id) NOT IN (TABLE free_steps)
    )"""
# 这些作业里，自己、分配、节点与没做完的步都没有被别人锁着的；当场锁上。
_LOCK_FREE_JOBS = sa.text(
    f"""
    WITH {_FREE}
    SELECT job_id FROM free_jobs AS f WHERE NOT EXISTS (
      SELECT FROM held WHERE held.job_id = f.job_id
        AND (held.allocation_id NOT IN (SELECT allocation_id FROM free_allocations)
             OR held.node_name NOT IN (SELECT name FROM free_nodes)))
      AND job_id NOT IN (SELECT job_id FROM locked_steps)
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
    SELECT DISTINCT 'job_steps', CAST(job_id AS text) FROM locked_steps
    UNION ALL
    SELECT 'nodes', name FROM nodes
    WHERE (name = ANY(CAST(:node_names AS text[])) OR name IN (SELECT node_name FROM held))
      AND name NOT IN (SELECT name FROM free_nodes)
    """
)
# 启动要核对的那一行（预留的版本）被别人锁着。
VERSION_LOCKED = sa.text(
    "WITH free AS MATERIALIZED (SELECT singleton FROM reservation_version FOR SHARE SKIP LOCKED) "
    "SELECT NOT EXISTS (SELECT FROM free)"
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
    "job_steps": "job_id = ANY(CAST(:keys AS bigint[])) AND end_time IS NULL",
    "nodes": "name = ANY(CAST(:keys AS text[]))",
    "scheduler_inbox": "inbox_id = ANY(CAST(:keys AS bigint[]))",
    "reservation_version": "CAST(:keys AS text[]) IS NOT NULL",
}


def lock_free_jobs(connection: Connection, job_ids: Collection[int]) -> set[int]:
    """这些作业里，行、分配、没做完的步与所在的节点都没有被别人锁着的；在调用者的事务里锁上。"""
    if not job_ids:
        return set()
    return set(connection.scalars(_LOCK_FREE_JOBS, {"job_ids": sorted(job_ids), "node_names": []}))


def gave_up_waiting(error: sa.exc.DBAPIError) -> bool:
    """语句是等锁（或别的会话）太久而放弃的；事务已经撤销。"""
    return isinstance(error.orig, _GAVE_UP)


def session_bounds(*, lock_s: float, statement_s: float) -> list[sa.TextClause]:
    """一条会话里的语句至多等锁 lock_s 秒、至多做 statement_s 秒。"""
    return [
        sa.text(f"SET lock_timeout = {int(lock_s * 1000)}"),
        sa.text(f"SET statement_timeout = {int(statement_s * 1000)}"),
    ]
