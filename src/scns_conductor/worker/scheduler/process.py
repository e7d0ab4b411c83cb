"""调度进程的一生：参选、当选、听收件箱、计划、提交、派发；失去领导权就重新参选。

一条会话计划、提交、听通知；选举的锁在另一条会话（席位）上，续租是另一个线程的事（见 leader）。
哪个线程意外死去，都是进程以非零退出，由监督者重启。
"""

import gc
import logging
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.database import UnfitServer, driver_of, sync_engine
from scns_conductor.core.errors import first_line
from scns_conductor.core.hostlist import compress
from scns_conductor.core.runtime_settings import effective
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.settings import Settings
from scns_conductor.core.statement_timing import watch_statements
from scns_conductor.statements.cluster_settings import SELECT_SETTINGS
from scns_conductor.statements.inbox import LISTEN_INBOX, notify_queue_crowded
from scns_conductor.statements.incarnation import CURRENT_INCARNATION
from scns_conductor.statements.row_locks import gave_up_waiting
from scns_conductor.tracing import tracer_of
from scns_conductor.worker.bus import sync_message
from scns_conductor.worker.lifetime import run_process
from scns_conductor.worker.scheduler import metrics
from scns_conductor.worker.scheduler.detour import Detour
from scns_conductor.worker.scheduler.dispatcher import Dispatcher
from scns_conductor.worker.scheduler.explanation import answer_question
from scns_conductor.worker.scheduler.inbox_reader import InboxReader
from scns_conductor.worker.scheduler.leader import SCHEDULER_ROLE, SEAT_ROLE, Leadership, LeaseKeeper, NotLeader
from scns_conductor.worker.scheduler.locked_rows import bound_session
from scns_conductor.worker.scheduler.planning_cycle import PlanningCycle
from scns_conductor.worker.scheduler.questions import Questions
from scns_conductor.worker.scheduler.reasons import ReasonWriter, end_hopeless
from scns_conductor.worker.scheduler.silent_nodes import fail_silent_nodes
from scns_conductor.worker.scheduler.state import SchedulerState

RETRY_S = 0.5
# 没有通知也隔这么久看一次收件箱，并看看通知的队列是不是快满了。
IDLE_S = 3.0
# 听不到通知时隔这么久看一眼收件箱。
DEAF_POLL_S = 0.5
# 核对修正了的作业，日志里至多写几个。
MOST_NAMED = 10
# 没有人等着的事（写原因、看期限）隔这么久做一次，不占启动作业的路。
REASONS_INTERVAL_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Term:
    """一次任期里，各样事上次做的时刻（time.monotonic），与还欠着什么。"""

    epoch: int
    # 席位的套接字。
    seat: int
    keeper: LeaseKeeper
    reconciled: float
    prioritised: float
    explained: float = 0.0
    looked: float = 0.0
    listened: float = 0.0
    # 记忆要整个重装；有与计划有关的变化；原因还没有写完。
    reload: bool = True
    changed: bool = True
    stale: bool = True


