"""调度领导者：谁、第几任、还在不在续租。"""

import sqlalchemy as sa

# 领导者持有的咨询锁。
LEADER_LOCK = 7236302


def leader_select() -> sa.TextClause:
    """领导者：holder、epoch、renewed_at，以及 alive（租约 :lease 秒之内续过）；没有领导者时没有行。"""
    return sa.text(
        "SELECT holder, epoch, renewed_at, renewed_at > clock_timestamp() - make_interval(secs => :lease) AS alive, "
        "backend_pid, blocked FROM scheduler_leader"
    )
