"""领导者选举：会话级咨询锁 + 租约 + 栅栏。

持锁的会话就是提交计划的会话：会话没了，锁也没了，旧领导者的提交随之不可能成功。
被暂停（SIGSTOP）的领导者连接还在、锁也还在，所以另有租约：过期之后，候选者终止它的会话再取锁；
epoch 是第二道栅栏，写进每条提交语句的条件里。

续租在自己的线程与会话里（LeaseKeeper），所以租期可以短：装载一百万个作业、一个很长的周期都不会误了续租，
而整个进程被暂停时线程也停了。

领导者的行被别的会话锁着时，谁也改不了 epoch：在任的续不了租，但照样有效，继续干；没有在任的就等，并说是谁锁着。
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from scns_conductor.statements.blockers import lockers
from scns_conductor.statements.leadership import (
    ACQUIRE_LEADERSHIP,
    COMMIT_WITHOUT_WAITING,
    CURRENT_EPOCH,
    EXPIRED_LEADER,
    GIVE_UP_LEADER_LOCK,
    LEADER_LOCK,
    LEADER_ROW_UNLOCKED,
    RENEW_LEASE,
    RESIGN,
    TERMINATE_SESSION,
    TRY_LEADER_LOCK,
)
from scns_conductor.worker.scheduler.database_clock import DatabaseClock
from scns_conductor.worker.scheduler.locked_rows import bound_session

# 候选者隔这么久看一次；看到租约过期，隔 DOUBT_S 再看一次才算；刚终止了旧领导者的会话，隔 HURRY_S 就再看。
LOOK_S = 0.5
DOUBT_S = 0.25
HURRY_S = 0.05
# 一个租期里续这么多次；错过一两次也不过期。
RENEWALS = 4
# 主循环这么久（秒）没有走完一遍，就不再替它续租：它的语句都有时限，多半是死循环了。
HUNG_S = 600.0


logger = logging.getLogger(__name__)


class NotLeader(Exception):
    """已经不是领导者：必须放下内存里的一切，重新参选。"""


class Leadership:
    """一次任期。acquire 成功后 epoch 有效，直到会话断开或被接管。clock 随每次续租对一次时。"""

    def __init__(self, connection: Connection, lease_s: float, clock: DatabaseClock | None = None) -> None:
        self._connection = connection
        self._lease_s = lease_s
        self._clock = clock or DatabaseClock()
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.epoch = 0
        # 最近一次看领导者；那时它的租约过期了；隔多久再看。
        self._looked_at = -float("inf")
        self._doubted = False
        self.look_again_s = LOOK_S
        # 最近一次看到领导者的行被锁着；说过是谁锁着的。
        self._locked_at = -float("inf")
        self._told: set[int] = set()

    def acquire(self) -> bool:
        """试着当选；成功返回 True。别人在任且租约有效、领导者的行被锁着时返回 False。"""
        self.look_again_s = LOOK_S
        with self._connection.begin():
            if not self._connection.scalar(TRY_LEADER_LOCK, {"key": LEADER_LOCK}):
                self._evict_expired()
                return False
            before = self._clock.mark()
            row = self._connection.execute(ACQUIRE_LEADERSHIP, {"holder": self.holder}).first()
            if row is None:
                self._connection.execute(GIVE_UP_LEADER_LOCK, {"key": LEADER_LOCK})
                self._row_is_locked()
                return False
            self._clock.measure(before, row.now)
            self.epoch = int(row.epoch)
        self._row_is_free()
        logger.info("leader_elected", extra={"epoch": self.epoch, "holder": self.holder})
        return True

    def _evict_expired(self) -> None:
        """租约过期的领导者多半是被暂停了：终止它的会话，锁随之释放，下一轮就能当选。

        行被别的会话锁着时，它只是续不了租：不动它；放开之后也先给它一个租期的工夫来续。
        要接连两次看到：自己也刚停过（机器挂起、数据库停住）的不算接连。
        """
        looked, self._looked_at = self._looked_at, time.monotonic()
        doubted, self._doubted = self._doubted, False
        expired = self._connection.execute(EXPIRED_LEADER, {"key": LEADER_LOCK, "lease": self._lease_s}).first()
        if expired is None:
            self._row_is_free()
            return
        if self._connection.scalar(LEADER_ROW_UNLOCKED) is None:
            self._row_is_locked()
            return
        self._row_is_free()
        now = time.monotonic()
        if now - self._locked_at < self._lease_s:
            return
        if not doubted or now - looked > 2 * LOOK_S:
            self._doubted, self.look_again_s = True, DOUBT_S
            return
        self._connection.execute(TERMINATE_SESSION, {"pid": expired.backend_pid})
        self.look_again_s = HURRY_S
        logger.warning("leader_evicted", extra={"holder": expired.holder})

    def renew(self, blocked: Sequence[dict[str, Any]] = (), *, over: Connection | None = None) -> bool:
        """续租，并写下绕开了哪些行；行被锁着、续不了时返回 False。已被接管时抛 NotLeader。

        over 是续租用的会话；None 是选举的那条。
        """
        connection = over or self._connection
        with connection.begin():
            before = self._clock.mark()
            now = connection.scalar(RENEW_LEASE, {"epoch": self.epoch, "blocked": list(blocked)})
            if now is not None:
                self._clock.measure(before, now)
                self._row_is_free()
                return True
            if connection.scalar(CURRENT_EPOCH) != self.epoch:
                raise NotLeader
            self._row_is_locked(connection)
        return False

    def resign(self) -> None:
        """正常停机时让位，候选者不必等租约过期。"""
        with self._connection.begin():
            self._connection.execute(RESIGN, {"epoch": self.epoch})
            self._connection.execute(GIVE_UP_LEADER_LOCK, {"key": LEADER_LOCK})

    def _row_is_locked(self, connection: Connection | None = None) -> None:
        self._locked_at = time.monotonic()
        for row in (connection or self._connection).execute(lockers("scheduler_leader", "singleton")).all():
            if row.pid not in self._told:
                self._told.add(row.pid)
                logger.warning(
                    "leader_row_locked",
                    extra={"pid": row.pid, "application_name": row.application_name, "user_name": row.user_name},
                )

    def _row_is_free(self) -> None:
        if self._told:
            logger.info("leader_row_released", extra={"pids": sorted(self._told)})
            self._told.clear()


class LeaseKeeper:
    """在任期间替领导者续租的线程。blocked 给出绕开了哪些行，一并写下。"""

    def __init__(
        self, engine: Engine, leadership: Leadership, lease_s: float, blocked: Callable[[], Sequence[dict[str, Any]]]
    ) -> None:
        self._engine = engine
        self._leadership = leadership
        self._interval_s = lease_s / RENEWALS
        self._blocked = blocked
        self._stopping = threading.Event()
        self._pulse = time.monotonic()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def check(self) -> None:
        """主循环每一遍都来：说自己还活着；已被接管抛 NotLeader，线程死了抛它的异常。"""
        self._pulse = time.monotonic()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        told = False
        try:
            while not self._stopping.is_set():
                try:
                    with self._engine.connect() as connection:
                        bound_session(connection)
                        self._keep(connection)
                except (sa.exc.DBAPIError, psycopg.Error) as error:
                    if not told:
                        logger.warning("lease_not_renewed", extra={"error": str(error).splitlines()[:1]})
                    told = True
                    self._stopping.wait(self._interval_s)
        except BaseException as error:  # 线程不能悄悄地死：主循环的 check 替它抛出来
            self._failure = error

    def _keep(self, connection: Connection) -> None:
        with connection.begin():
            # 租约丢了也无妨（数据库重启，领导者也要重选）：不等落盘。
            connection.execute(COMMIT_WITHOUT_WAITING)
        while not self._stopping.is_set():
            if time.monotonic() - self._pulse < HUNG_S:
                self._leadership.renew(self._blocked(), over=connection)
            else:
                logger.error("scheduler_hung", extra={"since_s": HUNG_S})
            self._stopping.wait(self._interval_s)
