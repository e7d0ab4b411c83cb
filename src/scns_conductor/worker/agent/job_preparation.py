"""启动之前要备好的：输出的目录看得见了，管理员的 prolog 做完了。都在控制线程里；看目录、跑 prolog 的各有线程。"""

import logging
from collections.abc import Callable, Sequence

from sqlalchemy.engine import Engine

from scns_conductor.statements.claims import ClaimedJob
from scns_conductor.worker.agent.finisher import Finisher
from scns_conductor.worker.agent.launch_plan import LaunchContext
from scns_conductor.worker.agent.output_folders import OutputFolders
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.agent.prolog import program_environment
from scns_conductor.worker.agent.reconcile import HeldAllocation
from scns_conductor.worker.agent.registration import drain_node
from scns_conductor.worker.host.program import RunningPrograms, run_program
from scns_conductor.worker.host.thread_owner import Lanes
from scns_conductor.worker.wire.launch_spec import LaunchSpec

PROLOGS_MOST = 16

logger = logging.getLogger(__name__)


class JobPreparation:
    """preparing 是在等目录、在跑 prolog 的（与作业的用户）；prepared 是备好了、还要问一次数据库才送的。

    held 读数据库里这些作业的分配；send 送去启动；enqueue 把一件事排到控制线程。
    """

    def __init__(
        self,
        engine: Engine,
        context: LaunchContext,
        finisher: Finisher,
        ends: OwnEnds,
        *,
        held: Callable[[Sequence[int] | None], list[HeldAllocation]],
        send: Callable[[Sequence[LaunchSpec]], None],
        enqueue: Callable[[Callable[[], object]], None],
    ) -> None:
        self.preparing: dict[tuple[int, int], str] = {}
        self.prepared: dict[tuple[int, int], LaunchSpec] = {}
        self._engine = engine
        self._context = context
        self._node = context.node.node_name
        self._finisher = finisher
        self._ends = ends
        self._held = held
        self._send = send
        self._enqueue = enqueue
        self._prologs = Lanes("prolog", most=1 if context.settings.prolog_serial else PROLOGS_MOST)
        self._running_programs = RunningPrograms(context.settings.spool_path)
        self._folders = OutputFolders(enqueue, self._folders_ready)

    def due_s(self) -> float | None:
        """还有几秒要看一次不答话的目录；没有在等的返回 None。"""
        return self._folders.due_s()

    def expire(self) -> None:
        """等够了的目录不再等。"""
        self._folders.expire()

    def start(self, specs: list[LaunchSpec], jobs: dict[tuple[int, int], ClaimedJob]) -> None:
        """都备好的这就送去启动；要先看目录、先运行 prolog 的，好了再送。"""
        ready = [spec for spec in specs if self._folders.known(spec)]
        known = {(spec.job_id, spec.attempt) for spec in ready}
        if self._context.settings.task_prolog is not None:
            self.preparing |= {(spec.job_id, spec.attempt): jobs[spec.job_id, spec.attempt].user_name for spec in ready}
            self._folders_ready(ready)
        else:
            self._send(ready)
        for spec in specs:
            owner = (spec.job_id, spec.attempt)
            if owner not in known:
                self.preparing[owner] = jobs[owner].user_name
                self._folders.look(spec)

    def _folders_ready(self, specs: list[LaunchSpec]) -> None:
        """目录看过了：有 prolog 的去运行，没有的可以送了。"""
        program = self._context.settings.task_prolog
        if program is None:
            self.prepared |= {(spec.job_id, spec.attempt): spec for spec in specs}
            self.launch_prepared()
            return
        for spec in specs:
            owner = (spec.job_id, spec.attempt)
            environment = program_environment(spec.job_id, self.preparing[owner], spec.uid, self._node)

            def run(spec: LaunchSpec = spec, environment: dict[str, str] = environment) -> None:
                timeout_s = self._context.settings.prolog_epilog_timeout_s
                failure = run_program([str(program)], environment, timeout_s, self._running_programs)
                self._enqueue(lambda: self._after_prolog(spec, failure))

            self._prologs.submit(owner, run)

    def _after_prolog(self, spec: LaunchSpec, failure: str | None) -> None:
        owner = (spec.job_id, spec.attempt)
        if failure is not None:
            self.preparing.pop(owner, None)
            self._prolog_failed(spec, failure)
            return
        self.prepared[owner] = spec
        self.launch_prepared()

    def launch_prepared(self) -> None:
        """备好了的：准备期间也许有人要求结束，问一次数据库；没有问成的留着，tick 再问。"""
        if not self.prepared:
            return
        rows = {
            (row.job_id, row.restart_count, row.launch_id): row
            for row in self._held([job_id for job_id, _ in self.prepared])
        }
        prepared, self.prepared = self.prepared, {}
        ready = []
        for owner, spec in prepared.items():
            self.preparing.pop(owner, None)
            row = rows.get((*owner, spec.launch_id))
            if row is None:
                continue
            if row.requested_end_state is not None:
                self._finisher.put([self._ends.unstarted(row)])
            else:
                ready.append(spec)
        self._send(ready)

    def _prolog_failed(self, spec: LaunchSpec, failure: str) -> None:
        """同 Slurm：节点排空，作业重新排队并保留（nohold_on_prolog_fail 则不保留，去别的节点再试一次）。"""
        message = f"节点 {self._node} 的 prolog 失败：{failure}"
        logger.error("prolog_failed", extra={"node": self._node, "job_id": spec.job_id, "error": failure})
        hold = not self._context.settings.nohold_on_prolog_fail
        owner = (spec.job_id, spec.attempt)
        end = self._ends.make(owner, spec.launch_id, "launch_failed", message, on_node=True, hold=hold)
        try:
            # 先排空：回到队列的作业不会又放到这里来。
            drain_node(self._engine, self._node, f"作业 {spec.job_id} 的 prolog 失败：{failure}", job_id=spec.job_id)
        finally:
            self._finisher.put([end])

    def give_back(self, others: Sequence[tuple[int, int]]) -> None:
        """要停下了：others 与认领了、还在等目录或 prolog 的交还给队列；正在跑的 prolog 就此结束，不再看目录。"""
        self._folders.close()
        self._prologs.close()
        message = f"节点 {self._node} 的代理停下了，作业还没有启动"
        self._finisher.put([self._ends.make(owner, None, "give_back", message) for owner in (*others, *self.preparing)])
        self.preparing.clear()
        self.prepared.clear()
        self._running_programs.stop()
