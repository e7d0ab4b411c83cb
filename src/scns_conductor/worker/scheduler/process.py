"""调度进程的一生：参选、当选、听收件箱、计划、提交、派发；失去领导权就重新参选。

一条会话做所有的事：它持有咨询锁，也提交计划，会话没了就什么也改不了；续租在另一个线程里（见 leader）。
哪个线程意外死去，都是进程以非零退出，由监督者重启。
"""

import contextlib
import gc
import logging
import math
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.gres import format_gres
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.logging import configure_logging
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.scheduling.placement import Placement
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.preemption import Rules, exempt_ends, preempt, resumable
from scns_conductor.statements.allocations import HOLDING_NODES
from scns_conductor.statements.answers import answer_insert, notify_answer
from scns_conductor.statements.hot_statement import HotStatement
from scns_conductor.statements.inbox import (
    DRAIN_INBOX,
    DRAIN_MOST,
    FORWARD_TARGETS,
    LISTEN_INBOX,
    notify_queue_crowded,
)
from scns_conductor.statements.incarnation import CURRENT_INCARNATION
from scns_conductor.statements.row_locks import gave_up_waiting
from scns_conductor.statements.starts import Share, Start, Started, commit_starts
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher
from scns_conductor.worker.host.thread_owner import own_every_thread
from scns_conductor.worker.scheduler.database_clock import DatabaseClock
from scns_conductor.worker.scheduler.explanation import answer_question
from scns_conductor.worker.scheduler.leader import Leadership, LeaseKeeper, NotLeader
from scns_conductor.worker.scheduler.limit_pools import JobLimits, end_overrun
from scns_conductor.worker.scheduler.locked_rows import LockedRows, bound_session
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.preemption_requests import request_preemptions, resume_preempted
from scns_conductor.worker.scheduler.priority_factors import JobPriority
from scns_conductor.worker.scheduler.questions import Questions
from scns_conductor.worker.scheduler.reasons import ReasonWriter, end_hopeless
from scns_conductor.worker.scheduler.silent_nodes import fail_silent_nodes, take_back_unclaimed
from scns_conductor.worker.scheduler.statistics import SchedulerStatistics

RETRY_S = 0.5
# 收件箱里要转给节点的请求；取消也只是提示，代理自己读数据库里的要求。
FORWARDED = frozenset(
    {
        *("cancel", "kill", "suspend", "resume", "requeue", "update", "signal", "read_log", "sample"),
        *("launch_step", "signal_step", "attach_step"),
    }
)

QUESTIONS = frozenset({"explain", "plan", "priorities", "shares"})
# 没有通知也隔这么久看一次收件箱，并看看通知的队列是不是快满了。
IDLE_S = 3.0
# 听不到通知时隔这么久看一眼收件箱。
DEAF_POLL_S = 0.5
# 没有人等着的事（写原因、看期限）隔这么久做一次，不占启动作业的路。
REASONS_INTERVAL_S = 1.0
# 一个周期最多启动几个：提交的一批不太大，节点早些开工。
MOST_STARTS = 1000
# 取了作业的变化之后至少隔这么久再取下一批：分别提交的来得密时，一个周期的固定花费由几个作业分担。
REST_S = 0.002

_DRAIN = HotStatement(DRAIN_INBOX)


