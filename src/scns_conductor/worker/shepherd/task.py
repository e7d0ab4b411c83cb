"""牧守进程里的两个名词：作业步（Task，一个进程和它的后代）与作业（JobGroup，同一次尝试的全部作业步）。"""

from __future__ import annotations

from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS
from scns_conductor.worker.wire.process_usage import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.host.cgroup import JobCgroup
    from scns_conductor.worker.shepherd.launch_fault import LaunchFault
    from scns_conductor.worker.shepherd.records import StepRecord
    from scns_conductor.worker.shepherd.timers import Timer


class Task:
    """一个作业步。record 就是日志里的那一行（同一个对象）。"""

    __slots__ = (
        "cgroup_limited",
        "fault",
        "group",
        "key",
        "oom_seen",
        "pid",
        "pidfd",
        "reaped",
        "record",
        "sampled",
        "status",
        "step",
        "timers",
        "usage",
    )

    def __init__(self, record: StepRecord, group: JobGroup) -> None:
        self.record = record
        self.group = group
        self.key = record.key
        self.step = record.step
        self.pid = record.pid
        self.pidfd = -1
        self.reaped = False
        self.status: int | None = None
        self.usage = Usage()
        self.sampled = Usage()
        # 这一步的内存上限由 cgroup 执行；否则靠采样。
        self.cgroup_limited = False
        # 它启动时，所在的控制组里已经有过几次因内存超限的杀死；只在要 oom_kill_step 时看。
        self.oom_seen = 0
        self.fault: LaunchFault | None = None
        # 它的时限、提醒、宽限；结束时取消。
        self.timers: list[Timer] = []

    @property
    def is_holder(self) -> bool:
        """它结束就是作业在本节点上结束。"""
        return self.step in HOLDER_STEPS


class JobGroup:
    """一个作业的一次尝试在本节点上的全部作业步。

    cause 是有人（或时限）要它结束的原因，先到者为准；suspended_boot_s 是挂起的时刻（开机秒）。
    foreign：数据库恢复之后不认识它了，管理员要留着它；除非指明 launch_id，什么也不对它做。
    """

    __slots__ = (
        "adopted",
        "attempt",
        "cause",
        "cgroup",
        "chain",
        "ending",
        "foreign",
        "job_id",
        "kill_rounds",
        "launch_id",
        "message",
        "orphan_usage",
        "sampled",
        "suspended_boot_s",
        "tasks",
        "timers",
        "waiting",
    )

    def __init__(self, job_id: int, attempt: int, launch_id: int | None = None) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.launch_id = launch_id
        self.foreign = False
        self.cgroup: JobCgroup | None = None
        self.tasks: dict[str, Task] = {}
        self.cause: str | None = None
        self.message: str | None = None
        self.suspended_boot_s: float | None = None
        self.ending = False
        self.adopted = False
        self.kill_rounds = 0
        self.orphan_usage = Usage()
        # 到时 SIGKILL 的；作业没有了就取消。
        self.timers: list[Timer] = []
        self.sampled = Usage()
        # 在哪条接力的链上；还没有轮到它（chains.py）。
        self.chain: int | None = None
        self.waiting = False

    @property
    def identity(self) -> tuple[int, int, int | None]:
        """在 JobKeeper.groups 里的键。"""
        return self.job_id, self.attempt, self.launch_id

    @property
    def holder(self) -> Task | None:
        """占位的作业步；只有作业步的组没有。"""
        return next((task for task in self.tasks.values() if task.is_holder), None)

    @property
    def live_tasks(self) -> list[Task]:
        """进程还没有结束的作业步。"""
        return [task for task in self.tasks.values() if not task.reaped]

    @property
    def record(self) -> StepRecord | None:
        """占位作业步（没有则任一个）的日志记录。"""
        task = self.holder or next(iter(self.tasks.values()), None)
        return task.record if task else None
