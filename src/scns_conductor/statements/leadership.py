"""调度领导者：谁、第几任、还在不在续租。"""

import math

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from scns_conductor.statements.row_locks import session_bounds

# 领导者持有的咨询锁。
LEADER_LOCK = 7236302
# 锁着的跳过，绝不等：等就是停住整个调度。
_UNLOCKED = "singleton IN (SELECT singleton FROM scheduler_leader FOR NO KEY UPDATE SKIP LOCKED)"
# 等选举的咨询锁：由服务器来叫，不必一遍遍地问。驱动直接发（等着的时候还要看要不要停）。
AWAIT_LEADER_LOCK = f"SELECT pg_advisory_lock({LEADER_LOCK})"
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
# 前任提交计划的会话（:name 是它的 application_name）：前任被暂停了，它还连着。
END_FORMER_SESSIONS = sa.text(
    "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND application_name = :name AND pid <> pg_backend_pid()"
)
# 领导者的行没有被别的会话锁着就有一行。
LEADER_ROW_UNLOCKED = sa.text(f"SELECT 1 FROM scheduler_leader WHERE {_UNLOCKED}")
# 正常退下。
RESIGN = sa.text(f"UPDATE scheduler_leader SET holder = NULL, backend_pid = NULL WHERE epoch = :epoch AND {_UNLOCKED}")


def seat_bounds(*, lease_s: float, lock_s: float, statement_s: float) -> list[sa.TextClause]:
    """席位：持有选举的锁的会话。租期里没有话说，服务器就断开它，锁随之放开——不必有谁隔一会儿来看。"""
    return [
        sa.text(f"SET idle_session_timeout = {math.ceil(lease_s * 1000)}"),
        sa.text(f"SET idle_in_transaction_session_timeout = {math.ceil(lease_s * 1000)}"),
        # 候选者死了，它等锁的会话也要走。
        sa.text("SET client_connection_check_interval = '5s'"),
        # 续租不必落盘：断电之后本来就要重新选举。
        sa.text("SET synchronous_commit = off"),
        *session_bounds(lock_s=lock_s, statement_s=statement_s),
    ]


def leader_select() -> sa.TextClause:
    """领导者：holder、epoch、renewed_at，以及 alive（租约 :lease 秒之内续过）；没有领导者时没有行。"""
    return sa.text(
        "SELECT holder, epoch, renewed_at, renewed_at > clock_timestamp() - make_interval(secs => :lease) AS alive, "
        "backend_pid, blocked FROM scheduler_leader"
    )
