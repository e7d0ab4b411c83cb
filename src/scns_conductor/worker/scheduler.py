"""调度进程的一生：参选、当选、听收件箱、计划、提交、派发；失去领导权就重新参选。

一条会话做所有的事：它持有咨询锁，也提交计划，会话没了就什么也改不了（见 leader）。
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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.gres import format_gres
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.logging import configure_logging
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.core.statements import DRAIN_INBOX, DRAIN_MOST, INBOX_CHANNEL, answer_insert, notify_answer
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.scheduling.placement import Placement
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.preemption import Rules, exempt_ends, preempt, resumable
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher
from scns_conductor.worker.explanation import answer_question
from scns_conductor.worker.hot_statement import HotStatement
from scns_conductor.worker.job_limits import JobLimits, end_overrun
from scns_conductor.worker.job_priority import JobPriority
from scns_conductor.worker.leader import Leadership, NotLeader
from scns_conductor.worker.node_timeout import fail_silent_nodes, take_back_unclaimed
from scns_conductor.worker.preemptions import request_preemptions, resume_preempted
from scns_conductor.worker.queue_memory import QueueMemory
from scns_conductor.worker.scheduler_statistics import SchedulerStatistics
from scns_conductor.worker.starts import Share, Start, Started, commit_starts
from scns_conductor.worker.waiting_reasons import ReasonWriter, end_hopeless

RETRY_S = 0.5
# 收件箱里要转给节点的请求；取消也只是提示，代理自己读数据库里的要求。
FORWARDED = frozenset(
    {
        *("cancel", "kill", "suspend", "resume", "requeue", "update", "signal", "read_log", "sample"),
        *("launch_step", "signal_step", "attach_step"),
    }
)

QUESTIONS = frozenset({"explain", "plan", "priorities", "shares", "diag"})
# 没有人等着的事（写原因、看期限）隔这么久做一次，不占启动作业的路。
REASONS_INTERVAL_S = 1.0
# 一个周期最多启动几个：提交的一批不太大，节点早些开工。
MOST_STARTS = 1000
# 取了作业的变化之后至少隔这么久再取下一批：分别提交的来得密时，一个周期的固定花费由几个作业分担。
REST_S = 0.002

_DRAIN = HotStatement(DRAIN_INBOX)

_HOLDERS = sa.text(
    "SELECT node_name, array_agg(job_id) AS job_ids FROM resource_allocations "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND released_at IS NULL GROUP BY node_name"
)

logger = logging.getLogger(__name__)


class Scheduler:
    """调度进程。stop 可以从信号处理器里调用。"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher = Publisher(settings.redis_url.get_secret_value())
        self._stopping = threading.Event()
        self._policy = policy_of(settings)
        self._memory = QueueMemory(
            Defaults(settings.default_memory_mb_per_cpu, settings.max_switch_wait_s),
            dict(parse_licenses(settings.licenses)),
            JobPriority(settings),
            JobLimits.of(settings),
            settings.kill_wait_s,
            rules_of(settings),
        )
        self._reasons = ReasonWriter()
        self._planner = Planner(self._policy)
        self._plan: Plan | None = None
        self._reprioritise = False
        self._notified = False
        self._rest_until = 0.0
        self._statistics = SchedulerStatistics(time.time())

    def stop(self) -> None:
        """请求停止；当前周期做完就让位。"""
        self._stopping.set()

    def run(self) -> None:
        """参选与任职，直到停止；数据库不在时稍后再试。"""
        engine = sync_engine(self._settings, pool_size=1, role="scheduler")
        while not self._stopping.is_set():
            try:
                with engine.connect() as connection:
                    self._serve(connection)
            except (sa.exc.DBAPIError, psycopg.Error, NotLeader) as error:
                logger.warning("scheduler_interrupted", extra={"error": str(error).splitlines()[:1]})
                engine.dispose()
                self._stopping.wait(RETRY_S)
        engine.dispose()
        self._publisher.close()

    def _serve(self, connection: Connection) -> None:
        leadership = Leadership(connection, self._settings.scheduler_lease_s)
        while not leadership.acquire():
            if self._stopping.wait(RETRY_S):
                return
        with connection.begin():
            connection.execute(sa.text(f"LISTEN {INBOX_CHANNEL}"))
            # 通知的内容不看，只记下有过。
            _driver(connection).add_notify_handler(self._notice)
        with connection.begin():
            self._memory.load_all(connection, time.time())
        self._reasons = ReasonWriter()
        self._remind(connection)
        # 装好的队列不成环，也活得久：垃圾回收不必一遍遍地走过它。
        gc.collect()
        gc.freeze()
        renewed = explained = 0.0
        prioritised = -self._settings.priority_calc_period_s
        reconciled = time.monotonic()
        changed = stale = True
        while not self._stopping.is_set():
            now = time.monotonic()
            if now - renewed >= self._settings.scheduler_lease_s / 3:
                leadership.renew()
                renewed = now
            if now - reconciled >= self._settings.reconcile_interval_s:
                changed |= self._reconcile(connection)
                reconciled = time.monotonic()
            changed |= self._drain(connection)
            if self._reprioritise or now - prioritised >= self._settings.priority_calc_period_s:
                self._reprioritise = False
                with connection.begin():
                    changed |= self._memory.prioritise(connection, time.time())
                prioritised = now
            if changed:
                changed = self._cycle(connection, leadership.epoch)
                stale = True
                if changed:
                    continue
            if stale and time.monotonic() - explained >= REASONS_INTERVAL_S:
                changed, unfinished = self._settle(connection, leadership.epoch)
                stale = changed or unfinished
                explained = time.monotonic()
            if not changed:
                self._wait(connection, REASONS_INTERVAL_S if stale else self._settings.scheduler_lease_s / 3)
                changed |= self._due()
        leadership.resign()

    def _reconcile(self, connection: Connection) -> bool:
        """慢速核对：失联的节点；记忆与数据库的差别。返回有没有变化。"""
        with connection.begin():
            silent = fail_silent_nodes(connection, self._settings.node_timeout_s)
        self._send({node: [Message("sync", {"job_ids": ids})] for node, ids in silent.to_sync.items()})
        with connection.begin():
            repaired = self._memory.reconcile(connection, time.time())
        # 增量的计划也定期从头核对一遍。
        self._planner.forget()
        if repaired:
            logger.info("memory_reconciled", extra={"jobs": repaired})
        return bool(repaired or silent.names)

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
        now = time.time()
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
        questions = [row for row in rows if row["kind"] in QUESTIONS]
        if questions:
            self._answer(connection, questions)
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

    def _answer(self, connection: Connection, questions: Sequence[Mapping[str, Any]]) -> None:
        """按此刻的记忆回答；explain 与 plan 真的计划一次。"""
        now = time.time()
        with connection.begin():
            for question in questions:
                request_id = str(question["payload"]["request_id"])
                if question["kind"] == "diag":
                    answer = self._statistics.report(now)
                    if question["payload"].get("reset"):
                        self._statistics.reset(now)
                else:
                    answer = answer_question(
                        connection, self._memory, self._policy, question["kind"], question["payload"], now
                    )
                connection.execute(answer_insert(request_id, answer))
                connection.execute(notify_answer(request_id))

    def _due(self) -> bool:
        wake = self._memory.next_wake()
        return wake is not None and wake <= time.time()

    def _settle(self, connection: Connection, epoch: int) -> tuple[bool, bool]:
        """写原因，结束来不及的；返回 (有没有结束的, 原因还有没有没写完的)。"""
        if self._plan is None:
            return False, False
        with connection.begin():
            ended = end_hopeless(
                connection, epoch, self._memory, kill_invalid_dependency=self._settings.kill_invalid_dependency
            )
            self._memory.refresh(connection, ended, time.time())
            unfinished = self._reasons.write(connection, self._memory, self._plan)
        return bool(ended), unfinished

    def _forward(self, connection: Connection, requests: Sequence[Mapping[str, Any]]) -> dict[str, list[Message]]:
        """把请求转给作业所在的节点。"""
        messages: dict[str, list[Message]] = {}
        for request in requests:
            message = Message(request["kind"], {"job_ids": request["job_ids"], **request["payload"]})
            if request["node_names"]:
                for node in request["node_names"]:
                    messages.setdefault(node, []).append(message)
                continue
            with connection.begin():
                nodes = connection.scalars(
                    sa.text(
                        "SELECT DISTINCT node_name FROM resource_allocations "
                        "WHERE job_id = ANY(:job_ids) AND released_at IS NULL "
                        # 读输出：作业结束了也问跑过它的节点。
                        "UNION SELECT batch_host FROM jobs "
                        "WHERE job_id = ANY(:job_ids) AND :kind = 'read_log' AND batch_host IS NOT NULL"
                    ),
                    {"job_ids": request["job_ids"], "kind": request["kind"]},
                ).all()
            for node in nodes:
                messages.setdefault(node, []).append(message)
        return messages

    def _cycle(self, connection: Connection, epoch: int) -> bool:
        """计划并提交一次；也许还能再放时返回 True。"""
        now = time.time()
        with connection.begin():
            self._memory.wake(connection, now)
            overrun = end_overrun(connection, epoch, self._memory.limits.overrun(now))
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
        try:
            with _one_by_one(connection), connection.begin():
                started = commit_starts(connection, epoch, starts)
        except sa.exc.IntegrityError as error:
            # 记忆与节点计数不符（不变量 3 的 CHECK 拦下了整批）：重装再计划。
            logger.warning("starts_refused", extra={"error": str(error.orig).splitlines()[:1]})
            with connection.begin():
                self._memory.load_all(connection, time.time())
            self._reasons = ReasonWriter()
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
                self._memory.refresh(connection, refused, time.time())
        # 开着抢占时，受阻的也许要趁启动之后的样子再看一遍。
        again = rules is not None and bool(decided.blocked)
        return decided.exhausted or bool(refused) or moved or again

    def _remind(self, connection: Connection) -> None:
        """刚上任：前任要求结束的，它也许没来得及告诉节点。"""
        ending = [job.job_id for job in self._memory.cluster.running.values() if job.ending]
        self._end_on_nodes(connection, dict.fromkeys(ending, self._settings.kill_wait_s), time.time())

    def _resume(self, connection: Connection, epoch: int, decided: Plan, rules: Rules) -> bool:
        """恢复因抢占而挂起、现在放得下的；恢复了就要重新计划。"""
        victims = resumable(self._memory.cluster, decided, rules)
        if not victims:
            return False
        job_ids = [victim.job_id for victim in victims]
        try:
            with connection.begin():
                resumed = resume_preempted(connection, epoch, victims)
                nodes = connection.execute(_HOLDERS, {"job_ids": resumed}).all()
                self._memory.refresh(connection, job_ids, time.time())
        except sa.exc.IntegrityError as error:
            logger.warning("resume_refused", extra={"error": str(error.orig).splitlines()[:1]})
            with connection.begin():
                self._memory.load_all(connection, time.time())
            return True
        self._send({row.node_name: [Message("resume", {"job_ids": row.job_ids})] for row in nodes})
        return True

    def _preempt(self, connection: Connection, epoch: int, decided: Plan, rules: Rules, now: float) -> bool:
        """让该让的让出来；挂起了几个、当场就有资源时返回 True。"""
        memory = self._memory
        memory.exempt_ends_at = exempt_ends(memory.cluster, memory.queue, decided, rules)
        wanted = preempt(memory.cluster, memory.queue, decided, self._policy, rules)
        if not wanted:
            return False
        with connection.begin():
            ending, suspended = request_preemptions(
                connection, epoch, memory.cluster, wanted, rules, self._settings.kill_wait_s
            )
            nodes = connection.execute(_HOLDERS, {"job_ids": suspended}).all()
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
            nodes = connection.execute(_HOLDERS, {"job_ids": list(within_s)}).all()
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
                most_s = min(most_s, max(0.0, wake - time.time()))
            select.select([driver.fileno()], [], [], most_s)
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
    """python -m scns_conductor.worker.scheduler：只运行调度进程。"""
    try:
        settings = load_settings()
        configure_logging(settings)
        scheduler = Scheduler(settings)
    except ConductorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.stop())
    scheduler.run()


if __name__ == "__main__":
    main()
