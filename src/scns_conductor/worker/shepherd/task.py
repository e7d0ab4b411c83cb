"""牧守进程里的两个名词：作业步（Task，一个进程和它的后代）与作业（JobGroup，同一次尝试的全部作业步）。"""

from __future__ import annotations

from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scns_conductor.worker.host.cgroup import JobCgroup
    from scns_conductor.worker.shepherd.launch_fault import LaunchFault
    from scns_conductor.worker.shepherd.timers import Timer


class Usage:
    """用量：CPU 秒、内存峰值（KiB）、读写字节。"""

    __slots__ = ("max_rss_kb", "read_bytes", "system_s", "user_s", "written_bytes")

    def __init__(self) -> None:
        self.user_s = 0.0
        self.system_s = 0.0
        self.max_rss_kb = 0
        self.read_bytes = 0
        self.written_bytes = 0

    def add(self, other: Usage) -> None:
        """并入另一个进程的用量；内存峰值取大。"""
        self.user_s += other.user_s
        self.system_s += other.system_s
        self.max_rss_kb = max(self.max_rss_kb, other.max_rss_kb)
        self.read_bytes += other.read_bytes
        self.written_bytes += other.written_bytes

    def raise_to(self, other: Usage) -> None:
        """各项取大：采样值与最终值里大的那个更接近真相。"""
        for name in self.__slots__:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))

    def to_wire(self) -> dict[str, float | int]:
        """写进结束记录。"""
        return {
            "user_s": round(self.user_s, 6),
            "system_s": round(self.system_s, 6),
            "max_rss_kb": self.max_rss_kb,
            "read_bytes": self.read_bytes,
            "written_bytes": self.written_bytes,
        }


class Task:
    """一个作业步。record 就是日志里的那一行（同一个对象）。"""

    __slots__ = (
        "cgroup_limited",
        "fault",
        "group",
        "key",
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

    def __init__(self, record: dict[str, Any], group: JobGroup) -> None:
        self.record = record
        self.group = group
        self.key: str = record["key"]
        self.step: str = record["step"]
        self.pid: int | None = record.get("pid")
        self.pidfd = -1
        self.reaped = False
        self.status: int | None = None
        self.usage = Usage()
        self.sampled = Usage()
        # 这一步的内存上限由 cgroup 执行；否则靠采样。
        self.cgroup_limited = False
        self.fault: LaunchFault | None = None
        # 它的时限、提醒、宽限；结束时取消。
        self.timers: list[Timer] = []

    @property
    def is_holder(self) -> bool:
        """它结束就是作业在本节点上结束。"""
        return self.step in HOLDER_STEPS


class JobGroup:
    """一个作业的一次尝试在本节点上的全部作业步。

    cause 是有人（或时限）要它结束的原因，先到者为准；suspended_boot 是挂起的时刻（开机秒）。
    foreign：数据库恢复之后不认识它了，管理员要留着它；除非指明 launch_id，什么也不对它做。
    """

    __slots__ = (
        "adopted",
        "attempt",
        "cause",
        "cgroup",
        "ending",
        "foreign",
        "job_id",
        "kill_rounds",
        "launch_id",
        "message",
        "orphan_usage",
        "sampled",
        "suspended_boot",
        "tasks",
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
        self.suspended_boot: float | None = None
        self.ending = False
        self.adopted = False
        self.kill_rounds = 0
        self.orphan_usage = Usage()
        self.sampled = Usage()

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

    def record_value(self, name: str) -> Any:
        """从占位作业步（没有则任一个）的日志记录里取一项。"""
        task = self.holder or next(iter(self.tasks.values()), None)
        return task.record.get(name) if task else None
