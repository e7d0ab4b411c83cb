"""谁锁着：锁着某些行、某张表、某个咨询锁的会话，挡着别人的会话，停在事务里的会话。

锁着一行的事务记在行的 xmax 里；几个会话共享着锁时 xmax 不是事务号，就列出在这张表上有行锁的会话。
"""

import sqlalchemy as sa

# 别人锁着会挡住我们的表。
LOCKABLE_TABLES = frozenset(
    {
        *("jobs", "nodes", "resource_allocations", "scheduler_leader", "partitions", "job_steps"),
        *("accounts", "associations", "qos", "users", "reservations", "idempotency_keys"),
    }
)
# 锁整张表（或锁着不许写）的。
_TABLE_MODES = "('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
_HERE = "l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
_SESSION = (
    "a.pid, a.application_name, a.usename AS user_name, "
    "CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS double precision) AS held_s"
)
# 锁着（或改过）我们的行、不在做我们的事的会话：停在事务里的，别人的也许正做着很久的语句；别的用户的会话看不见状态，
# 也算。我们自己的会话（:own）只算停得久的：装载、核对时事务里也停一停。
HOLDERS = sa.text(
    f"""
    SELECT {_SESSION}, array_agg(DISTINCT CAST(CAST(l.relation AS regclass) AS text)) AS tables
    FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid AND l.granted AND l.locktype = 'relation'
      AND l.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
        'AccessExclusiveLock')
    WHERE a.datname = current_database() AND a.usename IS NOT NULL AND a.pid <> pg_backend_pid()
      AND CASE WHEN a.application_name LIKE :own
        THEN a.state LIKE 'idle in transaction%' AND a.state_change < clock_timestamp() - make_interval(secs => :own_s)
        ELSE coalesce(a.xact_start < clock_timestamp() - make_interval(secs => :others_s), true) END
      AND l.relation IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
    GROUP BY a.pid, a.application_name, a.usename, a.xact_start ORDER BY a.xact_start LIMIT 10
    """
)


def lockers(table: str, where: str) -> sa.TextClause:
    """锁着 table 里符合 where 的行的会话：pid、application_name、user_name、held_s（事务开始了多久，看不到是空）。

    它自己也在等别人的，换成它等的那个；至多三个，最早的在前。下面几条给的也是这些列。
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


def lockers_of_row(table: str) -> sa.TextClause:
    """锁着 table 里 :ctid 那一行的会话。"""
    assert table in LOCKABLE_TABLES
    return lockers(table, "ctid = CAST(CAST(:ctid AS text) AS tid)")


def table_lockers() -> sa.TextClause:
    """锁着整张表的会话；另有 tables，是它锁着的表。"""
    return sa.text(
        f"""
        SELECT {_SESSION}, array_agg(DISTINCT c.relname::text) AS tables
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


def blockers_of_waiters() -> sa.TextClause:
    """不知道是哪一行（排在另一个等待者后面）：挡着别人、自己不等的会话。"""
    return _sessions(
        """
        holders AS (
          SELECT unnest(pg_blocking_pids(pid)) AS pid FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()
        )"""
    )


def _sessions(holders: str) -> sa.TextClause:
    return sa.text(
        f"""
        WITH RECURSIVE {holders},
        chain (pid) AS (SELECT pid FROM holders UNION SELECT unnest(pg_blocking_pids(pid)) FROM chain)
        SELECT {_SESSION} FROM chain JOIN pg_stat_activity AS a ON a.pid = chain.pid
        WHERE cardinality(pg_blocking_pids(chain.pid)) = 0 AND a.pid <> pg_backend_pid()
        ORDER BY a.xact_start LIMIT 3
        """
    )
