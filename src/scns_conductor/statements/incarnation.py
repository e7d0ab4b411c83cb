"""数据库的化身：每个数据库一个随机的名字，恢复到从前就换一个。节点靠它知道眼前的已不是原来那个数据库。

换化身的语句只认旧名字：几个节点同时发现，只有一个换成。同一个事务里作业号跳过谁也没见过的一段、作废在任的
调度领导者（它的记忆是旧的）、给各节点一个完整的失联期限去报到。
"""

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# 恢复之后作业号至少跳过这么多：节点没有见过的（提交了没有启动）、还没有来报到的节点见过的，都在其中。
JOB_ID_MARGIN = 10_000
# 领导者的任期也跳过一段：备份之后当选过几次，没有人知道。
EPOCH_MARGIN = 1_000_000

# 节点从数据库里看到的：哪个化身，发到了第几号作业。
SEEN = (
    "(SELECT incarnation FROM system_incarnation) AS incarnation, "
    "(SELECT last_value FROM jobs_job_id_seq) AS last_job_id"
)

# 现在的化身。
CURRENT_INCARNATION = sa.text("SELECT incarnation FROM system_incarnation")
_LAST_JOB_ID = sa.text("SELECT last_value FROM jobs_job_id_seq")
_CHANGE = sa.text(
    """
    UPDATE system_incarnation SET incarnation = :fresh, since = clock_timestamp(), reason = :reason
    WHERE incarnation = coalesce(:old, incarnation) RETURNING incarnation
    """
)
_FENCE = sa.text("UPDATE scheduler_leader SET epoch = epoch + :margin")
_PATIENCE = sa.text("UPDATE nodes SET last_heartbeat = clock_timestamp() WHERE state = 'UP'")
# 只往前，不往后；序列不随事务回滚，多跳了也无妨。
_ADVANCE = sa.text(
    "SELECT setval('jobs_job_id_seq', CAST(:least AS bigint)) FROM jobs_job_id_seq WHERE last_value < :least"
)
# 节点看一眼：自己的心跳计数，眼前是哪个数据库。
LOOK_AT_DATABASE = sa.text(f"SELECT coalesce((SELECT beat FROM nodes WHERE name = :name), 0) AS beat, {SEEN}")
# 在同号的作业的历史里记下：节点上还有过恢复之前的旧进程。
TELL_FOREIGN_PROCESS = sa.text(
    "INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message) "
    "SELECT job_id, restart_count, state, state, 'foreign_process', :actor, :message "
    "FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[])) ORDER BY job_id"
)


def new_incarnation() -> str:
    """一个不会重复的名字。"""
    return secrets.token_hex(16)


def change_incarnation(connection: Connection, *, old: str | None, reason: str, highest_job_id: int = 0) -> str:
    """换一个化身，返回现在的；old 已经不是现在的（别人先换了）就不再换。在调用者的事务里执行。"""
    fresh = new_incarnation()
    changed = connection.execute(_CHANGE, {"fresh": fresh, "old": old, "reason": reason}).one_or_none()
    if changed is not None:
        connection.execute(_FENCE, {"margin": EPOCH_MARGIN})
        connection.execute(_PATIENCE)
        last = int(connection.execute(_LAST_JOB_ID).scalar_one())
        highest_job_id = max(highest_job_id, last)
    advance_job_ids(connection, highest_job_id)
    return str(connection.execute(CURRENT_INCARNATION).scalar_one())


def advance_job_ids(connection: Connection, highest_job_id: int) -> None:
    """作业号绝不倒退：以后的都大于 highest_job_id，还留出余量。"""
    connection.execute(_ADVANCE, {"least": highest_job_id + JOB_ID_MARGIN})
