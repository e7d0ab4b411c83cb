"""领导者选举：会话级咨询锁 + 租约 + 栅栏。

持锁的会话就是提交计划的会话：会话没了，锁也没了，旧领导者的提交随之不可能成功。
被暂停（SIGSTOP）的领导者连接还在、锁也还在，所以另有租约：过期之后，候选者终止它的会话再取锁；
epoch 是第二道栅栏，写进每条提交语句的条件里。
"""

import logging
import os
import socket

import sqlalchemy as sa
from sqlalchemy.engine import Connection

LEADER_LOCK = 7236302

logger = logging.getLogger(__name__)


class NotLeader(Exception):
    """已经不是领导者：必须放下内存里的一切，重新参选。"""


class Leadership:
    """一次任期。acquire 成功后 epoch 有效，直到会话断开或被接管。"""

    def __init__(self, connection: Connection, lease_s: float) -> None:
        self._connection = connection
        self._lease_s = lease_s
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.epoch = 0

    def acquire(self) -> bool:
        """试着当选；成功返回 True。别人在任且租约有效时返回 False。"""
        with self._connection.begin():
            locked = self._connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": LEADER_LOCK})
            if not locked:
                self._evict_expired()
                return False
            self.epoch = int(
                self._connection.scalar(
                    sa.text(
                        "UPDATE scheduler_leader SET epoch = epoch + 1, holder = :holder, "
                        "backend_pid = pg_backend_pid(), acquired_at = clock_timestamp(), "
                        "renewed_at = clock_timestamp() RETURNING epoch"
                    ),
                    {"holder": self.holder},
                )
                or 0
            )
        logger.info("leader_elected", extra={"epoch": self.epoch, "holder": self.holder})
        return True

    def _evict_expired(self) -> None:
        """租约过期的领导者多半是被暂停了：终止它的会话，锁随之释放，下一轮就能当选。"""
        evicted = self._connection.execute(
            sa.text(
                "SELECT l.holder, pg_terminate_backend(l.backend_pid) FROM scheduler_leader AS l "
                "JOIN pg_locks AS k ON k.pid = l.backend_pid AND k.locktype = 'advisory' "
                "AND k.objid = CAST(:key AS oid) AND k.granted "
                "WHERE l.renewed_at < clock_timestamp() - make_interval(secs => :lease)"
            ),
            {"key": LEADER_LOCK, "lease": self._lease_s},
        ).first()
        if evicted is not None:
            logger.warning("leader_evicted", extra={"holder": evicted.holder})

    def renew(self) -> None:
        """续租；已被接管时抛 NotLeader。"""
        with self._connection.begin():
            renewed = self._connection.execute(
                sa.text("UPDATE scheduler_leader SET renewed_at = clock_timestamp() WHERE epoch = :epoch"),
                {"epoch": self.epoch},
            ).rowcount
        if not renewed:
            raise NotLeader

    def resign(self) -> None:
        """正常停机时让位，候选者不必等租约过期。"""
        with self._connection.begin():
            self._connection.execute(
                sa.text("UPDATE scheduler_leader SET holder = NULL, backend_pid = NULL WHERE epoch = :epoch"),
                {"epoch": self.epoch},
            )
            self._connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": LEADER_LOCK})
