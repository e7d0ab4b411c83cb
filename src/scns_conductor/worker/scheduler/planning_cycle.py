"""一个周期：叫醒到了时刻的，计划，抢占与恢复，提交，派发。"""

import logging
import time
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.errors import first_line
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.preemption import Rules, exempt_ends, preempt, resumable
from scns_conductor.statements.end_requests import end_components
from scns_conductor.statements.preemption import LEND_SUSPENDED
from scns_conductor.statements.starts import Started
from scns_conductor.tracing import Tracer
from scns_conductor.worker.scheduler.detour import Detour
from scns_conductor.worker.scheduler.dispatcher import Dispatcher, to_holders
from scns_conductor.worker.scheduler.limit_pools import end_overrun
from scns_conductor.worker.scheduler.planned_starts import rows_of
from scns_conductor.worker.scheduler.preemption_requests import request_preemptions, resume_preempted
from scns_conductor.worker.scheduler.reasons import ReasonWriter
from scns_conductor.worker.scheduler.start_commits import commit_groups
from scns_conductor.worker.scheduler.state import SchedulerState
from scns_conductor.worker.scheduler.turns import TurnTaking

logger = logging.getLogger(__name__)


class PlanningCycle:
    """run 做一次；各步自成事务，提交都带着栅栏（epoch）。"""

    def __init__(
        self, state: SchedulerState, dispatcher: Dispatcher, detour: Detour, tracer: Tracer | None = None
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._detour = detour
        self._tracer = tracer
        self._turns = TurnTaking(state, dispatcher, detour)

    def run(self, connection: Connection, epoch: int) -> bool:
        """计划并提交一次；也许还能再放时返回 True。"""
        now, timings = self._state.clock.now(), self._state.timings
        with timings.phases["wake"].measure(), connection.begin():
            self._state.memory.wake(connection, now)
        ending = self._end_overrun(connection, epoch, now) + self._end_components(connection, epoch)
        self._end_on_nodes(connection, dict.fromkeys(ending, self._state.settings.kill_wait_s), now)
        self._lend(connection, epoch, now)
        self._state.memory.collect_lent()
        began, waiting = time.perf_counter(), len(self._state.memory.queue)
        rules = self._state.memory.preempt_rules
        # 抢占要看为谁保留了什么；不然影响不了启动的保留，写预计开始时才算（look_ahead）。
        decided = self._state.plan = self._state.planner.plan(
            self._state.memory.cluster,
            self._state.memory.queue,
            now,
            complete=rules is not None or self._state.memory.takes_turns,
        )
        self._state.statistics.planned(
            decided.starts,
            decided.reservations,
            spent_s=(spent_s := time.perf_counter() - began),
            queue_length=waiting,
            now=now,
        )
        timings.phases["plan"].observe(spent_s)
        moved = False
        if self._state.memory.lends and self._resume(connection, epoch, decided, rules):
            # 这一遍的启动没有提交：下一遍从头计划。
            self._state.planner.forget()
            return True
        if rules is not None and decided.blocked:
            with timings.phases["preempt"].measure():
                moved = self._preempt(connection, epoch, decided, rules, now)
        turned = [] if moved else self._turns.take(connection, epoch, decided, now)
        if turned is None:
            return True
        if not decided.starts and not turned:
            return moved
        planned = self._state.memory.apart([*decided.starts, *turned])
        starts = rows_of(self._state.memory, planned)

        version = None if self._state.locked.version_stuck else self._state.memory.reservations_version

        def write() -> list[Started]:
            return commit_groups(connection, epoch, starts, version)

        nodes = {share.node_name for start in starts for share in start.shares}
        try:
            with timings.phases["commit"].measure():
                started = self._detour.around(connection, {start.job_id for start in starts}, write, nodes)
        except sa.exc.IntegrityError as error:
            # 记忆与节点计数不符（不变量 3 的 CHECK 拦下了整批）：重装再计划。
            logger.warning("starts_refused", extra={"error": first_line(error)})
            with connection.begin():
                self._state.memory.load_all(connection, self._state.clock.now())
            self._state.reasons = ReasonWriter()
            return True
        if started is None:
            self._state.planner.forget()
            return True
        committed, queued_from = self._state.clock.now(), dict[tuple[int, int], float]()
        done = set()
        timings.starts.observe(len(started))
        for row in started:
            start = planned[row.index]
            waited = self._state.memory.waiting.get(start.job.job_id)
            if waited is not None:
                timings.waits.observe(max(0.0, now - waited.age_from))
                queued_from[row.job_id, row.restart_count] = waited.age_from
            self._state.memory.started(start, row.job_id, now)
            self._turns.moved((row.job_id,), now)
            done.add(row.index)
        with timings.phases["dispatch"].measure():
            cluster = self._state.memory.cluster
            self._dispatcher.launch(starts, started, {cluster.names[node] for node in cluster.booting})
        if self._tracer is not None:
            self._trace(self._tracer, queued_from, now, now + spent_s, committed)
        refused = {start.job_id for index, start in enumerate(starts) if index not in done}
        if refused:
            # 以为启动了的没有启动：记着的计划作废。
            self._state.planner.forget()
            with connection.begin():
                self._state.memory.refresh(connection, refused, self._state.clock.now())
        # 开着抢占、时间片时，受阻的要趁启动之后的样子再看一遍：与刚启动的轮流，何时换这时才定。
        again = (rules is not None or self._state.memory.takes_turns) and bool(decided.blocked)
        return decided.exhausted or bool(refused) or moved or again

    def _trace(
        self,
        tracer: Tracer,
        queued_from: Mapping[tuple[int, int], float],
        began: float,
        planned: float,
        committed: float,
    ) -> None:
        """一批启动的轨迹：排到这个周期，计划，写下，派发。"""
        sent = self._state.clock.now()
        for owner, since in queued_from.items():
            tracer.span("queue", owner, since, began)
            tracer.span("plan", owner, began, planned)
            tracer.span("commit", owner, planned, committed)
            tracer.span("dispatch", owner, committed, sent)

    def look_ahead(self) -> None:
        """周期里没有算的保留，算好放进 plan：要写预计开始了。"""
        state, now, began = self._state, self._state.clock.now(), time.perf_counter()
        state.plan = state.planner.outlook(state.memory.cluster, state.memory.queue, now)
        state.statistics.reserved_for(
            state.plan.reservations,
            spent_s=time.perf_counter() - began,
            queue_length=len(state.memory.queue),
            now=now,
        )

    def _end_overrun(self, connection: Connection, epoch: int, now: float) -> list[int]:
        """用量到顶的请节点结束；行被锁着的以后再说。"""
        overrun = {
            job_id: pool
            for job_id, pool in self._state.memory.limits.overrun(now).items()
            if job_id not in self._state.locked.jobs
        }
        if not overrun:
            return []

        def write() -> list[int]:
            with connection.begin():
                return end_overrun(connection, epoch, overrun)

        return self._detour.around(connection, overrun.keys(), write) or []

    def _end_components(self, connection: Connection, epoch: int) -> list[int]:
        """异构作业少了一个部分的，其余的也请节点结束；行被锁着的以后再说。"""
        broken = self._state.memory.het.broken
        if not broken:
            return []
        heads = sorted(broken)

        def write() -> list[int]:
            with connection.begin():
                return end_components(connection, epoch, heads)

        ending = self._detour.around(connection, (), write)
        if ending is None:
            return []
        broken.difference_update(heads)
        return ending

    def remind(self, connection: Connection) -> None:
        """刚上任：前任要求结束的，它也许没来得及告诉节点。"""
        ending = [job.job_id for job in self._state.memory.cluster.running.values() if job.ending]
        self._end_on_nodes(connection, dict.fromkeys(ending, self._state.settings.kill_wait_s), self._state.clock.now())

    def _lend(self, connection: Connection, epoch: int, now: float) -> None:
        """人挂起了的：让出 CPU。停下它的消息已经在别的启动之前给了节点。"""
        job_ids = [job_id for job_id in self._state.memory.to_lend() if job_id not in self._state.locked.jobs]
        if not job_ids:
            return

        def write() -> list[int]:
            with connection.begin():
                return list(connection.scalars(LEND_SUSPENDED, {"job_ids": job_ids, "epoch": epoch}))

        lent = self._detour.around(connection, job_ids, write)
        if lent:
            with connection.begin():
                self._state.memory.refresh(connection, lent, now)

    def _resume(self, connection: Connection, epoch: int, decided: Plan, rules: Rules | None) -> bool:
        """恢复借出了 CPU、现在放得下的；恢复了就要重新计划。"""
        found = resumable(self._state.memory.cluster, decided, rules)
        victims = [victim for victim in found if victim.job_id not in self._state.locked.jobs]
        if not victims:
            return False
        job_ids = [victim.job_id for victim in victims]

        def write() -> list[int]:
            with connection.begin():
                return resume_preempted(connection, epoch, victims, self._turns.parked)

        try:
            resumed = self._detour.around(connection, job_ids, write)
            if resumed is None:
                return True
            with connection.begin():
                self._turns.moved(resumed, self._state.clock.now())
                messages = to_holders(connection, "resume", resumed)
                self._state.memory.refresh(connection, job_ids, self._state.clock.now())
        except sa.exc.IntegrityError as error:
            logger.warning("resume_refused", extra={"error": first_line(error)})
            with connection.begin():
                self._state.memory.load_all(connection, self._state.clock.now())
            return True
        self._dispatcher.send(messages)
        return True

    def _preempt(self, connection: Connection, epoch: int, decided: Plan, rules: Rules, now: float) -> bool:
        """让该让的让出来；挂起了几个、当场就有资源时返回 True。"""
        memory, kill_wait_s = self._state.memory, self._state.settings.kill_wait_s
        memory.exempt_ends_at = exempt_ends(memory.cluster, memory.queue, decided, rules)
        wanted = [
            each
            for each in preempt(memory.cluster, memory.queue, decided, self._state.policy, rules)
            if not any(victim.job_id in self._state.locked.jobs for victim in each.victims)
        ]
        if not wanted:
            return False

        def write() -> tuple[dict[int, float], list[int]]:
            with connection.begin():
                return request_preemptions(connection, epoch, memory.cluster, wanted, rules, kill_wait_s)

        written = self._detour.around(connection, {victim.job_id for each in wanted for victim in each.victims}, write)
        if written is None:
            return True
        ending, suspended = written
        with connection.begin():
            messages = to_holders(connection, "suspend", suspended)
            memory.refresh(connection, suspended, now)
        # 先停下被挂起的，抢占者的启动排在它后面。
        self._dispatcher.send(messages)
        self._end_on_nodes(connection, ending, now)
        return bool(suspended)

    def _end_on_nodes(self, connection: Connection, within_s: Mapping[int, float], now: float) -> None:
        """已经在数据库里要求结束的（作业 -> 至多多少秒之后）：告诉它们的节点。"""
        if not within_s:
            return
        with connection.begin():
            messages = to_holders(connection, "cancel", list(within_s))
        for job_id, wait_s in within_s.items():
            self._state.memory.mark_ending(job_id, now + wait_s)
        self._dispatcher.send(messages)
