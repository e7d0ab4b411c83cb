"""调度领导者：谁、第几任、还在不在续租。"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

# 领导者持有的咨询锁。
LEADER_LOCK = 7236302
# 锁着的跳过，绝不等：等就是停住整个调度。
_UNLOCKED = "singleton IN (SELECT singleton FROM scheduler_leader FOR NO KEY UPDATE SKIP LOCKED)"
# 终止一条会话。
TERMINATE_SESSION = sa.text("SELECT pg_terminate_backend(:pid)")
# 续租不必落盘：断电之后本来就要重新选举。
COMMIT_WITHOUT_WAITING = sa.text("SET synchronous_commit = off")
# 拿选举的咨询锁，拿不到不等。
TRY_LEADER_LOCK = sa.text("SELECT pg_try_advisory_lock(:key)")
# 放开选举的咨询锁。
GIVE_UP_LEADER_LOCK = sa.text("SELECT pg_advisory_unlock(:key)")
# 当选：任期加一，旧的领导者从此什么也改不了。
ACQUIRE_LEADERSHIP = sa.text(
    "UPDATE scheduler_leader SET epoch = epoch + 1, holder = :holder, backend_pid = pg_backend_pid(), "
    f"acquired_at = clock_timestamp(), renewed_at = clock_timestamp(), blocked = '[]' WHERE {_UNLOCKED} "
    "RETURNING epoch, CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS now"
)
# 续租，顺便说出被谁挡着。
RENEW_LEASE = sa.text(
    "UPDATE scheduler_leader SET renewed_at = clock_timestamp(), blocked = :blocked "
    f"WHERE epoch = :epoch AND {_UNLOCKED} "
    "RETURNING CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
).bindparams(sa.bindparam("blocked", type_=JSONB))
# 现在是第几任。
CURRENT_EPOCH = sa.text("SELECT epoch FROM scheduler_leader")
# 租约过期、会话也闲着的领导者。
EXPIRED_LEADER = sa.text(
    "SELECT l.holder, l.backend_pid FROM scheduler_leader AS l "
    "JOIN pg_locks AS k ON k.pid = l.backend_pid AND k.locktype = 'advisory' "
    "AND k.objid = CAST(:key AS oid) AND k.granted "
    # 它的会话还在做事，就不是被暂停了，只是机器太忙。
    "LEFT JOIN pg_stat_activity AS a ON a.pid = l.backend_pid "
    "WHERE greatest(l.renewed_at, a.state_change) < clock_timestamp() - make_interval(secs => :lease)"
)
# 领导者的行没有被别的会话锁着就有一行。
LEADER_ROW_UNLOCKED = sa.text(f"SELECT 1 FROM scheduler_leader WHERE {_UNLOCKED}")
# 正常退下。
RESIGN = sa.text(f"UPDATE scheduler_leader SET holder = NULL, backend_pid = NULL WHERE epoch = :epoch AND {_UNLOCKED}")


def leader_select() -> sa.TextClause:
    """领导者：holder、epoch、renewed_at，以及 alive（租约 :lease 秒之内续过）；没有领导者时没有行。"""
    return sa.text(
        "SELECT holder, epoch, renewed_at, renewed_at > clock_timestamp() - make_interval(secs => :lease) AS alive, "
        "backend_pid, blocked FROM scheduler_leader"
    )
