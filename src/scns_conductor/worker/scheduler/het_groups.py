"""异构作业：各个部分各是一行，在队列里合成一个作业（复合的形状，号是第 0 个部分的），一起计划、一起启动。

部分没有到齐（有的还在运行、还没有读到）就不在队列里；运行中的少了一个，别的也要结束（broken）。
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from scns_conductor.scheduling.plan import PlannedStart, Reservation
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import compound
from scns_conductor.worker.scheduler.waiting_job import Waiting


@dataclass(slots=True)
class HetGroups:
    """号 -> 排队的各个部分、运行中的部分、没有结束的共几个。"""

    # 运行中少了部分、还没有看过要不要结束其余的。
    broken: set[int] = field(default_factory=set)
    _waiting: dict[int, dict[int, Waiting]] = field(default_factory=dict)
    _running: dict[int, set[int]] = field(default_factory=dict)
    _head_of: dict[int, int] = field(default_factory=dict)
    _expected: dict[int, int] = field(default_factory=dict)

    def clear(self) -> None:
        """全忘掉。"""
        for each in (self.broken, self._waiting, self._running, self._head_of, self._expected):
            each.clear()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running) + len(self._head_of) + len(self._expected) + len(self.broken)

    # ---- 排队的 ----

    def add(self, waiting: Waiting) -> None:
        """一个部分在排队。"""
        assert waiting.het_job_id is not None
        self._waiting.setdefault(waiting.het_job_id, {})[waiting.job.job_id] = waiting
        self._expected.setdefault(waiting.het_job_id, waiting.het_size)

    def drop(self, waiting: Waiting, queue: Queue) -> None:
        """一个部分不再排队：合成的也就不在队列里了。"""
        head = waiting.het_job_id
        if head is None or head not in self._waiting:
            return
        self._waiting[head].pop(waiting.job.job_id, None)
        queue.remove(head)
        if not self._waiting[head]:
            del self._waiting[head], self._expected[head]

    def awaited(self, job_id: int) -> bool:
        """它结束了，排队的别的部分就也许到齐了。"""
        return self._head_of.get(job_id) in self._waiting

    def incomplete(self, heads: Iterable[int]) -> list[int]:
        """没有到齐、也没有部分在运行的：缺的也许早已结束了。"""
        return [
            head
            for head in heads
            if len(self._waiting.get(head, ())) < self._expected.get(head, 0) and head not in self._running
        ]

    def expect(self, sizes: Mapping[int, int]) -> None:
        """没有结束的部分各有几个。"""
        self._expected.update((head, size) for head, size in sizes.items() if head in self._waiting)

    def gather(self, head: int, queue: Queue) -> list[int]:
        """到齐了就合成一个放进队列；返回原因随之变了的部分（作业号）。"""
        members = self._members(head)
        if not members or len(members) < self._expected[head] or head in self._running:
            queue.remove(head)
            return []
        jobs = [waiting.job for waiting in members]
        refused = next((job for job in jobs if job.reason is not None), None)
        reason, message = (None, None) if refused is None else (refused.reason, refused.message)
        unit = PendingJob(
            head,
            compound([job.shape for job in jobs]),
            max(job.time_limit_s for job in jobs),
            user=jobs[0].user,
            precedence=min(job.precedence for job in jobs),
            tier=min(job.tier for job in jobs),
            priority=min(job.priority for job in jobs),
            order=head,
            reason=reason,
            message=message,
        )
        known = queue.jobs.get(head)
        if known is None or (known.shape, known.time_limit_s, known.key) != (unit.shape, unit.time_limit_s, unit.key):
            queue.upsert(unit)
            return [job.job_id for job in jobs]
        changed = (known.reason, known.message) != (reason, message)
        queue.judge(known, reason, message)
        return [job.job_id for job in jobs] if changed else []

    def reprioritise(self, queue: Queue) -> None:
        """各个部分的优先级与层级变了；随后由调用者重新排队。"""
        for head in self._waiting:
            unit, jobs = queue.jobs.get(head), [waiting.job for waiting in self._members(head)]
            if unit is not None:
                unit.priority, unit.tier = min(job.priority for job in jobs), min(job.tier for job in jobs)

    def unit_of(self, waiting: Waiting, queue: Queue) -> PendingJob | None:
        """它所属的、合成的作业；不是异构作业、没有到齐是 None。"""
        return None if waiting.het_job_id is None else queue.jobs.get(waiting.het_job_id)

    def parts_of(self, job_id: int) -> list[int]:
        """队列里的作业是哪些行：合成的是它的各个部分。"""
        return [waiting.job.job_id for waiting in self._members(job_id)] or [job_id]

    def siblings_of(self, waiting: Waiting) -> list[int]:
        """同一个异构作业里排队的各个部分，连同它自己。"""
        return [waiting.job.job_id] if waiting.het_job_id is None else self.parts_of(waiting.het_job_id)

    def own_share(self, waiting: Waiting, reservation: Reservation) -> Reservation:
        """为合成的作业的保留里，这个部分的那一份。"""
        if waiting.het_job_id is None:
            return reservation
        index = self.parts_of(waiting.het_job_id).index(waiting.job.job_id)
        mine = tuple(share for share in reservation.shares if share.component == index)
        return Reservation(reservation.job, reservation.start_time, mine)

    def apart(self, start: PlannedStart) -> list[PlannedStart]:
        """合成的作业的启动，拆成各个部分的；别的就是它自己。"""
        if not start.job.shape.components:
            return [start]
        return [
            PlannedStart(
                waiting.job,
                None,
                tuple(replace(share, component=0) for share in start.shares if share.component == index),
            )
            for index, waiting in enumerate(self._members(start.job.job_id))
        ]

    def _members(self, head: int) -> list[Waiting]:
        return sorted(self._waiting.get(head, {}).values(), key=lambda waiting: waiting.het_job_offset)

    # ---- 运行的 ----

    def started(self, job_id: int, head: int) -> None:
        """一个部分在运行。"""
        self._running.setdefault(head, set()).add(job_id)
        self._head_of[job_id] = head

    def ended(self, job_id: int) -> None:
        """一个部分不再运行；还有别的在运行的，要看一看。"""
        head = self._head_of.pop(job_id, None)
        if head is None:
            return
        self._running[head].discard(job_id)
        if self._running[head]:
            self.broken.add(head)
        else:
            del self._running[head]
            self.broken.discard(head)

    def loaded(self, head: int, size: int) -> None:
        """重新装载之后：运行的部分不足 size 个的也要看。"""
        if len(self._running.get(head, ())) < size:
            self.broken.add(head)