_Value = TypeVar("_Value")

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Term:
    """一次任期里，各样事上次做的时刻（time.monotonic），与还欠着什么。"""

    epoch: int
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
        self._settings = settings
        self._clock = DatabaseClock()
        self._locked = LockedRows()
        self._incarnation: str | None = None
        self._publisher = Publisher(settings.redis_url.get_secret_value(), lambda: self._incarnation)
        self._stopping = threading.Event()
        self._policy = policy_of(settings)
        self._memory = QueueMemory(
            Defaults(settings.default_memory_mb_per_cpu, settings.max_switch_wait_s),
            dict(parse_licenses(settings.licenses)),
            JobPriority(settings),
            JobLimits.of(settings),
            settings.kill_wait_s,
            rules_of(settings),
            locked_jobs=self._locked.jobs,
            locked_nodes=self._locked.nodes,
            clock=self._clock.now,
        )
        self._reasons = ReasonWriter()
        self._planner = Planner(self._policy)
        self._plan: Plan | None = None
        self._reprioritise = False
        self._notified = False
        self._deaf = False
        self._rest_until = 0.0
        self._statistics = SchedulerStatistics(self._clock.now())
        self._questions = Questions(settings, self._answer)

    def stop(self) -> None:
        """请求停止；当前周期做完就让位。"""
        self._stopping.set()

    def run(self) -> None:
        """参选与任职，直到停止；数据库不在时稍后再试。"""
        engine = sync_engine(self._settings, pool_size=1, role="scheduler")
        while not self._stopping.is_set():
            try:
                if not await_schema(engine, self._stopping):
                    break
                with engine.connect() as connection:
                    self._serve(engine, connection)
            except (sa.exc.DBAPIError, psycopg.Error, NotLeader) as error:
                logger.warning("scheduler_interrupted", extra={"error": str(error).splitlines()[:1]})
                engine.dispose()
                self._stopping.wait(RETRY_S)
        engine.dispose()
        self._questions.close()
        self._publisher.close()

    def _serve(self, engine: Engine, connection: Connection) -> None:
        bound_session(connection)
        leadership = Leadership(connection, self._settings.scheduler_lease_s, self._clock)
        while not leadership.acquire():
            if self._stopping.wait(leadership.look_again_s):
                return
        with connection.begin():
            connection.execute(LISTEN_INBOX)
            # 通知的内容不看，只记下有过。
            _driver(connection).add_notify_handler(self._notice)
        self._locked.clear()
        now = time.monotonic()
        with LeaseKeeper(engine, leadership, self._settings.scheduler_lease_s, lambda: self._locked.blocked) as keeper:
            term = _Term(leadership.epoch, keeper, now, now - self._settings.priority_calc_period_s)
            while not self._stopping.is_set():
                keeper.check()
                try:
                    self._turn(connection, term)
                except sa.exc.DBAPIError as error:
                    if not gave_up_waiting(error):
                        raise
                    # 等不到的不是某一行：领导权还在，记忆也许只更新了一半，等它放开再整个重装。
                    logger.warning("scheduler_blocked", extra={"error": str(error.orig).splitlines()[:1]})
                    with connection.begin():
                        self._locked.look_at_tables(connection)
                    term.reload = True
                    self._stopping.wait(RETRY_S)
        leadership.resign()

    def _turn(self, connection: Connection, term: _Term) -> None:
        """走一遍：核对、取收件箱、计划；没有事就等。"""
        now = time.monotonic()
        if term.reload:
            self._load(connection)
            term.reload, term.changed = False, True
        if now - term.listened >= IDLE_S:
            # 通知的队列快满时没有人再送通知：收件箱隔一会儿自己看。
            self._deaf = self._is_deaf(connection)
            term.listened = now
        if self._locked.any and now - term.looked >= REASONS_INTERVAL_S:
            term.changed |= self._look(connection, term)
        if now - term.reconciled >= self._settings.reconcile_interval_s:
            term.changed |= self._reconcile(connection)
            term.changed |= self._look(connection, term)
            term.reconciled = time.monotonic()
        term.changed |= self._drain(connection)
        self._questions.advance(_driver(connection).fileno())
        if self._reprioritise or now - term.prioritised >= self._settings.priority_calc_period_s:
            self._reprioritise = False
            with connection.begin():
                term.changed |= self._memory.prioritise(connection, self._clock.now())
            term.prioritised = now
        if term.changed:
            term.changed = self._cycle(connection, term.epoch)
            term.stale = True
            if term.changed:
                return
        if term.stale and time.monotonic() - term.explained >= REASONS_INTERVAL_S:
            term.changed, unfinished = self._settle(connection, term.epoch)
            term.stale = term.changed or unfinished
            term.explained = time.monotonic()
        if not term.changed:
            idle_s = REASONS_INTERVAL_S if term.stale or self._locked.any else IDLE_S
            self._wait(connection, min(idle_s, DEAF_POLL_S) if self._deaf else idle_s)
            term.changed |= self._due()

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
                self._incarnation = connection.scalar(CURRENT_INCARNATION)
                self._memory.load_all(connection, self._clock.now())
            gc.freeze()
        finally:
            gc.enable()
        self._locked.tables_free()
        self._reasons = ReasonWriter()
        self._planner.forget()
        self._remind(connection)

    # ---- 被别的会话锁着的行 ----

    def _look(self, connection: Connection, term: _Term) -> bool:
        """绕开的行放开了没有；返回有没有变化。"""
        changed = self._look_at(connection)
        term.looked = time.monotonic()
        return changed

    def _look_at(self, connection: Connection, job_ids: Collection[int] = (), node_names: Collection[str] = ()) -> bool:
        with connection.begin():
            changed = self._locked.look(connection, job_ids, node_names)
        if not changed:
            return False
        self._planner.forget()
        with connection.begin():
            if changed.node_names:
                self._memory.load_nodes(connection, sorted(changed.node_names))
            self._memory.refresh(connection, changed.job_ids, self._clock.now())
        return True

    def _around(
        self, connection: Connection, job_ids: Collection[int], write: Callable[[], _Value], nodes: Collection[str] = ()
    ) -> _Value | None:
        """做一次写；等锁等到头的，把锁着的行绕开，返回 None：调用者下一遍再来。"""
        try:
            return write()
        except sa.exc.DBAPIError as error:
            if not gave_up_waiting(error):
                raise
            if not self._look_at(connection, job_ids, nodes):
                with connection.begin():
                    self._locked.look_at_tables(connection)
                self._stopping.wait(REST_S)
            return None

    def _reconcile(self, connection: Connection) -> bool:
        """慢速核对：失联的节点；记忆与数据库的差别。返回有没有变化。"""
        spared = self._locked.spared_nodes(self._settings.node_timeout_s)
        with connection.begin():
            silent = fail_silent_nodes(connection, self._settings.node_timeout_s, spared)
        self._send({node: [Message("sync", {"job_ids": ids})] for node, ids in silent.to_sync.items()})
        changed = False
        if silent.locked_jobs or silent.locked_nodes:
            changed = self._look_at(connection, silent.locked_jobs, silent.locked_nodes)
        with connection.begin():
            repaired = self._memory.reconcile(connection, self._clock.now())
        # 增量的计划也定期从头核对一遍。
        self._planner.forget()
        if repaired:
            # 每一个都是没有听到的变化：正常时是 0。
            self._statistics.repaired += repaired
            logger.info("memory_reconciled", extra={"jobs": repaired})
        return changed or bool(repaired or silent.names)

    def _drain(self, connection: Connection) -> bool:
        """取走收件箱，更新记忆，转发请求；返回有没有与计划有关的变化。

        各条语句自成事务：取走之后、读完之前断了线，重新上任时整个重装，什么也不漏。
        """
        with _one_by_one(connection), connection.begin():
            rows = [dict(row) for row in _DRAIN.execute(connection, {}).mappings()]
        if not rows:
            return False
        # 一次取不完的，不等通知，接着取。
        self._notified |= len(rows) == DRAIN_MOST
        now = self._clock.now()
        kinds = {row["kind"] for row in rows}
        if kinds & {"accounting", "config", "nodes"}:
            with connection.begin():
                self._reload(connection, rows, now)
        if "nodes" in kinds:
            # 记忆里已经不往停下了的节点上放，放上去了没有人认领的：收回。
            with connection.begin():
                returned = take_back_unclaimed(connection)
            self._send({node: [Message("sync", {"job_ids": ids})] for node, ids in returned.items()})
        ended = {job_id for row in rows if row["kind"] == "ended" for job_id in row["job_ids"]}
        jobs = {job_id for row in rows if row["kind"] == "jobs" for job_id in row["job_ids"]}
        with _one_by_one(connection), connection.begin():
            # 结束了又重新排队的两种都有：照现在的重读。
            self._memory.ended(connection, ended - jobs, now)
            self._memory.refresh(connection, jobs, now)
        requests = sorted((row for row in rows if row["kind"] in FORWARDED), key=lambda row: int(row["inbox_id"]))
        self._send(self._forward(connection, requests))
        for row in rows:
            if row["kind"] in QUESTIONS:
                self._questions.add(row["kind"], row["payload"])
            elif row["kind"] == "diag":
                self._report(connection, row["payload"])
        if jobs or ended:
            self._rest_until = time.monotonic() + REST_S
        return bool(jobs or ended or kinds & {"config", "nodes", "accounting"})

    def _reload(self, connection: Connection, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """管理员才做的改动，不常有：记账变了整个重装，分区、节点变了重读。"""
        kinds = {row["kind"] for row in rows}
        if "accounting" in kinds:
            # 上限变了，每个作业要的池都可能变。
            self._memory.load_all(connection, now)
            self._reprioritise = True
        if "config" in kinds:
            self._memory.load_partitions(connection, now)
        if "nodes" in kinds:
            names = {name for row in rows if row["kind"] == "nodes" for name in row["node_names"]}
            self._memory.load_nodes(connection, sorted(names) or None)
            # 节点下线会结束它的作业；agent 登记也从这里来。
            self._memory.load_partitions(connection, now)

    def _answer(self, connection: Connection, kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """按记忆回答；explain 与 plan 真的计划一次。在 fork 出来的子进程里执行。"""
        return answer_question(connection, self._memory, self._policy, kind, payload, self._clock.now())

    def _report(self, connection: Connection, payload: Mapping[str, Any]) -> None:
        """调度器的统计：只几次除法，当场回答。"""
        now, request_id = self._clock.now(), str(payload["request_id"])
        with connection.begin():
            connection.execute(answer_insert(request_id, self._statistics.report(now)))
            connection.execute(notify_answer(request_id))
        if payload.get("reset"):
            self._statistics.reset(now)

    def _due(self) -> bool:
        wake = self._memory.next_wake()
        return wake is not None and wake <= self._clock.now()

    def _settle(self, connection: Connection, epoch: int) -> tuple[bool, bool]:
        """写原因，结束来不及的；返回 (有没有结束的, 原因还有没有没写完的)。"""
        if self._plan is None:
            return False, False
        with connection.begin():
            ended, locked = end_hopeless(
                connection, epoch, self._memory, kill_invalid_dependency=self._settings.kill_invalid_dependency
            )
            self._memory.refresh(connection, ended, self._clock.now())
            unfinished = self._reasons.write(connection, self._memory, self._plan)
        return bool(ended), unfinished or locked

    def _forward(self, connection: Connection, requests: Sequence[Mapping[str, Any]]) -> dict[str, list[Message]]:
        """把一批请求转给作业所在的节点：找节点只要一条语句，紧接着的同样的请求并成一条消息。"""
        if not requests:
            return {}
        asked = [
            (place, job_id, request["kind"] == "read_log")
            for place, request in enumerate(requests)
            if not request["node_names"]
            for job_id in request["job_ids"]
        ]
        targets: dict[int, dict[str, list[int]]] = {
            place: dict.fromkeys(request["node_names"], request["job_ids"]) for place, request in enumerate(requests)
        }
        if asked:
            places, job_ids, reading = zip(*asked, strict=True)
            values = {"places": list(places), "job_ids": list(job_ids), "reading": list(reading)}
            with connection.begin():
                for row in connection.execute(FORWARD_TARGETS, values):
                    targets[row.place].setdefault(row.node_name, []).extend(row.job_ids)
        messages: dict[str, list[Message]] = {}
        for place, request in enumerate(requests):
            for node, held in targets[place].items():
                add_message(messages.setdefault(node, []), request["kind"], held, request["payload"])
        return messages

    def _cycle(self, connection: Connection, epoch: int) -> bool:
        """计划并提交一次；也许还能再放时返回 True。"""
        now = self._clock.now()
        with connection.begin():
            self._memory.wake(connection, now)
        overrun = self._end_overrun(connection, epoch, now)
        self._end_on_nodes(connection, dict.fromkeys(overrun, self._settings.kill_wait_s), now)
        self._memory.collect_lent()
        began, waiting = time.perf_counter(), len(self._memory.queue)
        decided = self._plan = self._planner.plan(self._memory.cluster, self._memory.queue, now)
        self._statistics.planned(
            decided.starts,
            decided.reservations,
            spent_s=time.perf_counter() - began,
            queue_length=waiting,
            now=now,
        )
        rules = self._memory.preempt_rules
        moved = False
        if rules is not None:
            if self._resume(connection, epoch, decided, rules):
                # 这一遍的启动没有提交：下一遍从头计划。
                self._planner.forget()
                return True
            if decided.blocked:
                moved = self._preempt(connection, epoch, decided, rules, now)
        if not decided.starts:
            return moved
        starts = _starts(self._memory, decided.starts)

        def write() -> list[Started]:
            with _one_by_one(connection), connection.begin():
                return commit_starts(connection, epoch, starts)

        nodes = {share.node_name for start in starts for share in start.shares}
        try:
            started = self._around(connection, {start.job_id for start in starts}, write, nodes)
        except sa.exc.IntegrityError as error:
            # 记忆与节点计数不符（不变量 3 的 CHECK 拦下了整批）：重装再计划。
            logger.warning("starts_refused", extra={"error": str(error.orig).splitlines()[:1]})
            with connection.begin():
                self._memory.load_all(connection, self._clock.now())
            self._reasons = ReasonWriter()
            return True
        if started is None:
            self._planner.forget()
            return True
        done = set()
        for row in started:
            self._memory.started(decided.starts[row.index], row.job_id, now)
            done.add(row.index)
        self._dispatch(starts, started)
        refused = {start.job_id for index, start in enumerate(starts) if index not in done}
        if refused:
            # 以为启动了的没有启动：记着的计划作废。
            self._planner.forget()
            with connection.begin():
                self._memory.refresh(connection, refused, self._clock.now())
        # 开着抢占时，受阻的也许要趁启动之后的样子再看一遍。
        again = rules is not None and bool(decided.blocked)
        return decided.exhausted or bool(refused) or moved or again

    def _end_overrun(self, connection: Connection, epoch: int, now: float) -> list[int]:
        """用量到顶的请节点结束；行被锁着的以后再说。"""
        overrun = {
            job_id: pool for job_id, pool in self._memory.limits.overrun(now).items() if job_id not in self._locked.jobs
        }
        if not overrun:
            return []

        def write() -> list[int]:
            with connection.begin():
                return end_overrun(connection, epoch, overrun)

        return self._around(connection, overrun.keys(), write) or []

    def _remind(self, connection: Connection) -> None:
        """刚上任：前任要求结束的，它也许没来得及告诉节点。"""
        ending = [job.job_id for job in self._memory.cluster.running.values() if job.ending]
        self._end_on_nodes(connection, dict.fromkeys(ending, self._settings.kill_wait_s), self._clock.now())

    def _resume(self, connection: Connection, epoch: int, decided: Plan, rules: Rules) -> bool:
        """恢复因抢占而挂起、现在放得下的；恢复了就要重新计划。"""
        found = resumable(self._memory.cluster, decided, rules)
        victims = [victim for victim in found if victim.job_id not in self._locked.jobs]
        if not victims:
            return False
        job_ids = [victim.job_id for victim in victims]

        def write() -> list[int]:
            with connection.begin():
                return resume_preempted(connection, epoch, victims)

        try:
            resumed = self._around(connection, job_ids, write)
            if resumed is None:
                return True
            with connection.begin():
                nodes = connection.execute(HOLDING_NODES, {"job_ids": resumed}).all()
                self._memory.refresh(connection, job_ids, self._clock.now())
        except sa.exc.IntegrityError as error:
            logger.warning("resume_refused", extra={"error": str(error.orig).splitlines()[:1]})
            with connection.begin():
                self._memory.load_all(connection, self._clock.now())
            return True
        self._send({row.node_name: [Message("resume", {"job_ids": row.job_ids})] for row in nodes})
        return True

    def _preempt(self, connection: Connection, epoch: int, decided: Plan, rules: Rules, now: float) -> bool:
        """让该让的让出来；挂起了几个、当场就有资源时返回 True。"""
        memory = self._memory
        memory.exempt_ends_at = exempt_ends(memory.cluster, memory.queue, decided, rules)
        wanted = [
            each
            for each in preempt(memory.cluster, memory.queue, decided, self._policy, rules)
            if not any(victim.job_id in self._locked.jobs for victim in each.victims)
        ]
        if not wanted:
            return False

        def write() -> tuple[dict[int, float], list[int]]:
            with connection.begin():
                return request_preemptions(connection, epoch, memory.cluster, wanted, rules, self._settings.kill_wait_s)

        written = self._around(connection, {victim.job_id for each in wanted for victim in each.victims}, write)
        if written is None:
            return True
        ending, suspended = written
        with connection.begin():
            nodes = connection.execute(HOLDING_NODES, {"job_ids": suspended}).all()
            memory.refresh(connection, suspended, now)
        # 先停下被挂起的，抢占者的启动排在它后面。
        self._send({row.node_name: [Message("suspend", {"job_ids": row.job_ids})] for row in nodes})
        self._end_on_nodes(connection, ending, now)
        return bool(suspended)

    def _end_on_nodes(self, connection: Connection, within_s: Mapping[int, float], now: float) -> None:
        """已经在数据库里要求结束的（作业 -> 至多多少秒之后）：告诉它们的节点。"""
        if not within_s:
            return
        with connection.begin():
            nodes = connection.execute(HOLDING_NODES, {"job_ids": list(within_s)}).all()
        for job_id, wait_s in within_s.items():
            self._memory.mark_ending(job_id, now + wait_s)
        self._send({row.node_name: [Message("cancel", {"job_ids": row.job_ids})] for row in nodes})

    def _dispatch(self, starts: Sequence[Start], started: Sequence[Started]) -> None:
        """每个节点一条消息；Valkey 不在时代理靠核对数据库补上。"""
        by_node: dict[str, list[int]] = {}
        for row in started:
            for share in starts[row.index].shares:
                by_node.setdefault(share.node_name, []).append(row.job_id)
        self._send({node: [Message("launch", {"job_ids": ids})] for node, ids in by_node.items()})

    def _send(self, messages: Mapping[str, Sequence[Message]]) -> None:
        try:
            self._publisher.send(messages)
        except BusUnavailable as error:
            logger.warning("bus_unavailable", extra={"error": str(error), "nodes": sorted(messages)})

    def _wait(self, connection: Connection, most_s: float) -> None:
        """等收件箱的通知，至多 most_s 秒；有作业到了时刻也醒来。"""
        driver = _driver(connection)
        if not self._notified:
            wake = self._memory.next_wake()
            if wake is not None:
                most_s = min(most_s, max(0.0, wake - self._clock.now()))
            answering = self._questions.descriptor
            select.select([driver.fileno()] if answering is None else [driver.fileno(), answering], [], [], most_s)
        self._stopping.wait(max(0.0, self._rest_until - time.monotonic()))
        # 收下到此为止的通知，再去取收件箱：它们说的变化都已经提交，下一次取得到；之后的会再把这里叫醒。
        driver.pgconn.consume_input()
        while driver.pgconn.notifies() is not None:
            continue
        self._notified = False

    def _notice(self, _: psycopg.Notify) -> None:
        self._notified = True


@contextlib.contextmanager
def _one_by_one(connection: Connection) -> Iterator[None]:
    """里面的语句各自成一个事务，省去 BEGIN 与 COMMIT 的往返；只能在事务之外进出。"""
    driver = _driver(connection)
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False


def add_message(messages: list[Message], function: str, job_ids: Sequence[int], payload: Mapping[str, Any]) -> None:
    """接在后面；与上一条是同样的请求时并进去：两万个 scancel 在一个节点上也只是一条消息。"""
    last = messages[-1] if messages else None
    if last is not None and last.function == function and {**last.payload, "job_ids": ()} == {**payload, "job_ids": ()}:
        last.payload["job_ids"].extend(job_ids)
    else:
        messages.append(Message(function, {"job_ids": list(dict.fromkeys(job_ids)), **payload}))


def _driver(connection: Connection) -> "psycopg.Connection[Any]":
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def policy_of(settings: Settings) -> Policy:
    """设置 -> 核心的策略。"""
    backfill = {"fifo": Backfill.NONE, "easy": Backfill.EASY, "conservative": Backfill.CONSERVATIVE}
    return Policy(
        backfill[settings.scheduler_policy], settings.backfill_depth, Placement(settings.placement), MOST_STARTS
    )


def rules_of(settings: Settings) -> Rules | None:
    """设置 -> 抢占的规则；不抢占是 None。"""
    if settings.preempt_type == "none":
        return None
    return Rules(settings.preempt_type == "qos", settings.preempt_mode, settings.preempt_exempt_time_s)


def _starts(memory: QueueMemory, planned: Sequence[PlannedStart]) -> list[Start]:
    names = memory.cluster.names
    left = {item.job.job_id: memory.tasks_left(item.job.job_id) for item in planned if item.job.tasks is not None}
    found = []
    for item in planned:
        job = item.job
        becomes = False
        if item.task_id is not None:
            left[job.job_id] -= 1
            becomes = left[job.job_id] == 0
        shares = tuple(
            Share(names[share.node], share.cpus, share.memory, dict(share.gres), share.tasks) for share in item.shares
        )
        gres: dict[str, int] = {}
        for share in item.shares:
            for name, count in share.gres:
                gres[name] = gres.get(name, 0) + count
        node_list, shares = _in_list_order(shares)
        found.append(
            Start(
                job.job_id,
                job.revision,
                item.task_id,
                becomes,
                node_list,
                shares,
                format_gres(gres) or None,
                None if item.time_limit_s is None else math.floor(item.time_limit_s),
                memory.partition_of(item),
            )
        )
    return found


def _in_list_order(shares: tuple[Share, ...]) -> tuple[str, tuple[Share, ...]]:
    """节点列表，以及按它排好的份额：脚本与 0 号任务在列表的第一个节点上，客户端靠它互相找到。"""
    if len(shares) == 1:
        return shares[0].node_name, shares
    node_list = compress(sorted(share.node_name for share in shares))
    order = {name: index for index, name in enumerate(expand(node_list))}
    return node_list, tuple(sorted(shares, key=lambda share: order[share.node_name]))


def main() -> None:
    """python -m scns_conductor.worker.scheduler.process：只运行调度进程。"""
    try:
        settings = load_settings()
        configure_logging(settings)
        own_every_thread()
        scheduler = Scheduler(settings)
    except ConductorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.stop())
    try:
        scheduler.run()
    except ConductorError as error:
        # 再试也没有用的：数据库服务器太旧。
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
