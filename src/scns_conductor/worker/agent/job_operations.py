"""对本节点的作业做事：认领并启动、核对并纠正、发信号、上报用量。全部在代理的控制线程里，一件一件来，没有竞争。"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Engine

from scns_conductor.core.job_token import token_digest
from scns_conductor.statements.answers import answer_insert, notify_answer
from scns_conductor.statements.claims import (
    ClaimedJob,
    abandon_allocations,
    claim_allocations,
    record_bindings,
    unclaim_allocations,
)
from scns_conductor.statements.node_jobs import RECORD_PROCESSES, RECORD_USAGE
from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.database_memory import DatabaseMemory
from scns_conductor.worker.agent.end_causes import cause_of_request
from scns_conductor.worker.agent.finisher import Finisher
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.agent.output_folders import OutputFolders
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.agent.prolog import RunningPrograms, program_environment, run_program
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
    held_allocations,
    parse_running,
)
from scns_conductor.worker.agent.registration import drain_node, undrain_node
from scns_conductor.worker.agent.shepherd_client import ShepherdError
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.step_launches import JobSteps
from scns_conductor.worker.host.thread_owner import Lanes
from scns_conductor.worker.wire.bus_messages import LaunchStep
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import ATTACH_SIGNAL, LaunchSpec, split_key
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer, Named
from scns_conductor.worker.wire.step_spec import ClientAddress

PROLOGS_MOST = 16
# 核、卡还没有空出来（前一个作业的结束正在提交，多节点作业的别处刚结束）：隔这么久再看一次。
AGAIN_S = 0.2
# 核等这么久之后不绑核也启动；卡等这么久还没有的是节点的错。
CORES_WAIT_S = 2.0
CARDS_WAIT_S = 60.0
KEPT_REASON = "有不属于现在的数据库的作业还在运行（foreign_jobs = keep），它们都结束后自动恢复"
# 牧守进程那里至多排着几批启动，再加正在启动的一批。
IN_FLIGHT_MOST = 1

logger = logging.getLogger(__name__)


class JobControl:
    """client 取当前的牧守进程连接；enqueue 把一件事排到控制线程。boot_time 是数据库时钟下的开机时刻。"""

    def __init__(
        self,
        engine: Engine,
        context: LaunchContext,
        pool: CorePool,
        finisher: Finisher,
        *,
        boot_id: str,
        boot_time: Callable[[], float],
        memory: DatabaseMemory,
        client: Callable[[], ShepherdSet],
        enqueue: Callable[[Callable[[], object]], None],
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._context = context
        self._pool = pool
        self._finisher = finisher
        self._ends = OwnEnds(boot_id)
        self._boot_time = boot_time
        self._memory = memory
        self._client = client
        self._enqueue = enqueue
        # 留着的外来作业；None 是还没有看过。
        self._kept: bool | None = None
        self._node = context.node.node_name
        # 在等目录、在跑 prolog 的；备好了、还要问一次数据库才送的。
        self._preparing: dict[tuple[int, int], str] = {}
        self._prepared: dict[tuple[int, int], LaunchSpec] = {}
        # 等核、卡空出来的，从何时等起；它们没有认领。
        self._roomless: dict[tuple[int, int], float] = {}
        self._again_at = 0.0
        # 认领了、还没有得到牧守进程答复的启动：连接断了，核对时再送一遍。
        self._unsent: dict[tuple[int, int], LaunchSpec] = {}
        # 送去了、还没有看过答复的：哪条连接，请求号，有哪些。
        self._in_flight: deque[tuple[ShepherdSet, int, list[tuple[int, int]]]] = deque()
        self.steps = JobSteps(engine, context, pool)
        self._reported: dict[tuple[int, int], int] = {}
        self._prologs = Lanes("prolog", most=PROLOGS_MOST)
        self._running_programs = RunningPrograms()
        self._folders = OutputFolders(enqueue, self._folders_ready)

    def give_back_unstarted(self) -> None:
        """要停下了：认领了、还在等目录或 prolog 的交还给队列；正在跑的 prolog 就此结束，不再看目录。"""
        self._folders.close()
        self._prologs.close()
        message = f"节点 {self._node} 的代理停下了，作业还没有启动"
        self._finisher.put([self._ends.make(owner, None, "give_back", message) for owner in self._preparing])
        self._preparing.clear()
        self._prepared.clear()
        self._running_programs.stop()

    def due_s(self) -> float | None:
        """还有几秒要做一次 tick；没有要等的返回 None。"""
        folders_s = self._folders.due_s()
        if not self._roomless and not self._prepared:
            return folders_s
        again_s = max(0.0, self._again_at - time.monotonic())
        return again_s if folders_s is None else min(again_s, folders_s)

    def tick(self) -> None:
        """等够了的：不答话的目录、上次没有问成数据库的、还没有等到核与卡的。"""
        self._folders.expire()
        if time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + AGAIN_S
        self._launch_prepared()
        if self._roomless:
            # 多节点作业在别处结束的，只有数据库知道；核对会归还，再启动没有认领的。
            self.sync(None)

    def room_made(self) -> None:
        """有核、卡归还了（任何线程）：等着的再试一次。"""
        if self._roomless:
            self._enqueue(lambda: self.launch([job_id for job_id, _ in self._roomless]))

    # ---- 启动 ----

    def launch(self, job_ids: Sequence[int]) -> None:
        """认领并启动。认领与绑核在一个事务里；启动失败的由牧守进程报结束，被拒的由这里报。"""
        specs: list[LaunchSpec] = []
        refused: list[EndRecord] = []
        bindings = []
        roomless: list[ClaimedJob] = []
        # 没有核、卡、令牌要记的节点只有认领这一条语句，自成一个事务。
        records = self._pool.binds or self._context.token_secret is not None
        with self._engine.begin() if records else self._single.connect() as connection:
            claimed = claim_allocations(connection, self._node, job_ids)
            for job in claimed:
                owner = (job.job_id, job.restart_count)
                binding = self._bind(job)
                if binding is None:
                    if self._waited_s(owner) < CARDS_WAIT_S:
                        roomless.append(job)
                    else:
                        message = f"节点 {self._node} 上没有空闲的 {job.gres}，而数据库说有"
                        refused.append(self._refused(job, message, on_node=True))
                    continue
                token = self._context.token(job)
                if binding.cpu_ids is not None or binding.gres_ids or token is not None:
                    digest = token_digest(token) if token is not None else None
                    bindings.append((job.allocation_id, binding.cpu_ids, binding.gres_ids, digest))
                if not job.runs_here:
                    continue
                try:
                    specs.append(self._context.plan(job, binding))
                except LaunchRefused as error:
                    refused.append(self._refused(job, str(error)))
                except Exception as error:  # 一行写不成说明的作业，不能连累同一批里别的作业，更不能带走代理
                    logger.exception("launch_plan_failed", extra={"node": self._node, "job_id": job.job_id})
                    refused.append(self._refused(job, f"写不成启动说明：{error}"))
            unclaim_allocations(connection, [job.allocation_id for job in roomless])
            record_bindings(connection, bindings)
        self._memory.claimed(job.job_id for job in claimed)
        self._note_roomless(claimed, roomless)
        self._finisher.put(refused)
        self._start(specs, {(job.job_id, job.restart_count): job for job in claimed})
        for end in refused:
            if end.on_node:
                drain_node(self._engine, self._node, end.message or "")

    def _refused(self, job: ClaimedJob, message: str, *, on_node: bool = False) -> EndRecord:
        """认领了而启动不了的结束。"""
        owner = (job.job_id, job.restart_count)
        return self._ends.make(owner, job.launch_id, "launch_failed", message, on_node=on_node)

    def _bind(self, job: ClaimedJob) -> Binding | None:
        """它的核与卡；还没有空出来的是 None。

        数据库里的份额在提交时释放，这里的随后才归还：新的启动可能恰好赶在中间。正要归还的够它用就等一等，
        别的缺核（抢占而挂起的还占着）照旧不绑核。
        """
        owner = (job.job_id, job.restart_count)
        binding = self._pool.take(owner, job.cpus, job.gres, unbound=False)
        if binding is not None:
            return binding
        coming = self._pool.cores_within(self._finisher.pending()) >= job.cpus
        unbound = not coming or self._waited_s(owner) >= CORES_WAIT_S
        return self._pool.take(owner, job.cpus, job.gres, unbound=unbound)

    def _waited_s(self, owner: tuple[int, int]) -> float:
        since = self._roomless.get(owner)
        return 0.0 if since is None else time.monotonic() - since

    def _note_roomless(self, claimed: Sequence[ClaimedJob], roomless: Sequence[ClaimedJob]) -> None:
        waiting = {(job.job_id, job.restart_count) for job in roomless}
        for job in claimed:
            owner = (job.job_id, job.restart_count)
            if owner not in waiting:
                self._roomless.pop(owner, None)
            elif owner not in self._roomless:
                self._roomless[owner] = time.monotonic()
                logger.warning(
                    "launch_waits_for_room", extra={"job_id": job.job_id, "cpus": job.cpus, "gres": job.gres}
                )

    def _start(self, specs: list[LaunchSpec], jobs: dict[tuple[int, int], ClaimedJob]) -> None:
        """都备好的这就送去启动；要先看目录、先运行 prolog 的，好了再送。"""
        ready = [spec for spec in specs if self._folders.known(spec)]
        known = {(spec.job_id, spec.attempt) for spec in ready}
        if self._context.settings.task_prolog is not None:
            self._preparing |= {
                (spec.job_id, spec.attempt): jobs[spec.job_id, spec.attempt].user_name for spec in ready
            }
            self._folders_ready(ready)
        else:
            self._send(ready)
        for spec in specs:
            owner = (spec.job_id, spec.attempt)
            if owner not in known:
                self._preparing[owner] = jobs[owner].user_name
                self._folders.look(spec)

    def _folders_ready(self, specs: list[LaunchSpec]) -> None:
        """目录看过了：有 prolog 的去运行，没有的可以送了。"""
        program = self._context.settings.task_prolog
        if program is None:
            self._prepared |= {(spec.job_id, spec.attempt): spec for spec in specs}
            self._launch_prepared()
            return
        for spec in specs:
            owner = (spec.job_id, spec.attempt)
            environment = program_environment(spec.job_id, self._preparing[owner], spec.uid, self._node)

            def run(spec: LaunchSpec = spec, environment: dict[str, str] = environment) -> None:
                failure = run_program(program, environment, self._running_programs)
                self._enqueue(lambda: self._after_prolog(spec, failure))

            self._prologs.submit(owner, run)

    def _after_prolog(self, spec: LaunchSpec, failure: str | None) -> None:
        owner = (spec.job_id, spec.attempt)
        if failure is not None:
            self._preparing.pop(owner, None)
            self._prolog_failed(spec, failure)
            return
        self._prepared[owner] = spec
        self._launch_prepared()

    def _launch_prepared(self) -> None:
        """备好了的：准备期间也许有人要求结束，问一次数据库；没有问成的留着，tick 再问。"""
        if not self._prepared:
            return
        rows = {
            (row.job_id, row.restart_count, row.launch_id): row
            for row in self._held([job_id for job_id, _ in self._prepared])
        }
        prepared, self._prepared = self._prepared, {}
        ready = []
        for owner, spec in prepared.items():
            self._preparing.pop(owner, None)
            row = rows.get((*owner, spec.launch_id))
            if row is None:
                continue
            if row.requested_end_state is not None:
                self._end_unstarted(row.job_id, row.restart_count, row.requested_end_state, row.launch_id)
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

    def _send(self, specs: Sequence[LaunchSpec]) -> None:
        """送去启动，只等上一批的答复：这一批在启动的时候，认领下一批。"""
        if not specs:
            return
        owners = {(spec.job_id, spec.attempt): spec for spec in specs}
        self._unsent |= owners
        client = self._client()
        self._in_flight.append((client, client.begin_launch(specs), list(owners)))
        self.settle(IN_FLIGHT_MOST)

    def settle(self, most: int = 0) -> None:
        """等在途的启动有了答复，至多剩 most 批。对作业做别的事之前都要等齐：还没有启动的，牧守进程会说没有。"""
        while len(self._in_flight) > most:
            client, request_id, owners = self._in_flight.popleft()
            if client is self._client():
                self._refuse(self._launched(client, request_id, owners))
                for owner in owners:
                    self._unsent.pop(owner, None)

    def _launched(self, client: ShepherdSet, request_id: int, owners: Sequence[tuple[int, int]]) -> list[LaunchAnswer]:
        """启动的答复。旧的牧守进程遇到一份坏的说明就整批拒收：一份一份地再送，坏的只有它自己。"""
        try:
            return client.launched(request_id)
        except ShepherdError as error:
            if error.code != "bad_request":
                raise
        answers: list[LaunchAnswer] = []
        for owner in owners:
            spec = self._unsent[owner]
            try:
                answers.extend(client.launch([spec]))
            except ShepherdError as error:
                answers.append(LaunchAnswer(key=spec.key, state="refused", error=str(error)))
        return answers

    def _refuse(self, answers: Iterable[LaunchAnswer]) -> None:
        """牧守进程拒收的：重新排队并保留，别处也许收（多半是这里的牧守进程版本旧）。"""
        for answer in answers:
            if answer.state == "refused":
                logger.error("launch_refused", extra={"node": self._node, "key": answer.key, "error": answer.error})
                message = f"节点 {self._node} 的牧守进程拒收启动说明：{answer.error}"
                job_id, attempt, _, launch_id = split_key(answer.key)
                owner = (job_id, attempt)
                end = self._ends.make(owner, launch_id, "launch_failed", message, on_node=True, hold=True)
                self._finisher.put([end])

    def _settled(self) -> ShepherdSet:
        self.settle()
        return self._client()

    def _send_again(self, held: Sequence[HeldAllocation], known: set[tuple[int, int]], *, journal_intact: bool) -> None:
        """牧守进程死在启动途中：它的日志里没有、数据库里仍在运行的才再送，所以不会启动两次。

        日志坏过就不敢断定没有启动过，留给核对按丢失处理。
        """
        unsent, self._unsent = self._unsent, {}
        wanted = {
            (row.job_id, row.restart_count)
            for row in held
            if row.claimed and row.restart_count == row.current_attempt and row.requested_end_state is None
        }
        if journal_intact:
            self._send([spec for owner, spec in unsent.items() if owner in wanted and owner not in known])

    def _end_unstarted(self, job_id: int, attempt: int, requested: str, launch_id: int | None) -> None:
        cause = cause_of_request(requested)
        self._finisher.put([self._ends.make((job_id, attempt), launch_id, cause)])

    # ---- 核对 ----

    def _held(self, job_ids: Sequence[int] | None) -> list[HeldAllocation]:
        with self._engine.connect() as connection:
            return held_allocations(connection, self._node, job_ids, self._boot_time())

    def sync(self, job_ids: Sequence[int] | None) -> list[Action]:
        """按数据库纠正这些作业（None 表示全部），返回做了什么。先读数据库再问牧守进程：

        中间结束的会被当成丢失，但写结束的语句只认仍在运行的当前尝试，所以无害。
        """
        self.settle()
        self._pool.note_returns()
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
            self._roomless = {owner: since for owner, since in self._roomless.items() if owner in unclaimed}
        # 多节点作业在别的节点上结束，本节点不经手：已经释放的份额在这里归还。
        actions = decide(held, running, ended, self._preparing.keys() | set(self._unsent))
        strays = [action for action in actions if isinstance(action, Kill) and action.cause == STALE]
        # 要杀、要判丢失之前先看清楚：眼前的还是不是原来那个数据库。
        doubtful = strays or any(isinstance(action, Lost) for action in actions)
        if doubtful and self._memory.has_changed() and strays:
            actions = self._face_strangers(actions, strays, running)
        holding = {(row.job_id, row.restart_count) for row in held}
        holding |= {task.owner for task in running if not task.foreign}
        holding |= self._preparing.keys() | set(self._unsent) | ended
        self._pool.keep_only(holding, job_ids)
        if job_ids is None:
            self.steps.sweep(holding)
            self._watch_kept(running)
        if job_ids is None and self._unsent:
            known = ended | {task.owner for task in running}
            self._send_again(held, known, journal_intact=not hello.corrupt_lines)
        self._apply(actions)
        return actions

    def _restore(self, row: HeldAllocation) -> None:
        """重新占住它的核与卡；数据库里别的作业也记着同一个的，说出来，不再接新的。"""
        owner = (row.job_id, row.restart_count)
        rivals = self._pool.restore(owner, row.cpu_ids, row.gres_ids or {})
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
                            self._end_unstarted(job.job_id, job.restart_count, job.requested_end_state, job.launch_id)
                case Suspend(job_id, attempt, launch_id):
                    self._client().suspend([(job_id, attempt, launch_id)])
                case Resume(job_id, attempt, launch_id):
                    self._client().resume([(job_id, attempt, launch_id)])
                case SetTimeLimit(job_id, attempt, limit_s, launch_id):
                    self._client().set_time_limit([(job_id, attempt, launch_id)], limit_s)
                case Launch(job_id):
                    launches.append(job_id)
        if launches:
            self.launch(launches)

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

    # ---- 作业步 ----

    def launch_step(self, request: LaunchStep) -> None:
        """启动作业步在本节点上的那一份；同一个键只启动一次，所以消息可以再送。"""
        try:
            spec = self.steps.plan(request)
        except (LaunchRefused, OSError, KeyError, TypeError, ValueError) as error:
            self.steps.refuse(request, str(error))
            return
        try:
            refused = [answer.error for answer in self._settled().launch([spec]) if answer.state == "refused"]
        except ShepherdError as error:
            refused = [str(error)]
        if refused:
            self.steps.refuse(request, f"节点 {self._node} 的牧守进程拒收启动说明：{refused[0]}")

    def attach_step(self, job_id: int, attempt: int, step_id: int, client: ClientAddress) -> None:
        """请作业步的主人再连一个客户：说明写在文件里，用信号告诉它。"""
        self.steps.leave_attachment(job_id, attempt, step_id, client)
        self._settled().signal([(job_id, attempt)], ATTACH_SIGNAL, f"step:{step_id}")

    def signal_step(self, job_id: int, attempt: int, step_id: int, number: int) -> None:
        """给作业步的任务发信号；SIGKILL 连同它的主人一起结束。"""
        self._settled().signal([(job_id, attempt)], number, f"step:{step_id}")

    def answer_sampled(self, request_id: str) -> None:
        """采样一次并回答：写好了。"""
        self.report_usage()
        with self._engine.begin() as connection:
            connection.execute(answer_insert(request_id, {"node": self._node}))
            connection.execute(notify_answer(request_id))

    # ---- 信号与上报 ----

    def signal(self, jobs: Sequence[Named], number: int, target: str) -> None:
        """给这些作业发信号。"""
        self._settled().signal(jobs, number, target)

    def report_processes(self) -> None:
        """把仍在运行的作业的进程号写进数据库；一闪而过的作业不值得写。"""
        running = {
            (task.job_id, task.attempt): task.pid
            for task in parse_running(self._settled().state().running)
            if task.step in ("batch", "extern") and task.pid is not None and not task.foreign
        }
        fresh = [(owner, pid) for owner, pid in running.items() if self._reported.get(owner) != pid]
        if fresh:
            with self._engine.begin() as connection:
                connection.execute(
                    RECORD_PROCESSES,
                    {
                        "node": self._node,
                        "job_id": [owner[0] for owner, _ in fresh],
                        "attempt": [owner[1] for owner, _ in fresh],
                        "pid": [pid for _, pid in fresh],
                    },
                )
        self._reported = running

    def report_usage(self) -> None:
        """把采样到的用量写进数据库，作业与作业步的。"""
        samples = self._settled().stats()
        jobs = samples.jobs
        self.steps.record_usage(samples.steps or [])
        if not jobs:
            return
        names = ("user_s", "system_s", "max_rss_kb", "read_bytes", "written_bytes")
        values: dict[str, list[Any]] = {name: [getattr(job.usage, name) for job in jobs] for name in names}
        values["job_id"] = [job.job_id for job in jobs]
        values["attempt"] = [job.attempt for job in jobs]
        with self._engine.begin() as connection:
            connection.execute(RECORD_USAGE, values)
