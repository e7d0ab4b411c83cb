"""调度器的记忆：数据库里的节点、分区、运行与排队的作业，在内存里排成调度核心要的样子，随收件箱更新。

数据库是唯一的依据：记忆随时可以重装（load_all），定期核对（reconcile）。
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.array_spec import count_tasks, remove_task
from scns_conductor.core.dependency import Outcome
from scns_conductor.core.job_limits import Violation
from scns_conductor.core.states import JobState
from scns_conductor.scheduling.advance import Admission, admission, boundaries
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeShare, RunningJob
from scns_conductor.scheduling.eligibility import Ineligible, ineligible, open_partitions
from scns_conductor.scheduling.job_requirements import Defaults, license_pools, shape_of
from scns_conductor.scheduling.plan import PlannedStart
from scns_conductor.scheduling.preemption import Rules, holds, lent_jobs, precedence
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, Shape
from scns_conductor.worker.scheduler import memory_rows as queue_rows
from scns_conductor.worker.scheduler.alarms import Alarms
from scns_conductor.worker.scheduler.dependents import Dependents, evaluations
from scns_conductor.worker.scheduler.het_groups import HetGroups
from scns_conductor.worker.scheduler.limit_pools import JobLimits
from scns_conductor.worker.scheduler.priority_factors import JobPriority
from scns_conductor.worker.scheduler.relay_chains import RelayChains
from scns_conductor.worker.scheduler.run_history import RunHistory
from scns_conductor.worker.scheduler.running_jobs import ArrayRows, running_job, started_runner
from scns_conductor.worker.scheduler.waiting_job import SharedValues, Waiting, component_count, waiting_of

# 这样的作业不会再启动了：到期的结束，依赖无望的按设置取消。
HOPELESS = frozenset({"Deadline", "DependencyNeverSatisfied"})
# 作业的行被别的会话锁着（Slurm 的 SystemFailure：作业之外的毛病）。
LOCKED = "SystemFailure"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class QueueMemory:
    """见模块的说明。defaults、licenses 与 limits 来自设置。"""

    defaults: Defaults
    licenses: Mapping[str, int]
    priority: JobPriority
    limits: JobLimits
    # 已经要求结束的，至多这么多秒之后结束（秒）。
    kill_wait_s: float = 30.0
    # 不抢占是 None。
    preempt_rules: Rules | None = None
    # scns suspend 时也让出 CPU。
    suspend_frees_cpus: bool = False
    # 照预测排回填的次序时，各用户的历史；不照的是 None。
    history: RunHistory | None = None
    # 按 QOS 抢占时各个 QOS 的高低。
    precedence: Mapping[str, int] = field(default_factory=dict)
    # 有受阻的作业在等谁的豁免时间过去。
    exempt_ends_at: float | None = None
    # 节能时没有开过机的节点要多久（秒）；不节能是 None。
    boot_s: float | None = None
    # 行被别的会话锁着的作业与节点 -> 说明：绕开它们（见 locked_rows）。
    locked_jobs: Mapping[int, str] = field(default_factory=dict)
    locked_nodes: Mapping[str, str] = field(default_factory=dict)
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

    # ---- 装载 ----

    def load_all(self, connection: Connection, now: float) -> None:
        """从数据库重装全部。"""
        self.cluster, self.queue = Cluster(), Queue()
        for name, count in self.licenses.items():
            self.cluster.set_pool(LICENSE + name, count, "Licenses")
        self.waiting.clear()
        self._checksum = 0
        self._tasks.clear()
        self._siblings.clear()
        self._dependents.clear()
        self._alarms.clear()
        self.het.clear()
        self.chains.clear()
        self.unwritten.clear()
        self.hopeless.clear()
        self.limits.load(connection, now)
        if self.preempt_rules is not None:
            self.preempt_rules = replace(self.preempt_rules, qos=self.limits.accounting.qos)
            if self.preempt_rules.by_qos:
                self.precedence = precedence(self.preempt_rules.qos)
        self.load_nodes(connection)
        self.load_partitions(connection, now)
        self._load_running(connection, None)
        if self.history is not None:
            self.history.read_waiting(connection)
        self._absorb(connection, queue_rows.pending(connection), now)

    def prioritise(self, connection: Connection, now: float) -> bool:
        """重算累计用量、预测的运行时间与全部优先级，重新排队；次序没有变时返回 False。"""
        self.limits.refresh_usage(connection, now)
        moved = self._predict_again(connection)
        if not self.priority.enabled:
            return moved
        known = {(waiting.applicant.account, waiting.applicant.user_name) for waiting in self.waiting.values()}
        self.priority.refresh(connection, self.cluster, self.limits.accounting, known, now)
        changed = False
        for waiting in self.waiting.values():
            value = self.priority.of(waiting.applicant, waiting.job, waiting.age_from, now)
            changed = changed or value != waiting.job.priority
            waiting.job.priority = value
        if changed:
            self.het.reprioritise(self.queue)
            self.queue.reorder()
        return changed or moved

    def _predict_again(self, connection: Connection) -> bool:
        """照这段时间做完的，重新预测排队的各要跑多久；返回有没有变的。"""
        if self.history is None:
            return False
        self.history.read_waiting(connection)
        changed = False
        for waiting in self.waiting.values():
            job = waiting.job
            predicted = self.history.predict(waiting.user_name, waiting.name, job.time_limit_s)
            if predicted != job.shape.predicted_s:
                changed = True
                # 换一个作业对象：队列里的那个可能正被计划引用。
                self._renew(waiting, replace(job, shape=replace(job.shape, predicted_s=predicted)))
                if waiting.het_job_id is not None:
                    self._gather(waiting.het_job_id)
        return changed

    def load_nodes(self, connection: Connection, names: Sequence[str] | None = None) -> None:
        """读节点；names 为 None 是全部。数据库里没有了的，这里也忘掉。"""
        found = set()
        for facts in queue_rows.nodes(connection, names, self.boot_s):
            locked = facts.name in self.locked_nodes
            self.cluster.upsert_node(replace(facts, schedulable=False) if locked else facts)
            found.add(facts.name)
        for name in (set(self.cluster.index) if names is None else set(names)) - found:
            self.cluster.remove_node(name)

    def load_partitions(self, connection: Connection, now: float) -> None:
        """读分区与预留；变了则全部作业的资格重看一遍。"""
        version = self.cluster.version
        self.cluster.set_partitions(queue_rows.partitions(connection))
        self.cluster.set_reservations(queue_rows.reservations(connection, self.cluster.partitions, now))
        self._boundaries = boundaries(self.cluster.reservations.values(), now)
        if self.cluster.version != version:
            for waiting in self.waiting.values():
                self._judge(waiting, now)
            self._retier()

    def _load_running(self, connection: Connection, job_ids: Sequence[int] | None) -> set[int]:
        rows = queue_rows.running(connection, job_ids)
        for job_id, parts in rows.items():
            first = parts[0]
            pools = license_pools(first.licenses) + self.limits.charge(
                job_id, queue_rows.runner_of(parts), self.cluster
            )
            job = running_job(job_id, parts, self.cluster, pools, self.clock() + self.kill_wait_s)
            if first.relay_chain is not None:
                job = replace(job, shares=self.chains.join(job_id, first.relay_chain, job.shares))
            self._lent_seen |= bool(job.lent)
            self.cluster.allocate(job)
            if first.array_job_id is not None:
                self._tasks.add(job_id, first.array_job_id)
            if first.het_job_id is not None:
                self.het.started(job_id, first.het_job_id)
        if job_ids is None:
            heads = {parts[0].het_job_id: parts[0].het_job_id_set for parts in rows.values()}
            for head, members in heads.items():
                if head is not None:
                    self.het.loaded(head, component_count(members))
        return set(rows)

    # ---- 更新 ----

    def refresh(self, connection: Connection, job_ids: Collection[int], now: float) -> None:
        """这些作业变了：重读它们，并重看依赖它们的。"""
        if not job_ids:
            return
        rows = queue_rows.jobs(connection, job_ids)
        active = [row["job_id"] for row in rows if row["state"] in ("RUNNING", "SUSPENDED")]
        ended = [row for row in rows if row["state"] not in ("RUNNING", "SUSPENDED")]
        touched = {number for row in rows for number in (row["job_id"], row["array_job_id"]) if number is not None}
        arrays: set[int] = set()
        for row in ended:
            self.forget_running(row["job_id"], arrays)
        if active:
            self._load_running(connection, active)
            for job_id in active:
                self._drop(job_id)
        for missing in set(job_ids) - {row["job_id"] for row in rows}:
            self._drop(missing)
        waiting = [row for row in rows if row["state"] == JobState.PENDING]
        if self.history is not None:
            self.history.read(connection, {row["user_name"] for row in waiting})
        self._absorb(connection, waiting, now)
        for row in rows:
            if row["state"] != JobState.PENDING:
                self._drop(row["job_id"])
                first = self._dependents.first_singleton(row["user_name"], row["name"])
                if first is not None:
                    touched.add(-first)
        self._gather_all(connection, {row["het_job_id"] for row in ended if row["het_job_id"] is not None})
        for array in arrays:
            self._share_slots(array)
        self._reconsider_dependents(connection, touched, now)

    def ended(self, connection: Connection, job_ids: Collection[int], now: float) -> None:
        """这些作业结束了，不再排队：没有别的作业等它们的，不必重读。"""
        if self._dependents.any_singleton:
            watched = set(job_ids)
        else:
            watched = {
                job_id
                for job_id in job_ids
                if self._dependents.of(job_id) or self._dependents.of(self._tasks.array_of(job_id) or job_id)
            }
        arrays: set[int] = set()
        for job_id in job_ids:
            if job_id not in watched:
                # 异构作业的别的部分在排队：它一结束也许就到齐了。
                if self.het.awaited(job_id):
                    watched.add(job_id)
                    continue
                self.forget_running(job_id, arrays)
                self._drop(job_id)
        for array in arrays:
            self._share_slots(array)
        self.refresh(connection, watched, now)

    def forget_running(self, job_id: int, arrays: set[int] | None = None) -> None:
        """作业不再占资源。"""
        self.cluster.release(job_id)
        heir = self.chains.leave(job_id)
        if heir is not None and heir[0] in self.cluster.running:
            self.cluster.allocate(replace(self.cluster.running[heir[0]], shares=heir[1]))
        self.limits.ended(job_id, self.clock())
        self.het.ended(job_id)
        array = self._tasks.remove(job_id)
        if array is not None and arrays is not None:
            arrays.add(array)

    def mark_ending(self, job_id: int, expected_end: float) -> None:
        """已经要求它结束：资源快要空出来，为抢占者留着，不给后来的短作业填上。"""
        job = self.cluster.running.get(job_id)
        if job is not None:
            self.cluster.allocate(replace(job, ending=True, expected_end=min(job.expected_end, expected_end)))

    @property
    def lends(self) -> bool:
        """挂起的作业会不会借出 CPU。"""
        # 设置改回去之前借出的，也要还。
        return self.preempt_rules is not None or self.suspend_frees_cpus or self._lent_seen

    def to_lend(self) -> list[int]:
        """人挂起的、还占着 CPU 的：该让出来。"""
        if not self.suspend_frees_cpus:
            return []
        return [
            job.job_id
            for job in self.cluster.running.values()
            if job.suspended and not job.lent and not job.ending and any(share.cpus for share in job.shares)
        ]

    def collect_lent(self) -> None:
        """替借出了 CPU 的作业攒着空出来的（负的作业号）；每个周期重来，先放开上一次的。"""
        if not self.lends:
            return
        for job_id in [job_id for job_id in self.cluster.running if job_id < 0]:
            self.cluster.release(job_id)
        if lent_jobs(self.cluster):
            for hold in holds(self.cluster, self.queue, self.preempt_rules):
                self.cluster.allocate(hold)

    def reconcile(self, connection: Connection, now: float) -> set[int]:
        """与数据库核对排队与运行的作业，修正不同之处；返回修正了哪些。

        收件箱里有话的不算：变化已经提交，只是还没有取。最后才看收件箱，所以先看到的变化，话一定也看得到。
        """
        self.load_nodes(connection)
        self.load_partitions(connection, now)
        wrong: set[int] = set()
        if queue_rows.checksum(connection) != (len(self.waiting), self._checksum):
            known = {job_id: waiting.job.revision for job_id, waiting in self.waiting.items()}
            stored = queue_rows.revisions(connection)
            wrong = {job_id for job_id, _ in known.items() ^ stored.items()}
        wrong |= queue_rows.holders(connection) ^ {job_id for job_id in self.cluster.running if job_id > 0}
        if wrong:
            wrong -= queue_rows.told(connection)
        self.refresh(connection, wrong, now)
        return wrong

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

    def _absorb(self, connection: Connection, rows: Iterable[Mapping[str, Any]], now: float) -> None:
        depending: list[int] = []
        arrays: set[int] = set()
        heads: set[int] = set()
        for row in rows:
            job_id = row["job_id"]
            self._drop(job_id)
            try:
                waiting = self.waiting_for(row)
            except ValueError as error:
                logger.error("job_not_schedulable", extra={"job_id": job_id, "error": str(error)})
                continue
            self.waiting[job_id] = waiting
            self._checksum += queue_rows.checksum_of(job_id, waiting.job.revision)
            self.unwritten[job_id] = None
            if self._dependents.add(waiting):
                depending.append(job_id)
            if waiting.het_job_id is not None:
                self.het.add(waiting)
                heads.add(waiting.het_job_id)
            self._judge(waiting, now)
            if waiting.array_limit and waiting.array_job_id is not None:
                self._siblings.add(job_id, waiting.array_job_id)
                arrays.add(waiting.array_job_id)
            else:
                self._update_available(waiting)
            if self.priority.enabled:
                waiting.job.priority = self.priority.of(waiting.applicant, waiting.job, waiting.age_from, now)
            if waiting.het_job_id is None:
                self.queue.upsert(waiting.job)
        self._gather_all(connection, heads)
        for array in arrays:
            self._share_slots(array)
        self._evaluate(connection, depending, now)

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
        return shape, violation

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
        shape = waiting.job.shape
        if (shape.reservation, shape.roams) != (name, roams):
            self._renew(waiting, replace(waiting.job, shape=replace(shape, reservation=name, roams=roams)))
        if isinstance(found, Admission) and found.expires_at is not None and found.expires_at >= now:
            self._alarms.set(found.expires_at + 0.001, waiting.job.job_id)

    # ---- 时间与依赖 ----

    def wake(self, connection: Connection, now: float) -> None:
        """到了时刻的作业重看资格，随时间变的池重算。"""
        self.limits.tick(self.cluster, now)
        self._ticked_at = now
        self.exempt_ends_at = None
        depending: set[int] = set()
        if self._boundaries and self._boundaries[0] <= now:
            self.cluster.reservations_turned()
            self.load_partitions(connection, now)
        while (job_id := self._alarms.pop_due(now)) is not None:
            waiting = self.waiting.get(job_id)
            if waiting is None:
                continue
            if waiting.request.dependency is Outcome.WAITING:
                depending.add(job_id)
            else:
                self._judge(waiting, now)
                self._update_available(waiting)
        self._evaluate(connection, sorted(depending), now)

    def next_wake(self) -> float | None:
        """下一个要醒来的时刻：有作业到了时刻，或有预留开始、结束。"""
        moments = [] if self._alarms.next is None else [self._alarms.next]
        if self.exempt_ends_at is not None:
            moments.append(self.exempt_ends_at)
        tick = self.limits.next_tick(self._ticked_at)
        if tick is not None:
            moments.append(tick)
        return min([*moments, *self._boundaries[:1]], default=None)

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

    # ---- 启动之后 ----

    def started(self, start: PlannedStart, job_id: int, now: float) -> None:
        """一个启动已经提交；job_id 是（可能新拆出来的）作业号。"""
        job = start.job
        partition = self.cluster.chosen_partition(job.shape, start.shares)
        end = NEVER_ENDS if math.isinf(start.limit_s) else now + self.cluster.boot_s(start.shares) + start.limit_s
        pools = job.shape.pools
        if self.limits.enforced:
            licenses = tuple((name, count) for name, count in pools if name.startswith(LICENSE))
            runner = started_runner(self.waiting[job.job_id].request, start, licenses, now)
            pools = licenses + self.limits.charge(job_id, runner, self.cluster)
        qos = self.waiting[job.job_id].request.qos
        # 提交成功之后的时刻：豁免时间从这时算起，不会少算。
        self.cluster.allocate(
            RunningJob(
                job_id,
                end,
                start.shares,
                partition,
                pools,
                qos=qos,
                start_time=self.clock(),
                reservation=job.shape.reservation,
            )
        )
        self._start_dependents(job.job_id, now)
        if start.task_id is None:
            alone = self.waiting.get(job.job_id)
            if alone is not None and alone.het_job_id is not None:
                self.het.started(job_id, alone.het_job_id)
            self._drop(job.job_id)
            if alone is not None and alone.array_job_id is not None:
                self._tasks.add(job_id, alone.array_job_id)
                self._share_slots(alone.array_job_id)
            return
        self._tasks.add(job_id, job.job_id)
        assert job.tasks is not None
        waiting = self.waiting.get(job.job_id)
        remove_task(job.tasks, start.task_id)
        if waiting is None or waiting.remaining is None:
            return
        if waiting.remaining is not job.tasks:
            remove_task(waiting.remaining, start.task_id)
        if not waiting.remaining:
            self._drop(job.job_id)
            return
        self._update_available(waiting)
        if not job.tasks:
            # 依赖已满足的都启动了，其余的当场再看一遍。
            waiting.request = replace(waiting.request, dependency=Outcome.WAITING)
            self._judge(waiting, now)
            self._alarms.set(now, job.job_id)

    def relayed(
        self,
        job_id: int,
        origin: int,
        task_id: int | None,
        shares: tuple[NodeShare, ...],
        now: float,
        chain: int | None = None,
    ) -> bool:
        """节点接力启动了排队的 origin（数组则是它的一个任务），成为 job_id；不知道它要运行多久的返回 False。

        与记忆对不上（它比这句话新：重装过、重读过）也照这句话记下，不重读：数据库里它也许已经结束，份额又交给了
        下一个，那一句还没有取到；它的结束总在后面。
        """
        waiting = self.waiting.get(origin)
        if job_id in self.cluster.running:
            return True
        if chain is not None:
            shares = self.chains.join(job_id, chain, shares)
        if waiting is not None:
            tasks = waiting.job.tasks
            if task_id is None or any(span.lower <= task_id < span.upper for span in tasks or ()):
                self.started(PlannedStart(waiting.job, task_id, shares), job_id, now)
                return True
            self._tasks.add(job_id, origin)
        limit_s = math.inf if waiting is None else waiting.job.time_limit_s
        partition = "" if waiting is None else waiting.job.shape.partition
        end = NEVER_ENDS if math.isinf(limit_s) else now + limit_s
        self.cluster.allocate(RunningJob(job_id, end, shares, partition, start_time=self.clock()))
        return waiting is not None

    def read_running(self, connection: Connection, job_ids: Sequence[int]) -> None:
        """重读这些还占着资源的；已经结束了的不动，等收件箱里说。"""
        if job_ids:
            for job_id in self._load_running(connection, job_ids):
                self._drop(job_id)

    def _start_dependents(self, job_id: int, now: float) -> None:
        """它启动了：写了 after 的看一遍。"""
        for other in self._dependents.of(job_id):
            waiting = self.waiting.get(other)
            if waiting is not None and waiting.dependency is not None and waiting.dependency.on_start:
                self._alarms.set(now, other)

    def apart(self, starts: Iterable[PlannedStart]) -> list[PlannedStart]:
        """计划里的启动，异构作业的拆成各个部分。"""
        return [part for start in starts for part in self.het.apart(start)]

    def het_job_of(self, start: PlannedStart) -> int | None:
        """所属的异构作业的号；不是的是 None。"""
        waiting = self.waiting.get(start.job.job_id)
        return None if waiting is None else waiting.het_job_id

    def partition_of(self, start: PlannedStart) -> str | None:
        """提交时列了几个分区的，在哪个里启动；只列了一个的是 None。"""
        waiting = self.waiting.get(start.job.job_id)
        if waiting is None or len(waiting.request.partitions) == 1:
            return None
        return self.cluster.chosen_partition(start.job.shape, start.shares)

    def tasks_running(self, job_id: int) -> frozenset[int]:
        """数组正在跑的任务（作业号）。"""
        return self._tasks.of(job_id)

    def tasks_left(self, job_id: int) -> int:
        """数组还有几个任务没有启动。"""
        waiting = self.waiting.get(job_id)
        return count_tasks(waiting.remaining or ()) if waiting is not None else 0
