"""领导者选举：会话级咨询锁 + 租约 + 栅栏。

席位是一条只为选举而开的会话。候选者在上面等咨询锁，锁空出来由服务器叫醒它：没有谁隔一会儿来问一次。
当选之后由自己的线程在上面续租（LeaseKeeper）；租期里没有话说（进程死了、被暂停、断了网），服务器就断开席位
（idle_session_timeout），锁随之放开，下一个候选者当选。续租的间隔是租期的几分之一，装载一百万个作业、一个很长的周期
都不会误了它；续租的语句慢（数据库忙）不算闲着。

提交计划的是另一条会话。被暂停的领导者醒来时它还连着，所以后任当选时先断开前任的；
epoch 是第二道栅栏，写进每条提交语句的条件里。

领导者的行被别的会话锁着时，谁也改不了 epoch：在任的续不了租，但照样有效，继续干；没有在任的就等，并说是谁锁着。
"""

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.answers.health import Block
from scns_conductor.core.database import APPLICATION_NAME, driver_of
from scns_conductor.statements.blockers import lockers
from scns_conductor.statements.leadership import (
    ACQUIRE_LEADERSHIP,
    AWAIT_LEADER_LOCK,
    CURRENT_EPOCH,
    END_FORMER_SESSIONS,
    GIVE_UP_LEADER_LOCK,
    LEADER_LOCK,
    RENEW_LEASE,
    RESIGN,
    seat_bounds,
)
from scns_conductor.statements.row_locks import gave_up_waiting
from scns_conductor.worker.scheduler.database_clock import DatabaseClock
from scns_conductor.worker.scheduler.locked_rows import LOCK_WAIT_S, STATEMENT_S

# 两种会话在 pg_stat_activity 里的名字；提交计划的只有领导者有。
SCHEDULER_ROLE = "scheduler"
SEAT_ROLE = "scheduler-seat"
# 等锁的时候隔这么久看一眼要不要停（不问数据库）。
STOP_LOOK_S = 0.5
# 一个租期里续这么多次；错过一两次也不过期。
RENEWALS = 4
# 主循环这么久（秒）没有走完一遍，就不再替它续租：它的语句都有时限，多半是死循环了。
HUNG_S = 600.0


logger = logging.getLogger(__name__)


class NotLeader(Exception):
    """已经不是领导者：必须放下内存里的一切，重新参选。"""


class Leadership:
    """一次任期。acquire 成功后 epoch 有效，直到席位断开或被接管。clock 随每次续租对一次时。"""

    def __init__(self, seat: Connection, lease_s: float, clock: DatabaseClock | None = None) -> None:
        self._seat = seat.execution_options(isolation_level="AUTOCOMMIT")
        self.interval_s = lease_s / RENEWALS
        self._lease_s = lease_s
        self._clock = clock or DatabaseClock()
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.epoch = 0
        # 说过是谁锁着领导者的行。
        self._told: set[int] = set()

    def acquire(self, stopping: threading.Event) -> bool:
        """等到当选返回 True；stopping 先到返回 False，这时席位已经断开。"""
        with self._seat.begin():
            # 等锁的时候算不得闲着；等到了就要在租期之内说话：候选者等到一半被暂停了，锁也轮得到别人。
            for statement in seat_bounds(lease_s=self._lease_s, lock_s=0, statement_s=0):
                self._seat.execute(statement)
        if not self._await_lock(stopping):
            self._seat.invalidate()
            return False
        with self._seat.begin():
            for statement in seat_bounds(lease_s=self._lease_s, lock_s=LOCK_WAIT_S, statement_s=STATEMENT_S):
                self._seat.execute(statement)
        while not self._claim():
            if stopping.wait(self.interval_s):
                self._seat.invalidate()
                return False
        logger.info("leader_elected", extra={"epoch": self.epoch, "holder": self.holder})
        return True

    def _await_lock(self, stopping: threading.Event) -> bool:
        driver = driver_of(self._seat).pgconn
        driver.send_query(AWAIT_LEADER_LOCK.encode())
        driver.flush()
        while driver.is_busy():
            if not select.select([driver.socket], [], [], STOP_LOOK_S)[0] and stopping.is_set():
                return False
            driver.consume_input()
        failure = None
        while (result := driver.get_result()) is not None:
            if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
                failure = result.error_message.decode(errors="replace")
        if failure is not None:
            raise psycopg.OperationalError(failure)
        return True

    def _claim(self) -> bool:
        """写下自己；行被别的会话锁着时返回 False。"""
        with self._seat.begin():
            before = self._clock.mark()
            row = self._seat.execute(ACQUIRE_LEADERSHIP, {"holder": self.holder}).first()
            if row is None:
                self._row_is_locked()
                return False
            self._clock.measure(before, row.now)
            former = self._seat.execute(END_FORMER_SESSIONS, {"name": f"{APPLICATION_NAME}/{SCHEDULER_ROLE}"}).all()
        self.epoch = int(row.epoch)
        self._row_is_free()
        if former:
            logger.warning("leader_evicted", extra={"pids": [each.pid for each in former]})
        return True

    @property
    def descriptor(self) -> int:
        """席位的套接字。"""
        return driver_of(self._seat).fileno()

    def renew(self, blocked: Sequence[Block] = ()) -> bool:
        """续租，并写下绕开了哪些行；行被锁着、续不了时返回 False。已被接管时抛 NotLeader。"""
        with self._seat.begin():
            before = self._clock.mark()
            now = self._seat.scalar(RENEW_LEASE, {"epoch": self.epoch, "blocked": list(blocked)})
            if now is not None:
                self._clock.measure(before, now)
                self._row_is_free()
                return True
            if self._seat.scalar(CURRENT_EPOCH) != self.epoch:
                raise NotLeader
            self._row_is_locked()
        return False

    def resign(self) -> None:
        """正常停机时让位，候选者不必等租约过期。"""
        with self._seat.begin():
            self._seat.execute(RESIGN, {"epoch": self.epoch})
            self._seat.execute(GIVE_UP_LEADER_LOCK, {"key": LEADER_LOCK})

    def _row_is_locked(self) -> None:
        for row in self._seat.execute(lockers("scheduler_leader", "singleton")).all():
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
    """在任期间替领导者续租的线程，席位归它用。blocked 给出绕开了哪些行，一并写下。"""

    def __init__(self, leadership: Leadership, blocked: Callable[[], Sequence[Block]]) -> None:
        self._leadership = leadership
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
        """主循环每一遍都来：说自己还活着；席位没有了、已被接管抛出线程遇到的异常。"""
        self._pulse = time.monotonic()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._leadership.interval_s):
                if time.monotonic() - self._pulse > HUNG_S:
                    # 席位闲着，服务器到时断开它。
                    logger.error("scheduler_hung", extra={"since_s": HUNG_S})
                    return
                try:
                    self._leadership.renew(self._blocked())
                except sa.exc.DBAPIError as error:
                    if not gave_up_waiting(error):
                        raise
        except BaseException as error:  # 线程不能悄悄地死：主循环的 check 替它抛出来
            self._failure = error