class Scheduler:
    """调度进程。stop 可以从信号处理器里调用。"""

    def __init__(self, settings: Settings) -> None:
        self._base = settings
        self._state = state = SchedulerState.of(settings)
        self._dispatcher = Dispatcher(
            settings.redis_url.get_secret_value(), lambda: state.incarnation, state.timings.bus
        )
        self._detour = Detour(state)
        self._questions = Questions(settings, self._answer)
        self._inbox = InboxReader(state, self._dispatcher, self._questions)
        self._tracer = tracer_of(settings.otel_endpoint, settings.cluster_name, "scheduler", settings.otel_ratio)
        self._cycle = PlanningCycle(state, self._dispatcher, self._detour, self._tracer)
        self._deaf = False

    def stop(self) -> None:
        """请求停止；当前周期做完就让位。"""
        self._state.stopping.set()

    def run(self) -> None:
        """参选与任职，直到停止；数据库不在时稍后再试。"""
        settings = self._state.settings
        engine = sync_engine(settings, pool_size=1, role=SCHEDULER_ROLE, direct=True)
        seats = sync_engine(settings, role=SEAT_ROLE, pooled=False, direct=True)
        watch_statements(engine, self._state.timings.database)
        metrics.serve(self._state)
        while not self._state.stopping.is_set():
            try:
                if not await_schema(seats, self._state.stopping):
                    break
                with seats.connect() as seat:
                    leadership = Leadership(seat, settings.scheduler_lease_s, self._state.clock)
                    if leadership.acquire(self._state.stopping):
                        try:
                            self._serve(engine, leadership)
                        finally:
                            self._state.leading = False
            except (sa.exc.DBAPIError, psycopg.Error, NotLeader, UnfitServer) as error:
                logger.warning("scheduler_interrupted", extra={"error": first_line(error)})
                engine.dispose()
                self._state.stopping.wait(RETRY_S)
        engine.dispose()
        if self._tracer is not None:
            self._tracer.close()
        self._questions.close()
        self._dispatcher.close()

    def _serve(self, engine: Engine, leadership: Leadership) -> None:
        with LeaseKeeper(leadership, lambda: self._state.locked.blocked) as keeper, engine.connect() as connection:
            bound_session(connection)
            with connection.begin():
                connection.execute(LISTEN_INBOX)
                # 通知的内容不看，只记下有过。
                driver_of(connection).add_notify_handler(self._notice)
            self._state.locked.clear()
            now = time.monotonic()
            term = _Term(
                leadership.epoch, leadership.descriptor, keeper, now, now - self._state.settings.priority_calc_period_s
            )
            self._state.leading = True
            while not self._state.stopping.is_set():
                keeper.check()
                try:
                    self._turn(connection, term)
                except sa.exc.DBAPIError as error:
                    if not gave_up_waiting(error):
                        raise
                    # 等不到的不是某一行：领导权还在，记忆也许只更新了一半，等它放开再整个重装。
                    logger.warning("scheduler_blocked", extra={"error": first_line(error)})
                    with connection.begin():
                        self._state.locked.look_at_tables(connection)
                    term.reload = True
                    self._state.stopping.wait(RETRY_S)
        leadership.resign()

    def _turn(self, connection: Connection, term: _Term) -> None:
        """走一遍：核对、取收件箱、计划；没有事就等。"""
        now, timings = time.monotonic(), self._state.timings
        if term.reload:
            self._load(connection)
            term.reload, term.changed = False, True
        if now - term.listened >= IDLE_S:
            # 通知的队列快满时没有人再送通知：收件箱隔一会儿自己看。
            self._deaf = self._is_deaf(connection)
            term.listened = now
        if self._state.locked.any and now - term.looked >= REASONS_INTERVAL_S:
            term.changed |= self._look(connection, term)
        if now - term.reconciled >= self._state.settings.reconcile_interval_s:
            with timings.phases["reconcile"].measure():
                term.changed |= self._reconcile(connection)
            term.changed |= self._look(connection, term)
            self._inbox.look_from_the_start()
            term.reconciled = time.monotonic()
        with timings.phases["inbox"].measure():
            term.changed |= self._inbox.drain(connection)
        if self._state.resettled:
            self._load(connection)
            self._state.resettled, term.changed = False, True
        self._questions.advance((driver_of(connection).fileno(), term.seat))
        if self._state.reprioritise or now - term.prioritised >= self._state.settings.priority_calc_period_s:
            self._state.reprioritise = False
            with connection.begin():
                term.changed |= self._state.memory.prioritise(connection, self._state.clock.now())
            term.prioritised = now
        now = time.monotonic()
        if self._state.standing.due(now):
            clock = self._state.clock.now()
            made = self._state.standing.look(connection, now, clock)
            if made:
                with connection.begin():
                    self._state.memory.refresh(connection, made, clock)
                term.changed = True
        if term.changed:
            with timings.cycle.measure():
                term.changed = self._cycle.run(connection, term.epoch)
            term.stale = True
            if term.changed:
                return
            self._offer(term)
        if term.stale and time.monotonic() - term.explained >= REASONS_INTERVAL_S:
            with timings.phases["explain"].measure():
                term.changed, unfinished = self._settle(connection, term.epoch)
            term.stale = term.changed or unfinished
            term.explained = time.monotonic()
        if not term.changed:
            idle_s = REASONS_INTERVAL_S if term.stale or self._state.locked.any else IDLE_S
            self._wait(connection, min(idle_s, DEAF_POLL_S) if self._deaf else idle_s)
            term.changed |= self._due()

    def _offer(self, term: _Term) -> None:
        """接下来轮到谁，告诉满了的节点（relay_offers）。"""
        state = self._state
        quiet = not state.locked.any
        self._dispatcher.send(state.relay.messages(state.memory, term.epoch, state.clock.now(), quiet=quiet))

    def _is_deaf(self, connection: Connection) -> bool:
        with connection.begin():
            deaf = bool(connection.scalar(notify_queue_crowded()))
        if deaf and not self._deaf:
            logger.warning("notify_queue_crowded", extra={"poll_s": DEAF_POLL_S})
        return deaf

    def _load(self, connection: Connection) -> None:
        """从头装载记忆。"""
        # 装好的队列不成环，也活得久：垃圾回收不必一遍遍地走过它——走一遍要占住解释器几秒，租约也续不了。
        gc.disable()
        try:
            with connection.begin():
                changed = {row.name: row.value for row in connection.execute(SELECT_SETTINGS)}
                self._state.adopt(effective(self._base, changed))
                self._state.incarnation = connection.scalar(CURRENT_INCARNATION)
                self._state.memory.load_all(connection, self._state.clock.now())
            gc.freeze()
        finally:
            gc.enable()
        self._inbox.look_from_the_start()
        self._state.reasons = ReasonWriter()
        self._state.relay.forget()
        self._state.planner.forget()
        self._state.standing.changed()
        self._cycle.remind(connection)

    # ---- 被别的会话锁着的行 ----

    def _look(self, connection: Connection, term: _Term) -> bool:
        """绕开的行放开了没有；返回有没有变化。"""
        changed = self._detour.look(connection)
        term.looked = time.monotonic()
        return changed

    def _reconcile(self, connection: Connection) -> bool:
        """慢速核对：失联的节点；记忆与数据库的差别。返回有没有变化。"""
        spared = self._state.locked.spared_nodes(self._state.settings.node_timeout_s)
        with connection.begin():
            silent = fail_silent_nodes(
                connection,
                self._state.settings.node_timeout_s,
                spared,
                boot_timeout_s=self._state.settings.resume_timeout_s,
            )
        if silent.fallen:
            logger.error("node_down", extra={"nodes": compress(silent.fallen)})
        self._dispatcher.send({node: [sync_message(ids)] for node, ids in silent.to_sync.items()})
        changed, version = False, self._state.memory.cluster.version
        if silent.locked_jobs or silent.locked_nodes:
            changed = self._detour.look(connection, silent.locked_jobs, silent.locked_nodes)
        with connection.begin():
            now = self._state.clock.now()
            changed |= self._state.upkeep.look(connection, self._state.memory, now)
            repaired = self._state.memory.reconcile(connection, now)
        # 增量的计划也定期从头核对一遍。
        self._state.planner.forget()
        if repaired:
            # 每一个都是没有听到的变化：正常时是 0。
            self._state.statistics.repaired += len(repaired)
            logger.warning("memory_reconciled", extra={"jobs": len(repaired), "first": sorted(repaired)[:MOST_NAMED]})
        # 节点、分区、预留变了，或到了预留的开始、结束，而计划还没有看过的，也要计划。
        return changed or self._state.memory.cluster.version != version or bool(repaired or silent.names)

    def _answer(self, connection: Connection, kind: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """按记忆回答；explain 与 plan 真的计划一次。在 fork 出来的子进程里执行。"""
        return answer_question(
            connection, self._state.memory, self._state.policy, kind, payload, self._state.clock.now()
        )

    def _due(self) -> bool:
        wake = self._state.memory.next_wake()
        return wake is not None and wake <= self._state.clock.now()

    def _settle(self, connection: Connection, epoch: int) -> tuple[bool, bool]:
        """写原因，结束来不及的；返回 (有没有结束的, 原因还有没有没写完的)。"""
        if self._state.plan is None:
            return False, False
        with connection.begin():
            ended, locked = end_hopeless(
                connection,
                epoch,
                self._state.memory,
                kill_invalid_dependency=self._state.settings.kill_invalid_dependency,
            )
            self._state.memory.refresh(connection, ended, self._state.clock.now())
            if not self._state.plan.complete:
                self._cycle.look_ahead()
            unfinished = self._state.reasons.write(connection, self._state.memory, self._state.plan)
        return bool(ended), unfinished or locked

    def _wait(self, connection: Connection, most_s: float) -> None:
        """等收件箱的通知，至多 most_s 秒；有作业到了时刻也醒来。"""
        driver = driver_of(connection)
        if not self._state.notified:
            wake = self._state.memory.next_wake()
            if wake is not None:
                most_s = min(most_s, max(0.0, wake - self._state.clock.now()))
            answering = self._questions.descriptor
            select.select([driver.fileno()] if answering is None else [driver.fileno(), answering], [], [], most_s)
        self._state.stopping.wait(max(0.0, self._state.rest_until - time.monotonic()))
        # 收下到此为止的通知，再去取收件箱：它们说的变化都已经提交，下一次取得到；之后的会再把这里叫醒。
        driver.pgconn.consume_input()
        while driver.pgconn.notifies() is not None:
            continue
        self._state.notified = False

    def _notice(self, _: psycopg.Notify) -> None:
        self._state.notified = True


def main() -> None:
    """python -m scns_conductor.worker.scheduler.process：只运行调度进程。"""
    run_process(Scheduler)


if __name__ == "__main__":
    main()
