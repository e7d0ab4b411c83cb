"""时间片：到了时候换谁用 CPU。写下（停的借出 CPU，走的拿回来，在一个事务里），告诉节点，要启动的交给这一遍计划。"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.errors import first_line
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.time_slices import Turn
from scns_conductor.statements.preemption import SUSPEND_LENDING
from scns_conductor.worker.scheduler.detour import Detour
from scns_conductor.worker.scheduler.dispatcher import Dispatcher, to_holders
from scns_conductor.worker.scheduler.preemption_requests import resume_preempted
from scns_conductor.worker.scheduler.state import SchedulerState

# 记着的人比在的多出这么多，才收拾一次。
SPARE = 1000

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TurnTaking:
    """只在领导者的记忆里记账，换了领导者从头记：最多早换一次。"""

    state: SchedulerState
    dispatcher: Dispatcher
    detour: Detour
    # 因时间片停着的：停与走不逐次记进作业的历史。
    parked: set[int] = field(default_factory=set)

    def take(self, connection: Connection, epoch: int, decided: Plan, now: float) -> list[PlannedStart] | None:
        """到了时候就换；返回跟着要启动的（这一遍就提交）。没有换成、要重新计划的是 None。"""
        turn = self._look(decided, now)
        if not turn:
            return []
        changed = [job.job_id for job in (*turn.suspend, *turn.resume)]
        if changed and not self._change(connection, epoch, turn, changed):
            return None
        self.moved(changed, now)
        self.parked.update(job.job_id for job in turn.suspend)
        self.moved({start.job.job_id for start in turn.starts}, now)
        # 记着的计划不知道换过。
        self.state.planner.forget()
        return turn.starts

    def moved(self, job_ids: Collection[int], now: float) -> None:
        """这些作业此刻停了、走了、启动了。"""
        if self.state.memory.takes_turns:
            self.state.memory.turns.moved(job_ids, now)
            self.parked.difference_update(job_ids)

    def _look(self, decided: Plan, now: float) -> Turn | None:
        memory = self.state.memory
        if not memory.takes_turns:
            return None
        barred = set(self.state.locked.jobs)
        turn = memory.turns.look(memory.cluster, memory.queue, decided, self.state.policy, now, barred)
        if turn is not None:
            self._tidy()
        return turn

    def _change(self, connection: Connection, epoch: int, turn: Turn, changed: Sequence[int]) -> bool:
        memory = self.state.memory
        suspending = [job.job_id for job in turn.suspend]
        message = f"与别的作业轮流用 CPU，每次 {memory.turns.slice_s:g} 秒（此后的停与走不再逐次记）"

        def write() -> tuple[list[int], list[int]]:
            values = {"job_ids": suspending, "messages": [message] * len(suspending), "cause": "timeslice"}
            with connection.begin():
                # 先借出，再拿回：节点的计数（CHECK）从不超。
                suspended = list(connection.scalars(SUSPEND_LENDING, {**values, "epoch": epoch}))
                return suspended, resume_preempted(connection, epoch, turn.resume, self.parked)

        try:
            written = self.detour.around(connection, changed, write)
        except sa.exc.IntegrityError as error:
            # 有一个没有停成（恰好结束了），拿不回来：什么也没有改，重装再看。
            logger.warning("turn_refused", extra={"error": first_line(error)})
            with connection.begin():
                memory.load_all(connection, self.state.clock.now())
            return False
        if written is None:
            return False
        with connection.begin():
            messages = to_holders(connection, "suspend", written[0])
            for node, resumed in to_holders(connection, "resume", written[1]).items():
                messages.setdefault(node, []).extend(resumed)
            memory.refresh(connection, changed, self.state.clock.now())
        # 先停下的，后面才是走的与启动的。
        self.dispatcher.send(messages)
        if set(written[0]) != set(suspending):
            # 没有停成的，它的 CPU 还在用：要启动的这一遍不启动。
            self.state.planner.forget()
            return False
        return True

    def _tidy(self) -> None:
        memory = self.state.memory
        if len(memory.turns.since) > len(memory.cluster.running) + len(memory.waiting) + SPARE:
            memory.turns.keep(memory.cluster.running.keys() | memory.waiting.keys())
            self.parked.intersection_update(memory.turns.since)
