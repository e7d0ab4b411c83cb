"""占着资源的作业：启动了占去，接力了接着占，结束了放开，挂起的借出去。调度器的记忆的中层，见 memory。"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from scns_conductor.core.array_spec import count_tasks, remove_task
from scns_conductor.core.dependency import Outcome
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeShare, RunningJob
from scns_conductor.scheduling.plan import PlannedStart
from scns_conductor.scheduling.preemption import holds, lent_jobs
from scns_conductor.scheduling.shape import LICENSE
from scns_conductor.scheduling.time_slices import turns_in
from scns_conductor.worker.scheduler.running_jobs import started_runner
from scns_conductor.worker.scheduler.waiting_line import WaitingLine


@dataclass(slots=True)
class Occupancy(WaitingLine):
    """见模块的说明。"""

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

    @property
    def takes_turns(self) -> bool:
        """有分区里的作业轮流用 CPU。"""
        return self.gang and turns_in(self.cluster.partitions.values())

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
                oversubscribe=job.shape.oversubscribe,
                priority=job.priority,
                owners=self.waiting[job.job_id].owners,
                exclusive_to=job.shape.exclusive_to,
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

    def reservation_of(self, start: PlannedStart) -> str | None:
        """启动时才定下的预留：列了几个的里的哪一个，没有写的被哪个吸进去；照作业自己写的是 None。"""
        name, waiting = start.job.shape.reservation, self.waiting.get(start.job.job_id)
        if name is None or waiting is None or waiting.request.reservations == (name,):
            return None
        return name

    @property
    def keeps_priority(self) -> bool:
        """启动时的优先级此后还要用：同一个 QOS 里的抢占看它。"""
        return self.priority.enabled and self.preempt_rules is not None

    def tasks_running(self, job_id: int) -> frozenset[int]:
        """数组正在跑的任务（作业号）。"""
        return self._tasks.of(job_id)

    def tasks_left(self, job_id: int) -> int:
        """数组还有几个任务没有启动。"""
        waiting = self.waiting.get(job_id)
        return count_tasks(waiting.remaining or ()) if waiting is not None else 0
