"""对本节点的作业做事：认领并启动、核对并纠正、发信号、上报用量。全部在代理的控制线程里，一件一件来，没有竞争。"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from scns_conductor.core.job_token import token_digest
from scns_conductor.core.statements import answer_insert, notify_answer
from scns_conductor.worker.claim import ClaimedJob, abandon_allocations, claim_allocations, record_bindings
from scns_conductor.worker.core_binding import CorePool
from scns_conductor.worker.database_memory import DatabaseMemory
from scns_conductor.worker.finish import Finisher, own_end
from scns_conductor.worker.job_steps import JobSteps, StepRequest
from scns_conductor.worker.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.launch_spec import LaunchSpec
from scns_conductor.worker.prolog import FOLDER_WAIT_S, missing_folders, output_folders, prepare, program_environment
from scns_conductor.worker.recovery import (
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
from scns_conductor.worker.registration import drain_node, undrain_node
from scns_conductor.worker.shepherd_client import ShepherdClient
from scns_conductor.worker.step_process import ATTACH_SIGNAL

PROLOG_THREADS = 4
KEPT_REASON = "有不属于现在的数据库的作业还在运行（foreign_jobs = keep），它们都结束后自动恢复"
# 牧守进程那里至多排着几批启动，再加正在启动的一批。
IN_FLIGHT_MOST = 1
_CANCEL_CAUSES = {"PREEMPTED": "preempt", "DEADLINE": "deadline", "PENDING": "requeue"}

logger = logging.getLogger(__name__)

_RECORD_PROCESSES = sa.text(
    """
    WITH running AS (
      SELECT * FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:pid AS integer[]))
      AS r(job_id, attempt, pid)
    ),
    allocation AS (
      UPDATE resource_allocations AS a SET process_id = r.pid FROM running AS r
      WHERE a.job_id = r.job_id AND a.restart_count = r.attempt AND a.node_name = :node AND a.released_at IS NULL
    )
    UPDATE jobs AS j SET process_id = r.pid FROM running AS r
    WHERE j.job_id = r.job_id AND j.restart_count = r.attempt AND j.state IN ('RUNNING', 'SUSPENDED')
    """
)

# 采样值只增不减：进程退出后采样会变小，最终值在结束时写。
_RECORD_USAGE = sa.text(
    """
    UPDATE jobs AS j SET
      cpu_user_s = greatest(j.cpu_user_s, u.user_s), cpu_system_s = greatest(j.cpu_system_s, u.system_s),
      max_rss_kb = greatest(j.max_rss_kb, u.max_rss_kb), read_bytes = greatest(j.read_bytes, u.read_bytes),
      written_bytes = greatest(j.written_bytes, u.written_bytes)
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:user_s AS double precision[]),
      CAST(:system_s AS double precision[]), CAST(:max_rss_kb AS bigint[]), CAST(:read_bytes AS bigint[]),
      CAST(:written_bytes AS bigint[]))
      AS u(job_id, attempt, user_s, system_s, max_rss_kb, read_bytes, written_bytes)
    WHERE j.job_id = u.job_id AND j.restart_count = u.attempt AND j.state IN ('RUNNING', 'SUSPENDED')
    """
)


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
        client: Callable[[], ShepherdClient],
        enqueue: Callable[[Callable[[], object]], None],
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._context = context
        self._pool = pool
        self._finisher = finisher
        self._boot_id = boot_id
        self._boot_time = boot_time
        self._memory = memory
        self._client = client
        self._enqueue = enqueue
        # 留着的外来作业；None 是还没有看过。
        self._kept: bool | None = None
        self._node = context.node.node_name
        self._preparing: set[tuple[int, int]] = set()
        # 认领了、还没有得到牧守进程答复的启动：连接断了，核对时再送一遍。
        self._unsent: dict[tuple[int, int], LaunchSpec] = {}
        # 送去了、还没有看过答复的：哪条连接，请求号，有哪些。
        self._in_flight: deque[tuple[ShepherdClient, int, list[tuple[int, int]]]] = deque()
        self.steps = JobSteps(engine, context, pool)
        self._reported: dict[tuple[int, int], int] = {}
        self._prologs = ThreadPoolExecutor(PROLOG_THREADS, thread_name_prefix="prolog")

    def close(self) -> None:
        """不再接受新的 prolog；正在跑的跑完为止。"""
        self._prologs.shutdown(wait=False, cancel_futures=True)

    # ---- 启动 ----

    def launch(self, job_ids: Sequence[int]) -> None:
        """认领并启动。认领与绑核在一个事务里；启动失败的由牧守进程报结束，被拒的由这里报。"""
        specs: list[LaunchSpec] = []
        refused: list[dict[str, Any]] = []
        bindings = []
        # 没有核、卡、令牌要记的节点只有认领这一条语句，自成一个事务。
        records = self._pool.binds or self._context.token_secret is not None
        with self._engine.begin() if records else self._single.connect() as connection:
            claimed = claim_allocations(connection, self._node, job_ids)
            for job in claimed:
                owner = (job.job_id, job.restart_count)
                binding = self._pool.take(owner, job.cpus, job.gres)
                token = self._context.token(job)
                if binding.cpu_ids is not None or binding.gres_ids or token is not None:
                    digest = token_digest(token) if token is not None else None
                    bindings.append((job.allocation_id, binding.cpu_ids, binding.gres_ids, digest))
                if not job.runs_here:
                    continue
                try:
                    specs.append(self._context.plan(job, binding))
                except LaunchRefused as error:
                    refused.append(
                        own_end(*owner, "launch_failed", str(error), boot_id=self._boot_id, launch_id=job.launch_id)
                    )
            record_bindings(connection, bindings)
        self._memory.claimed(job.job_id for job in claimed)
        self._finisher.put(refused)
        self._start(specs, {(job.job_id, job.restart_count): job for job in claimed})

    def _start(self, specs: list[LaunchSpec], jobs: dict[tuple[int, int], ClaimedJob]) -> None:
        """都备好的这就送去启动；要先等输出目录、先运行 prolog 的，好了再送。"""
        program, missing = self._context.settings.task_prolog, missing_folders(specs)
        ready = []
        for spec in specs:
            owner = (spec.job_id, spec.attempt)
            folders = missing & output_folders(spec)
            if program is None and not folders:
                ready.append(spec)
                continue
            self._preparing.add(owner)
            environment = program_environment(spec.job_id, jobs[owner].user_name, spec.uid, self._node)
            deadline = time.monotonic() + FOLDER_WAIT_S
            future = self._prologs.submit(prepare, folders, deadline, program, environment)
            future.add_done_callback(
                lambda done, spec=spec: self._enqueue(lambda: self._after_prolog(spec, done.result()))  # type: ignore[misc]
            )
        self._send(ready)

    def _after_prolog(self, spec: LaunchSpec, failure: str | None) -> None:
        owner = (spec.job_id, spec.attempt)
        if failure is not None:
            self._preparing.discard(owner)
            drain_node(self._engine, self._node, f"prolog 失败：{failure}")
            message = f"节点 {self._node} 的 prolog 失败：{failure}"
            end = own_end(
                *owner, "launch_failed", message, boot_id=self._boot_id, on_node=True, launch_id=spec.launch_id
            )
            self._finisher.put([end])
            return
        rows = self._held([spec.job_id])
        self._preparing.discard(owner)
        row = next(
            (row for row in rows if (row.job_id, row.restart_count, row.launch_id) == (*owner, spec.launch_id)), None
        )
        if row is None:
            return
        if row.requested_end_state is not None:
            self._end_unstarted(row.job_id, row.restart_count, row.requested_end_state, row.launch_id)
            return
        self._send([spec])

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
                client.launched(request_id)
                for owner in owners:
                    self._unsent.pop(owner, None)

    def _settled(self) -> ShepherdClient:
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
        cause = _CANCEL_CAUSES.get(requested, "cancel")
        self._finisher.put([own_end(job_id, attempt, cause, None, boot_id=self._boot_id, launch_id=launch_id)])

    # ---- 核对 ----

    def _held(self, job_ids: Sequence[int] | None) -> list[HeldAllocation]:
        with self._engine.connect() as connection:
            return held_allocations(connection, self._node, job_ids, self._boot_time())

    def sync(self, job_ids: Sequence[int] | None) -> list[Action]:
        """按数据库纠正这些作业（None 表示全部），返回做了什么。先读数据库再问牧守进程：

        中间结束的会被当成丢失，但写结束的语句只认仍在运行的当前尝试，所以无害。
        """
        self.settle()
        held = self._held(job_ids)
        hello = self._client().hello(attach=False)
        running = parse_running(hello["running"])
        ended = {_owner_of(key) for key in hello["unacknowledged"]} | self._finisher.pending()
        if job_ids is not None:
            chosen = set(job_ids)
            running = [task for task in running if task.job_id in chosen]
        else:
            for row in held:
                if row.claimed and (row.cpu_ids is not None or row.gres_ids):
                    self._pool.restore((row.job_id, row.restart_count), row.cpu_ids, row.gres_ids or {})
        # 多节点作业在别的节点上结束，本节点不经手：已经释放的份额在这里归还。
        actions = decide(held, running, ended, self._preparing | set(self._unsent))
        strays = [action for action in actions if isinstance(action, Kill) and action.cause == STALE]
        # 要杀、要判丢失之前先看清楚：眼前的还是不是原来那个数据库。
        doubtful = strays or any(isinstance(action, Lost) for action in actions)
        if doubtful and self._memory.has_changed() and strays:
            actions = self._face_strangers(actions, strays, running)
        holding = {(row.job_id, row.restart_count) for row in held}
        holding |= {task.owner for task in running if not task.foreign}
        holding |= self._preparing | set(self._unsent) | ended
        self._pool.keep_only(holding, job_ids)
        if job_ids is None:
            self.steps.sweep(holding)
            self._watch_kept(running)
        if job_ids is None and self._unsent:
            known = ended | {task.owner for task in running}
            self._send_again(held, known, journal_intact=not hello["corrupt_lines"])
        self._apply(actions)
        return actions

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
                    end = own_end(job_id, attempt, "unseen", message, boot_id=self._boot_id, launch_id=launch_id)
                    self._finisher.put([end])
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
            running = parse_running(self._client().hello(attach=False)["running"])
            if not any(task.cause == "stale" for task in running):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)

    # ---- 作业步 ----

    def launch_step(self, request: StepRequest) -> None:
        """启动作业步在本节点上的那一份；同一个键只启动一次，所以消息可以再送。"""
        try:
            spec = self.steps.plan(request)
        except (LaunchRefused, OSError) as error:
            self.steps.refuse(request, str(error))
            return
        self._settled().launch([spec])

    def attach_step(self, job_id: int, attempt: int, step_id: int, connection: dict[str, Any]) -> None:
        """请作业步的主人再连一个客户：说明写在文件里，用信号告诉它。"""
        self.steps.leave_attachment(job_id, attempt, step_id, connection)
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

    def signal(self, jobs: Iterable[Sequence[int | None]], number: int, target: str) -> None:
        """发信号；jobs 是 [作业号, 尝试或 null]。"""
        pairs = [(int(job[0] or 0), job[1] if len(job) > 1 else None) for job in jobs]
        self._settled().signal(pairs, number, target)

    def report_processes(self) -> None:
        """把仍在运行的作业的进程号写进数据库；一闪而过的作业不值得写。"""
        running = {
            (task.job_id, task.attempt): task.pid
            for task in parse_running(self._settled().hello(attach=False)["running"])
            if task.step in ("batch", "extern") and task.pid is not None and not task.foreign
        }
        fresh = [(owner, pid) for owner, pid in running.items() if self._reported.get(owner) != pid]
        if fresh:
            with self._engine.begin() as connection:
                connection.execute(
                    _RECORD_PROCESSES,
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
        jobs, steps = self._settled().stats()
        self.steps.record_usage(steps)
        if not jobs:
            return
        names = ("user_s", "system_s", "max_rss_kb", "read_bytes", "written_bytes")
        values: dict[str, list[Any]] = {name: [job["usage"][name] for job in jobs] for name in names}
        values["job_id"] = [job["job_id"] for job in jobs]
        values["attempt"] = [job["attempt"] for job in jobs]
        with self._engine.begin() as connection:
            connection.execute(_RECORD_USAGE, values)


def _owner_of(key: str) -> tuple[int, int]:
    job_id, attempt, _ = key.split(".", 2)
    return int(job_id), int(attempt)
