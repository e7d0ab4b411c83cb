"""调度器的记忆：数据库里的节点、分区、运行与排队的作业，在内存里排成调度核心要的样子，随收件箱更新。

数据库是唯一的依据：记忆随时可以重装（load_all），定期核对（reconcile）。三层：排队的在 waiting_line，占着资源的在
occupancy，这里从数据库读它们。
"""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.dependency import Outcome
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.scheduling.advance import boundaries
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.job_requirements import license_pools
from scns_conductor.scheduling.preemption import precedence
from scns_conductor.scheduling.queue import Queue
from scns_conductor.scheduling.shape import LICENSE
from scns_conductor.worker.scheduler import memory_rows as queue_rows
from scns_conductor.worker.scheduler.occupancy import Occupancy
from scns_conductor.worker.scheduler.running_jobs import running_job
from scns_conductor.worker.scheduler.waiting_job import component_count

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class QueueMemory(Occupancy):
    """见模块的说明。"""

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
        if self._boundaries and self._boundaries[0] <= now:
            # 不论谁先看到，到了的时刻下面就不再记着。
            self.cluster.reservations_turned()
        # 先看版本：看到的预留只会更新，不会更旧。
        self.reservations_version = queue_rows.reservations_version(connection)
        self.cluster.set_partitions(queue_rows.partitions(connection))
        self.cluster.set_reservations(queue_rows.reservations(connection, self.cluster.partitions, now))
        self.cluster.turn_reservations(now)
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
            if self.priority.enabled:
                # 优先级是启动时的；没有记下的（那时还不抢占）不给同一个 QOS 里的抢占。
                job = replace(job, priority=math.inf if first.start_priority is None else first.start_priority)
            if first.relay_chain is not None:
                job = replace(job, shares=self.chains.join(job_id, first.relay_chain, job.shares))
            self._lent_seen |= bool(job.lent)
            if job.exclusive_to is not None:
                self._scope(job.exclusive_to)
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

    def refresh(self, connection: Connection, job_ids: Collection[int], now: float) -> None:
        """这些作业变了：重读它们，并重看依赖它们的。"""
        if not job_ids:
            return
        rows = queue_rows.jobs(connection, job_ids)
        active = [row["job_id"] for row in rows if row["state"] in ACTIVE_STATES]
        ended = [row for row in rows if row["state"] not in ACTIVE_STATES]
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

    def reconcile(self, connection: Connection, now: float) -> set[int]:
        """与数据库核对排队与运行的作业，修正不同之处；返回修正了哪些。

        收件箱里有话的不算：变化已经提交，只是还没有取。最后才看收件箱，所以先看到的变化，话一定也看得到。
        """
        self.load_nodes(connection)
        self.load_partitions(connection, now)
        self._unscope()
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

    def wake(self, connection: Connection, now: float) -> None:
        """到了时刻的作业重看资格，随时间变的池重算。"""
        self.limits.tick(self.cluster, now)
        self._ticked_at = now
        self.exempt_ends_at = self.turns.turn_at = None
        depending: set[int] = set()
        if self._boundaries and self._boundaries[0] <= now:
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
        if self.turns.turn_at is not None:
            moments.append(self.turns.turn_at)
        tick = self.limits.next_tick(self._ticked_at)
        if tick is not None:
            moments.append(tick)
        return min([*moments, *self._boundaries[:1]], default=None)

    def read_running(self, connection: Connection, job_ids: Sequence[int]) -> None:
        """重读这些还占着资源的；已经结束了的不动，等收件箱里说。"""
        if job_ids:
            for job_id in self._load_running(connection, job_ids):
                self._drop(job_id)
