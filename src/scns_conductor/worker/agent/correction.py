"""照数据库纠正本节点：该杀的杀，丢了的报，没有启动的启动，挂起与时限改成数据库要的（决定见 reconcile.py）。"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy.engine import Engine

from scns_conductor.statements.claims import abandon_allocations
from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.database_memory import DatabaseMemory
from scns_conductor.worker.agent.finisher import Finisher
from scns_conductor.worker.agent.job_launches import JobLaunches
from scns_conductor.worker.agent.job_preparation import JobPreparation
from scns_conductor.worker.agent.launch_plan import LaunchContext
from scns_conductor.worker.agent.launch_sending import LaunchSending
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.agent.reconcile import (
    STALE,
    Abandon,
    Action,
    HeldAllocation,
    Kill,
    Launch,
    Lost,
    Resume,
    RunningTask,
    SetTimeLimit,
    Suspend,
    decide,
    parse_running,
)
from scns_conductor.worker.agent.registration import drain_node, undrain_node
from scns_conductor.worker.agent.relay import Relay
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.step_launches import JobSteps
from scns_conductor.worker.wire.launch_spec import split_key

KEPT_REASON = "有不属于现在的数据库的作业还在运行（foreign_jobs = keep），它们都结束后自动恢复"

logger = logging.getLogger(__name__)


class Correction:
    """client 取当前的牧守进程；held 读数据库里本节点尚未释放的分配。"""

    def __init__(
        self,
        engine: Engine,
        context: LaunchContext,
        pool: CorePool,
        finisher: Finisher,
        ends: OwnEnds,
        memory: DatabaseMemory,
        *,
        held: Callable[[Sequence[int] | None], list[HeldAllocation]],
        client: Callable[[], ShepherdSet],
        preparation: JobPreparation,
        sending: LaunchSending,
        launches: JobLaunches,
        steps: JobSteps,
        relay: Relay,
    ) -> None:
        self._relay = relay
        self._engine = engine
        self._context = context
        self._node = context.node.node_name
        self._pool = pool
        self._finisher = finisher
        self._ends = ends
        self._memory = memory
        self._held = held
        self._client = client
        self._preparation = preparation
        self._sending = sending
        self._launches = launches
        self._steps = steps
        # 留着的外来作业；None 是还没有看过。
        self._kept: bool | None = None

    def sync(self, job_ids: Sequence[int] | None) -> list[Action]:
        """按数据库纠正这些作业（None 表示全部），返回做了什么。先读数据库再问牧守进程：

        中间结束的会被当成丢失，但写结束的语句只认仍在运行的当前尝试，所以无害。
        """
        self._sending.settle()
        self._pool.note_returns()
        self._relay.mark()
        held = self._held(job_ids)
        hello = self._client().state()
        running = parse_running(hello.running)
        ended = {split_key(key)[:2] for key in hello.unacknowledged}
        ended |= self._finisher.pending() | self._finisher.parked()
        if job_ids is not None:
            chosen = set(job_ids)
            running = [task for task in running if task.job_id in chosen]
        else:
            for row in held:
                if row.claimed and (row.cpu_ids is not None or row.gres_ids):
                    self._restore(row)
            unclaimed = {(row.job_id, row.restart_count) for row in held if not row.claimed}
            self._launches.roomless = {
                owner: since for owner, since in self._launches.roomless.items() if owner in unclaimed
            }
        # 多节点作业在别的节点上结束，本节点不经手：已经释放的份额在这里归还。
        arriving, unsure = self._relay.arriving()
        unlaunched = self._preparation.preparing.keys() | set(self._sending.unsent) | arriving
        actions = decide(held, running, ended, unlaunched)
        actions = self._surely_lost(actions, unsure=unsure)
        strays = [action for action in actions if isinstance(action, Kill) and action.cause == STALE]
        # 要杀、要判丢失之前先看清楚：眼前的还是不是原来那个数据库。
        doubtful = strays or any(isinstance(action, Lost) for action in actions)
        if doubtful and self._memory.has_changed() and strays:
            actions = self._face_strangers(actions, strays, running)
        elif strays:
            actions = self._surely_stray(actions, strays, running)
        holding = {(row.job_id, row.restart_count) for row in held}
        holding |= {task.owner for task in running if not task.foreign}
        holding |= unlaunched | ended
        self._pool.keep_only(holding, job_ids)
        if job_ids is None:
            self._steps.sweep(holding)
            self._watch_kept(running)
        if job_ids is None and self._sending.unsent:
            known = ended | {task.owner for task in running}
            self._sending.send_again(held, known, journal_intact=not hello.corrupt_lines)
        self._apply(actions)
        return actions

    def _surely_stray(
        self, actions: Sequence[Action], strays: Sequence[Kill], running: Sequence[RunningTask]
    ) -> list[Action]:
        """数据库还是那个，可读分配在看它之前：那时也许正在装入，内容不全。看清楚之后再读一遍，仍然没有的才是多余的。"""
        held = {(row.job_id, row.restart_count): row for row in self._held([stray.job_id for stray in strays])}
        ours = {
            (*task.owner, task.launch_id) for task in running if task.owner in held and held[task.owner].launched(task)
        }
        spared = {stray for stray in strays if (stray.job_id, stray.attempt, stray.launch_id) in ours}
        return [action for action in actions if action not in spared]

    def _surely_lost(self, actions: list[Action], *, unsure: bool) -> list[Action]:
        """读数据库与问牧守进程之间结束了、写成了、确认了的，两边都没有它：再读一遍，真的还占着的才算丢失。"""
        lost = [action.job_id for action in actions if isinstance(action, Lost)]
        if not lost:
            return actions
        held = () if unsure else self._held(lost)
        still = {(row.job_id, row.restart_count) for row in held}
        return [each for each in actions if not isinstance(each, Lost) or (each.job_id, each.attempt) in still]

    def _restore(self, row: HeldAllocation) -> None:
        """重新占住它的核与卡；数据库里别的作业也记着同一个的，说出来，不再接新的。"""
        owner = (row.job_id, row.restart_count)
        rivals = self._pool.restore(owner, row.cpu_ids, row.gres_ids or {}, row.relay_chain)
        if rivals:
            others = sorted({job_id for job_id, _ in rivals})
            logger.error("binding_conflict", extra={"job_id": row.job_id, "attempt": row.restart_count, "with": others})
            drain_node(self._engine, self._node, f"作业 {row.job_id} 与 {others} 记着同样的核或卡")

    def _face_strangers(
        self, actions: Sequence[Action], strays: Sequence[Kill], running: Sequence[RunningTask]
    ) -> list[Action]:
        """数据库换过了，这些进程它不认识：报告，再按设置杀掉或留着。留着的不再管，节点排空到它们结束。"""
        keep = self._context.settings.foreign_jobs == "keep"
        known = {(stray.job_id, stray.attempt, stray.launch_id): stray for stray in strays}
        for task in running:
            if (*task.owner, task.launch_id) in known:
                fields = {"job_id": task.job_id, "attempt": task.attempt, "step": task.step, "pid": task.pid}
                logger.warning(
                    "foreign_job", extra={"node": self._node, **fields, "action": "keep" if keep else "kill"}
                )
        self._memory.tell_jobs({stray.job_id for stray in strays}, killed=not keep)
        others = [action for action in actions if action not in strays]
        if not keep:
            message = "数据库恢复过，这个进程不属于现在的任何作业"
            return [*(replace(stray, message=message) for stray in strays), *others]
        self._client().disown(known)
        drain_node(self._engine, self._node, KEPT_REASON)
        return others

    def _watch_kept(self, running: Sequence[RunningTask]) -> None:
        """留着的外来作业都结束了，为它们排空的节点就恢复。"""
        kept = any(task.foreign for task in running)
        if not kept and self._kept is not False:
            undrain_node(self._engine, self._node, KEPT_REASON)
        self._kept = kept

    def _apply(self, actions: Sequence[Action]) -> None:
        launches = []
        for action in actions:
            match action:
                case Kill(job_id, attempt, cause, message, grace_s, launch_id):
                    self._client().kill([(job_id, attempt, launch_id)], cause=cause, message=message, grace_s=grace_s)
                case Lost(job_id, attempt, message, launch_id):
                    logger.error("job_lost", extra={"job_id": job_id, "attempt": attempt})
                    if self._memory.changed:
                        message = "数据库恢复到了从前：这个作业在备份之后已经结束，或没有了进程"
                    self._finisher.put([self._ends.make((job_id, attempt), launch_id, "unseen", message)])
                case Abandon(job_id):
                    with self._engine.begin() as connection:
                        abandoned = abandon_allocations(connection, self._node, [job_id])
                    for job in abandoned:
                        # 其余节点的份额随作业一起释放，只由运行脚本的节点来报结束。
                        if job.node_index == 0:
                            self._finisher.put([self._ends.unstarted(job)])
                case Suspend(job_id, attempt, launch_id):
                    self._client().suspend([(job_id, attempt, launch_id)])
                case Resume(job_id, attempt, launch_id):
                    self._client().resume([(job_id, attempt, launch_id)])
                case SetTimeLimit(job_id, attempt, limit_s, launch_id):
                    self._client().set_time_limit([(job_id, attempt, launch_id)], limit_s)
                case Launch(job_id):
                    launches.append(job_id)
        if launches:
            self._launches.launch(launches)

    def wait_for_strangers(self, wait_s: float) -> bool:
        """等到不属于本节点的进程都杀尽（不变量 7）；超时返回 False。"""
        deadline = time.monotonic() + wait_s
        while True:
            running = parse_running(self._client().state().running)
            if not any(task.cause == "stale" for task in running):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
