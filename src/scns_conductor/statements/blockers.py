"""谁锁着：锁着某一行的会话，挡着别人的会话，停在事务里的会话。"""

import sqlalchemy as sa

# 别人锁着会挡住我们的表。
LOCKABLE_TABLES = frozenset(
    {
        *("jobs", "nodes", "resource_allocations", "scheduler_leader", "partitions", "job_steps"),
        *("accounts", "associations", "qos", "users", "reservations", "idempotency_keys"),
    }
)

_SESSION = (
    "pid, a.application_name, "
    "CAST(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start)) AS float) AS since_s"
)
# 锁着某一行的事务号在那一行的 xmax 里（几个会话共享时是一个 multixact，拆开来看）；持有这个事务号的锁的就是它。
_HOLDER = (
    "JOIN pg_locks AS k ON k.locktype = 'transactionid' AND k.granted "
    "AND CAST(k.transactionid AS text) = CAST({} AS text) "
    "JOIN pg_stat_activity AS a USING (pid)"
)
_LOCKERS_OF_ROW = (
    f"SELECT {_SESSION} FROM {{table}} AS t {_HOLDER.format('t.xmax')} WHERE t.ctid = CAST(CAST(:ctid AS text) AS tid)",
    f"SELECT {_SESSION} FROM {{table}} AS t CROSS JOIN LATERAL pg_get_multixact_members(t.xmax) AS m "
    f"{_HOLDER.format('m.xid')} WHERE t.ctid = CAST(CAST(:ctid AS text) AS tid)",
)
# 不知道是哪一行（排在另一个等待者后面）：挡着别人、自己不等的。
LONGEST_BLOCKER = sa.text(
    f"""
    WITH waiting AS (SELECT pid, pg_blocking_pids(pid) AS blockers FROM pg_locks WHERE NOT granted)
    SELECT a.{_SESSION} FROM pg_stat_activity AS a
    WHERE a.pid IN (SELECT unnest(blockers) FROM waiting) AND a.pid NOT IN (SELECT pid FROM waiting)
    ORDER BY since_s DESC NULLS LAST LIMIT 1
    """
)
# 停在事务里、锁着（或改过）我们的行的会话；别的用户的看不见状态，不列。
IDLE_HOLDERS = sa.text(
    f"""
    SELECT a.{_SESSION}, array_agg(DISTINCT CAST(CAST(k.relation AS regclass) AS text)) AS tables
    FROM pg_stat_activity AS a JOIN pg_locks AS k ON k.pid = a.pid AND k.granted AND k.locktype = 'relation'
      AND k.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareLock', 'ExclusiveLock', 'AccessExclusiveLock')
    WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
      AND a.state_change < clock_timestamp() - make_interval(secs => :idle_s)
      AND k.relation IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
    GROUP BY a.pid, a.application_name, a.xact_start, a.backend_start ORDER BY since_s DESC LIMIT 10
    """
)


def lockers_of_row(table: str) -> list[sa.TextClause]:
    """锁着 table 里 :ctid 那一行的会话，依次试：xmax 是事务号的，是 multixact 的（不是时第二条会报错）。"""
    assert table in LOCKABLE_TABLES
    return [sa.text(statement.format(table=table)) for statement in _LOCKERS_OF_ROW]
