"""排队的作业：各能不能排、要什么、何时再看，数组的名额怎样分，依赖满足了没有。调度器的记忆的下层，见 memory。"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.array_spec import count_tasks
from scns_conductor.core.dependency import Outcome
from scns_conductor.core.job_limits import Violation
from scns_conductor.scheduling.advance import Admission, admission
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.eligibility import Ineligible, ineligible, open_partitions
from scns_conductor.scheduling.job_requirements import Defaults, exclusive_to, owners_of, shape_of
from scns_conductor.scheduling.preemption import Rules
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.time_slices import TurnClock
from scns_conductor.worker.scheduler import memory_rows as queue_rows
from scns_conductor.worker.scheduler.alarms import Alarms
from scns_conductor.worker.scheduler.dependents import Dependents, evaluations
from scns_conductor.worker.scheduler.het_groups import HetGroups
from scns_conductor.worker.scheduler.limit_pools import JobLimits
from scns_conductor.worker.scheduler.priority_factors import JobPriority
from scns_conductor.worker.scheduler.relay_chains import RelayChains
from scns_conductor.worker.scheduler.run_history import RunHistory
from scns_conductor.worker.scheduler.running_jobs import ArrayRows
from scns_conductor.worker.scheduler.waiting_job import SharedValues, Waiting, waiting_of

# 这样的作业不会再启动了：到期的结束，依赖无望的按设置取消。
HOPELESS = frozenset({"Deadline", "DependencyNeverSatisfied"})
# 作业的行被别的会话锁着（Slurm 的 SystemFailure：作业之外的毛病）。
LOCKED = "SystemFailure"


@dataclass(slots=True)
class WaitingLine:
    """见模块的说明。defaults、licenses 与 limits 来自设置。"""

    defaults: Defaults
    licenses: Mapping[str, int]
    priority: JobPriority
    limits: JobLimits
    # 已经要求结束的，至多这么多秒之后结束（秒）。
    kill_wait_s: float = 30.0
    # 不抢占是 None。
    preempt_rules: Rules | None = None
    # 许轮流的分区里，作业轮流用 CPU（时间片）。
    gang: bool = False
    # scns suspend 时也让出 CPU。
    suspend_frees_cpus: bool = False
    # 照预测排回填的次序时，各用户的历史；不照的是 None。
    history: RunHistory | None = None
    # 按 QOS 抢占时各个 QOS 的高低。
    precedence: Mapping[str, int] = field(default_factory=dict)
    # 有受阻的作业在等谁的豁免时间过去。
    exempt_ends_at: float | None = None
    # 时间片何时换。
    turns: TurnClock = field(default_factory=TurnClock)
    # 节能时没有开过机的节点要多久（秒）；不节能是 None。
    boot_s: float | None = None
    # 行被别的会话锁着的作业与节点 -> 说明：绕开它们（见 locked_rows）。
    locked_jobs: Mapping[int, str] = field(default_factory=dict)
    locked_nodes: Mapping[str, str] = field(default_factory=dict)
    # 看到的预留是第几版（启动时核对）；还没有看过是 None。
    reservations_version: int | None = None
    # 数据库的钟此刻的 Unix 秒。
    clock: Callable[[], float] = time.time
    cluster: Cluster = field(default_factory=Cluster)
    queue: Queue = field(default_factory=Queue)
    waiting: dict[int, Waiting] = field(default_factory=dict)
    # 自己的原因变了、还没有写回数据库的，先变的在前；不会再启动的。
    unwritten: dict[int, None] = field(default_factory=dict)
    hopeless: set[int] = field(default_factory=set)
    _lent_seen: bool = False
    _tasks: ArrayRows = field(default_factory=ArrayRows)
    # 有上限的数组 -> 它排队的各行。
    _siblings: ArrayRows = field(default_factory=ArrayRows)
    _dependents: Dependents = field(default_factory=Dependents)
    het: HetGroups = field(default_factory=HetGroups)
    chains: RelayChains = field(default_factory=RelayChains)
    _alarms: Alarms = field(init=False)
    _boundaries: list[float] = field(default_factory=list)
    _ticked_at: float = 0.0
    # 排队的作业的校验和：核对时一个数就够，不必取回一百万个版本。
    _checksum: int = 0
    _shared: SharedValues = field(default_factory=SharedValues)

    def __post_init__(self) -> None:
        self._alarms = Alarms(self.waiting)

    def _drop(self, job_id: int) -> None:
        waiting = self.waiting.pop(job_id, None)
        self.queue.remove(job_id)
        if waiting is None:
            return
        self._checksum -= queue_rows.checksum_of(job_id, waiting.job.revision)
        self._dependents.remove(waiting)
        self.het.drop(waiting, self.queue)
        if waiting.array_limit and waiting.array_job_id is not None:
            self._siblings.remove(job_id)

    def _gather_all(self, connection: Connection, heads: Collection[int]) -> None:
        """这些异构作业的部分变了：没有到齐的，看缺的是不是早已结束。"""
        incomplete = self.het.incomplete(heads)
        if incomplete:
            self.het.expect(queue_rows.live_components(connection, incomplete))
        for head in heads:
            self._gather(head)

    def _gather(self, head: int) -> None:
        self.unwritten.update(dict.fromkeys(self.het.gather(head, self.queue)))

    def waiting_for(self, row: Mapping[str, Any]) -> Waiting:
        shape, violation = self.requirements(row)
        if self.history is not None:
            limit = math.inf if row["time_limit"] is None else float(row["time_limit"])
            shape = replace(shape, predicted_s=self.history.predict(row["user_name"], row["name"], limit))
        return waiting_of(
            row,
            shape,
            violation,
            self._shared,
            precedence=self.precedence.get(row["qos"], 0),
            tier=self.tier_of(row["partition"]),
            max_switch_wait_s=self.defaults.max_switch_wait_s,
        )

    def requirements(self, row: Mapping[str, Any]) -> tuple[Shape, Violation | None]:
        """jobs 的一行 -> 形状（含它要的上限的池）与单个作业的上限不许它运行的原因。"""
        shape = shape_of(row, self.defaults)
        violation, pools = self.limits.judge(row, self.cluster)
        qos = row["qos"] if self.preempt_rules is not None and self.preempt_rules.by_qos else None
        if pools or qos:
            shape = replace(shape, pools=shape.pools + pools, qos=qos)
        owner = exclusive_to(row)
        if owner is not None:
            self._scope(owner)
        if self.cluster.scopes:
            shape = replace(shape, owners=self._owners(owners_of(row)), exclusive_to=owner)
        return shape, violation

    def _owners(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        """形状里写的主人：没有人要与别人隔开的不写，不然每个用户都各成一组。"""
        return tuple(name for name in owners if name in self.cluster.scopes)

    def _scope(self, owner: str) -> None:
        """有作业的节点从此只许 owner 的作业：他排队的，形状里写上。"""
        if owner in self.cluster.scopes:
            return
        self.cluster.scopes.add(owner)
        for waiting in self.waiting.values():
            if owner in waiting.owners:
                shape = replace(waiting.job.shape, owners=self._owners(waiting.owners))
                self._renew(waiting, replace(waiting.job, shape=shape))
                if waiting.het_job_id is not None:
                    self._gather(waiting.het_job_id)

    def _unscope(self) -> None:
        """再没有作业要与别人隔开的，不再看。"""
        if self.cluster.scopes:
            used = {waiting.job.shape.exclusive_to for waiting in self.waiting.values()}
            used.update(job.exclusive_to for job in self.cluster.running.values())
            self.cluster.scopes.intersection_update({name for name in used if name is not None})

    def tier_of(self, partition: str) -> int:
        """列出的分区里最高的层级。"""
        tiers = [self.cluster.partitions[name].tier for name in partition.split(",") if name in self.cluster.partitions]
        return max(tiers, default=1)

    def _retier(self) -> None:
        changed = False
        for waiting in self.waiting.values():
            tier = self.tier_of(waiting.job.shape.partition)
            changed = changed or tier != waiting.job.tier
            waiting.job.tier = tier
        if changed:
            self.het.reprioritise(self.queue)
            self.queue.reorder()

    def _update_available(self, waiting: Waiting) -> None:
        if waiting.array_limit and waiting.array_job_id is not None:
            self._share_slots(waiting.array_job_id)
        elif waiting.job.tasks is not None:
            self._set_available(waiting.job, count_tasks(waiting.job.tasks))

    def _share_slots(self, array: int) -> None:
        """数组同时运行的上限（%）还剩几个，分给它排队的各行：先是单独拆出来的任务，再是其余的；不能启动的不占。"""
        taken = self._tasks.count(array)
        rows = [self.waiting[job_id] for job_id in self._siblings.of(array) if job_id in self.waiting]
        for waiting in sorted(rows, key=lambda each: (each.job.tasks is not None, each.job.job_id)):
            wanted = 1 if waiting.job.tasks is None else count_tasks(waiting.job.tasks)
            left = min(wanted, max(0, waiting.array_limit - taken))
            if waiting.job.reason is None:
                taken += left
            self._set_available(waiting.job, left)

    def _set_available(self, job: PendingJob, left: int) -> None:
        if left != job.available:
            self.unwritten[job.job_id] = None
        self.queue.set_available(job, left)

    def refusal(self, waiting: Waiting, now: float) -> Ineligible | None:
        """按资格与单个作业的上限，此刻为什么不能排；能排是 None。"""
        found = ineligible(waiting.request, self.cluster.partitions, now, self.cluster.reservations)
        if found is None and waiting.violation is not None:
            found = Ineligible(waiting.violation.reason, waiting.violation.message)
        return found

    def _judge(self, waiting: Waiting, now: float) -> Ineligible | None:
        found = self.refusal(waiting, now)
        locked = self.locked_jobs.get(waiting.job.job_id)
        if locked is not None:
            # 放开时重读它。
            found = Ineligible(LOCKED, locked)
        reason, message = (None, None) if found is None else (found.reason, found.message)
        if (reason, message) != (waiting.job.reason, waiting.job.message):
            self.unwritten[waiting.job.job_id] = None
        if reason in HOPELESS:
            self.hopeless.add(waiting.job.job_id)
        self.queue.judge(waiting.job, reason, message)
        if found is not None and found.wake_at is not None:
            self._alarms.set(found.wake_at, waiting.job.job_id)
        if waiting.switches_until is not None and waiting.job.shape.switches is not None:
            if waiting.switches_until <= now:
                # 等够了：跨几个都行。
                self._renew(waiting, replace(waiting.job, shape=replace(waiting.job.shape, switches=None)))
            else:
                self._alarms.set(waiting.switches_until, waiting.job.job_id)
        if found is None and (self.cluster.reservations or waiting.job.shape.reservation is not None):
            self._admit(waiting, now)
        if found is None and len(waiting.request.partitions) > 1:
            self._narrow(waiting)
        latest = waiting.request.latest_start
        if latest is not None and latest >= now:
            # 等着等着就来不及了：到时再看，那时的原因是 Deadline。
            self._alarms.set(latest + 0.001, waiting.job.job_id)
        if waiting.het_job_id is not None:
            self._gather(waiting.het_job_id)
        return found

    def _renew(self, waiting: Waiting, job: PendingJob) -> None:
        """换一个作业对象；原来在队列里的也换（异构作业的部分不在队列里）。"""
        listed = self.queue.jobs.get(job.job_id) is waiting.job
        waiting.job = job
        if listed:
            self.queue.upsert(job)

    def _narrow(self, waiting: Waiting) -> None:
        """列了几个分区的：只用此刻许它启动的那些。"""
        partition = ",".join(open_partitions(waiting.request, self.cluster.partitions))
        if partition != waiting.job.shape.partition:
            shape = replace(waiting.job.shape, partition=partition)
            self._renew(waiting, replace(waiting.job, shape=shape, tier=self.tier_of(partition)))

    def _admit(self, waiting: Waiting, now: float) -> None:
        """此刻用得上哪个预留：列了几个的先写的先试，没有写的也许有一个吸它；放不下的时刻到了再看。"""
        request = waiting.request
        found = admission(
            self.cluster.reservations, request.reservations, request.user, request.account, request.time_limit_s, now
        )
        name, roams = (found.name, found.roams) if isinstance(found, Admission) else (request.reservation, False)
        shape = self.cluster.within(waiting.job.shape, name, roams=roams)
        if shape != waiting.job.shape:
            self._renew(waiting, replace(waiting.job, shape=shape))
        if isinstance(found, Admission) and found.expires_at is not None and found.expires_at >= now:
            self._alarms.set(found.expires_at + 0.001, waiting.job.job_id)

    def _reconsider_dependents(self, connection: Connection, touched: Collection[int], now: float) -> None:
        job_ids: set[int] = set()
        for number in touched:
            if number < 0:
                job_ids.add(-number)
            else:
                job_ids.update(self._dependents.of(number))
        self._evaluate(connection, [job_id for job_id in job_ids if job_id in self.waiting], now)

    def _evaluate(self, connection: Connection, job_ids: Sequence[int], now: float) -> None:
        if not job_ids:
            return
        for waiting, found in evaluations(connection, [self.waiting[job_id] for job_id in job_ids], now):
            waiting.request = replace(waiting.request, dependency=found.outcome, waiting_for=found.unmet)
            if found.ready and waiting.job.tasks != list(found.ready):
                # 换一个作业对象：队列里的那个可能正被计划引用。
                waiting.job = replace(waiting.job, tasks=list(found.ready))
                self.queue.upsert(waiting.job)
            self._judge(waiting, now)
            self._update_available(waiting)
            if found.outcome is Outcome.WAITING and found.wake_at is not None:
                # after:12+5 是到时刻才满足的。
                self._alarms.set(found.wake_at, waiting.job.job_id)
