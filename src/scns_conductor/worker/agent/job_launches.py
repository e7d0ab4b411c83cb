"""认领并启动：数据库里的分配成为本节点的，绑好核与卡，写成启动说明。"""

import logging
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from scns_conductor.core.job_token import token_digest
from scns_conductor.statements.claims import (
    ClaimedJob,
    claim_allocations,
    components_of,
    record_bindings,
    unclaim_allocations,
)
from scns_conductor.statements.row_locks import gave_up_waiting, lock_free_jobs
from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.database_memory import DatabaseMemory
from scns_conductor.worker.agent.finisher import Finisher
from scns_conductor.worker.agent.job_preparation import JobPreparation
from scns_conductor.worker.agent.job_samples import JobSamples
from scns_conductor.worker.agent.job_traces import JobTraces
from scns_conductor.worker.agent.launch_orders import core_locality
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.agent.registration import drain_node
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import LaunchSpec

# 核等这么久之后不绑核也启动；卡等这么久还没有的是节点的错。
CORES_WAIT_S = 2.0
CARDS_WAIT_S = 60.0
# 接力的链上等这么久（秒）还没有轮到的交还：更急的作业不能一直等着。
CHAIN_WAIT_S = 0.5

logger = logging.getLogger(__name__)


class JobLaunches:
    """roomless 是等核、卡空出来的，从何时（单调秒）等起；它们没有认领。"""

    def __init__(
        self,
        engine: Engine,
        context: LaunchContext,
        pool: CorePool,
        finisher: Finisher,
        ends: OwnEnds,
        memory: DatabaseMemory,
        preparation: JobPreparation,
        *,
        boot_time: Callable[[], float],
        samples: JobSamples,
        timings: AgentTimings,
        traces: JobTraces,
    ) -> None:
        self.roomless: dict[tuple[int, int], float] = {}
        # 上次看时被别的会话锁着的作业。
        self._locked: set[int] = set()
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._context = context
        self._node = context.node.node_name
        self._pool = pool
        self._finisher = finisher
        self._ends = ends
        self._memory = memory
        self._preparation = preparation
        self._boot_time = boot_time
        self._samples = samples
        self._timings = timings
        self._traces = traces

    def launch(self, job_ids: Sequence[int]) -> None:
        """认领并启动；行被别的会话锁着的放下，由核对再来，别的不等它。"""
        if not self._locked.isdisjoint(job_ids):
            job_ids = self._free(job_ids)
        try:
            self._launch(job_ids)
        except sa.exc.DBAPIError as error:
            free = self._free(job_ids) if gave_up_waiting(error) else job_ids
            if len(free) == len(job_ids):
                raise
            logger.warning("launches_locked", extra={"jobs": len(job_ids) - len(free)})
            self._launch(free)

    def _free(self, job_ids: Sequence[int]) -> list[int]:
        """没有被别的会话锁着的；锁着的记下，下一次先看一眼。"""
        with self._single.connect() as connection:
            free = lock_free_jobs(connection, job_ids)
        self._locked = (self._locked - free) | (set(job_ids) - free)
        return [job_id for job_id in job_ids if job_id in free]

    def _launch(self, job_ids: Sequence[int]) -> None:
        """认领与绑核在一个事务里；启动失败的由牧守进程报结束，被拒的由这里报。"""
        specs: list[LaunchSpec] = []
        refused: list[EndRecord] = []
        bindings = []
        roomless: list[ClaimedJob] = []
        # 没有核、卡、令牌要记的节点只有认领这一条语句，自成一个事务。
        records = self._pool.binds or self._context.token_secret is not None
        with self._engine.begin() if records else self._single.connect() as connection:
            threads = self._context.node.cpu_threads
            claimed = [job.without_spared(threads) for job in claim_allocations(connection, self._node, job_ids)]
            database_now = self._boot_time() + time.clock_gettime(time.CLOCK_BOOTTIME)
            # 只有运行脚本的第 0 个部分要知道别的部分在哪里。
            heads = [job.job_id for job in claimed if job.job_id == job.het_job_id and job.runs_here]
            components = components_of(connection, heads)
            for job in claimed:
                owner = (job.job_id, job.restart_count)
                binding = self._bind(job)
                if binding is None:
                    if self._waited_s(owner) < CARDS_WAIT_S:
                        roomless.append(job)
                    else:
                        refused.append(self._roomless_end(job))
                    continue
                token = self._context.token(job)
                if binding.cpu_ids is not None or binding.gres_ids or token is not None:
                    digest = token_digest(token) if token is not None else None
                    bindings.append((job.allocation_id, binding.cpu_ids, binding.gres_ids, digest))
                self._timings.dispatch.observe(max(0.0, database_now - job.start_epoch))
                self._traces.claimed(job)
                self._samples.ask(owner, job.environment)
                if job.runs_here:
                    self._plan(job, binding, specs, refused, components.get(job.job_id, ()))
            unclaim_allocations(connection, [job.allocation_id for job in roomless])
            record_bindings(connection, bindings)
        self._memory.claimed(job.job_id for job in claimed)
        self._note_roomless(claimed, roomless)
        self._finisher.put(refused)
        self._preparation.start(specs, {(job.job_id, job.restart_count): job for job in claimed})
        for end in refused:
            if end.on_node:
                drain_node(self._engine, self._node, end.message or "")

    def launch_claimed(self, claimed: Sequence[tuple[ClaimedJob, Binding, int | None]]) -> None:
        """启动已经认领、也有了核的（接力写下的），各在哪条链上。"""
        specs: list[LaunchSpec] = []
        refused: list[EndRecord] = []
        for job, binding, chain in claimed:
            self._traces.claimed(job)
            self._samples.ask((job.job_id, job.restart_count), job.environment)
            self._plan(job, binding, specs, refused, chain=chain)
        self._finisher.put(refused)
        self._preparation.start(specs, {(job.job_id, job.restart_count): job for job, _, _ in claimed})

    def _plan(
        self,
        job: ClaimedJob,
        binding: Binding,
        specs: list[LaunchSpec],
        refused: list[EndRecord],
        components: Sequence[ClaimedJob] = (),
        *,
        chain: int | None = None,
    ) -> None:
        """写启动说明；写不成的是它的结束。components 是异构作业的各个部分，chain 是在哪条接力的链上。"""
        try:
            spec = self._context.plan(job, binding, components)
            if chain is not None:
                spec.chain, spec.chain_wait_s = chain, CHAIN_WAIT_S
            specs.append(spec)
        except LaunchRefused as error:
            refused.append(self._refused(job, str(error)))
        except Exception as error:  # 一行写不成说明的作业，不能连累同一批里别的作业，更不能带走代理
            logger.exception("launch_plan_failed", extra={"node": self._node, "job_id": job.job_id})
            refused.append(self._refused(job, f"写不成启动说明：{error}"))

    def _refused(self, job: ClaimedJob, message: str, *, on_node: bool = False) -> EndRecord:
        """认领了而启动不了的结束。"""
        owner = (job.job_id, job.restart_count)
        return self._ends.make(owner, job.launch_id, "launch_failed", message, on_node=on_node)

    def _roomless_end(self, job: ClaimedJob) -> EndRecord:
        """等了很久还没有：数据库说有而没有的是节点的错，只是挨着卡的核都有人用的不是。"""
        if core_locality(job.environment) == "only":
            message = f"节点 {self._node} 上挨着所分的卡的核没有一个空闲（--gres-flags=enforce-binding）"
            return self._refused(job, message)
        return self._refused(job, f"节点 {self._node} 上没有空闲的 {job.gres}，而数据库说有", on_node=True)

    def _bind(self, job: ClaimedJob) -> Binding | None:
        """它的核与卡；还没有空出来的是 None。

        数据库里的份额在提交时释放，这里的随后才归还：新的启动可能恰好赶在中间。正要归还的够它用就等一等，
        别的缺核（抢占而挂起的还占着）照旧不绑核。
        """
        owner = (job.job_id, job.restart_count)
        locality = core_locality(job.environment)
        binding = self._pool.take(owner, job.cpus, job.gres, unbound=False, locality=locality)
        if binding is not None:
            return binding
        coming = self._pool.cores_within(self._finisher.pending()) >= job.cpus
        unbound = not coming or self._waited_s(owner) >= CORES_WAIT_S
        return self._pool.take(owner, job.cpus, job.gres, unbound=unbound, locality=locality)

    def _waited_s(self, owner: tuple[int, int]) -> float:
        since = self.roomless.get(owner)
        return 0.0 if since is None else time.monotonic() - since

    def _note_roomless(self, claimed: Sequence[ClaimedJob], roomless: Sequence[ClaimedJob]) -> None:
        waiting = {(job.job_id, job.restart_count) for job in roomless}
        for job in claimed:
            owner = (job.job_id, job.restart_count)
            if owner not in waiting:
                self.roomless.pop(owner, None)
            elif owner not in self.roomless:
                self.roomless[owner] = time.monotonic()
                logger.warning(
                    "launch_waits_for_room", extra={"job_id": job.job_id, "cpus": job.cpus, "gres": job.gres}
                )
