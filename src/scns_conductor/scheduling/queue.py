"""排队的作业，按形状与时限分组：同组的放置结果相同，所以失败一次就整组跳过。

组内按次序键排好；先提交先排时新作业总在末尾，插入是 O(1)。删除是打标记，走到时才丢掉。
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from scns_conductor.core.array_spec import TaskRange
from scns_conductor.scheduling.shape import IntArray, Shape

# 次序键：(-层级, -优先级, 提交的先后)；小的先排。
OrderKey = tuple[int, float, int]


@dataclass(slots=True, eq=False)
class PendingJob:
    """一个排队的作业。数组是一个，tasks 是还没有启动的任务号，available 是此刻还能启动几个（受 % 限制）。

    time_limit_s 是 inf 表示不限时；reason 不为 None 时此刻不能启动（保留、依赖、未到时间……）。
    """

    job_id: int
    shape: Shape
    time_limit_s: float
    revision: int = 0
    user: str = ""
    tier: int = 1
    priority: float = 0.0
    order: int = 0
    tasks: list[TaskRange] | None = None
    available: int = 1
    reason: str | None = None
    message: str | None = None
    gone: bool = False

    @property
    def key(self) -> OrderKey:
        """次序键。"""
        return (-self.tier, -self.priority, self.order or self.job_id)


def _place(item: tuple[OrderKey, int, PendingJob]) -> tuple[OrderKey, int]:
    # 同号的作业换过一次时，打了标记的旧项与新项的键相同：不能比到作业本身。
    return item[:2]


@dataclass(slots=True)
class Group:
    """形状与时限都相同的作业，按次序键排好。"""

    shape: Shape
    time_limit_s: float
    jobs: list[tuple[OrderKey, int, PendingJob]] = field(default_factory=list)
    dead: int = 0
    # 计划器按集群的版本缓存的：(版本, 需要的向量, 是否要走一般的放置)。
    facts: tuple[int, IntArray, bool] | None = None

    def live(self, start: int = 0) -> Iterator[PendingJob]:
        """还在排队、此刻能启动的，按次序。"""
        for index in range(start, len(self.jobs)):
            job = self.jobs[index][2]
            if not job.gone and job.reason is None and job.available > 0:
                yield job

    def compact(self) -> None:
        """丢掉打了标记的。"""
        self.jobs = [item for item in self.jobs if not item[2].gone]
        self.dead = 0


class Queue:
    """全部排队的作业。"""

    def __init__(self) -> None:
        self.jobs: dict[int, PendingJob] = {}
        self.groups: dict[tuple[Shape, float], Group] = {}

    def __len__(self) -> int:
        return len(self.jobs)

    def upsert(self, job: PendingJob) -> None:
        """放进队列；同号的被替换。"""
        self.remove(job.job_id)
        self.jobs[job.job_id] = job
        group = self.groups.get((job.shape, job.time_limit_s))
        if group is None:
            group = self.groups[(job.shape, job.time_limit_s)] = Group(job.shape, job.time_limit_s)
        else:
            # 同组共用一个形状对象：十万个作业只存几百个形状。
            job.shape = group.shape
        item = (job.key, job.job_id, job)
        if not group.jobs or group.jobs[-1][:2] < item[:2]:
            group.jobs.append(item)
        else:
            insort(group.jobs, item, key=_place)

    def remove(self, job_id: int) -> PendingJob | None:
        """拿出队列；不在则什么也不做。"""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return None
        job.gone = True
        place = (job.shape, job.time_limit_s)
        group = self.groups[place]
        group.dead += 1
        if group.dead == len(group.jobs):
            del self.groups[place]
        elif group.dead > 64 and group.dead * 2 > len(group.jobs):
            group.compact()
        return job

    def reorder(self) -> None:
        """优先级变了之后重新排好。"""
        for group in self.groups.values():
            group.compact()
            group.jobs = sorted(((job.key, job.job_id, job) for _, _, job in group.jobs), key=_place)
