"""排队的作业，按形状与时限分组：同组的放置结果相同，所以失败一次就整组跳过。

组里只有此刻能启动的（没有原因、还有任务可启动），按次序键排好；先提交先排时新作业总在末尾，插入是 O(1)。
资格变了要经 judge、set_available、reorder 告诉队列：增量的计划只看变了的（fresh、disordered）。
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from scns_conductor.core.array_spec import TaskRange
from scns_conductor.scheduling.shape import IntArray, Shape

# 次序键：(-抢占关系里的高低, -层级, -优先级, 提交的先后)；小的先排（Slurm 的次序也是这样）。
OrderKey = tuple[int, int, float, int]
GroupKey = tuple[Shape, float]


@dataclass(slots=True, eq=False)
class PendingJob:
    """一个排队的作业。数组是一个，tasks 是还没有启动的任务的序号，available 是此刻还能启动几个（受 % 限制）。

    time_limit_s 是 inf 表示不限时；reason 不为 None 时此刻不能启动（保留、依赖、未到时间……）。
    precedence 是它的 QOS 在抢占关系里的高低（见 preemption.precedence）。
    放进队列之后，reason、available、priority、tier 只经队列的方法改。
    """

    job_id: int
    shape: Shape
    time_limit_s: float
    revision: int = 0
    user: str = ""
    precedence: int = 0
    tier: int = 1
    priority: float = 0.0
    order: int = 0
    tasks: list[TaskRange] | None = None
    available: int = 1
    reason: str | None = None
    message: str | None = None

    @property
    def key(self) -> OrderKey:
        """次序键。"""
        # -0.0 换成常量 0.0：十万个键不各存一个。
        return (-self.precedence, -self.tier, -self.priority or 0.0, self.order or self.job_id)

    @property
    def startable(self) -> bool:
        """此刻能启动（只差资源）。"""
        return self.reason is None and self.available > 0

    def task_ids(self, first: int, count: int) -> list[int]:
        """数组里还没有启动的第 first 个起的 count 个任务的序号。"""
        assert self.tasks is not None
        found: list[int] = []
        for span in self.tasks:
            size = span.upper - span.lower
            if first >= size:
                first -= size
                continue
            found.extend(range(span.lower + first, min(span.upper, span.lower + first + count - len(found))))
            first = 0
            if len(found) == count:
                return found
        raise IndexError(f"数组作业 {self.job_id} 没有这么多任务")


class Group:
    """形状与时限都相同、此刻能启动的作业，按次序键排好；拿走的位置是 None，多了才压缩。"""

    __slots__ = ("arrays", "dead", "facts", "jobs", "keys", "shape", "start", "time_limit_s")

    def __init__(self, shape: Shape, time_limit_s: float) -> None:
        self.shape = shape
        self.time_limit_s = time_limit_s
        self.keys: list[OrderKey] = []
        self.jobs: list[PendingJob | None] = []
        # 第一个还在的位置；前面的都拿走了。
        self.start = 0
        self.dead = 0
        # 里面有几个数组。
        self.arrays = 0
        # 计划器按集群的版本缓存的：(版本, 需要的向量, 放置的种类)。
        self.facts: tuple[int, IntArray, int] | None = None

    def __len__(self) -> int:
        return len(self.jobs) - self.dead

    @property
    def key(self) -> GroupKey:
        """组的键。"""
        return (self.shape, self.time_limit_s)

    def live(self) -> Iterator[PendingJob]:
        """全部作业，按次序。"""
        for index in range(self.start, len(self.jobs)):
            job = self.jobs[index]
            if job is not None:
                yield job

    def insert(self, job: PendingJob) -> None:
        """放到次序键该在的位置。"""
        key = job.key
        self.arrays += job.tasks is not None
        if not self.keys or self.keys[-1] <= key:
            self.keys.append(key)
            self.jobs.append(job)
            return
        index = bisect_right(self.keys, key)
        self.keys.insert(index, key)
        self.jobs.insert(index, job)
        self.start = min(self.start, index)

    def index_of(self, job: PendingJob) -> int:
        """它的位置；不在这一组是 IndexError。"""
        # 多半是最前的。
        index = self.start
        if index < len(self.jobs) and self.jobs[index] is job:
            return index
        index = bisect_left(self.keys, job.key)
        while self.jobs[index] is not job:
            index += 1
        return index

    def discard(self, job: PendingJob) -> None:
        """拿走。"""
        index = self.index_of(job)
        self.jobs[index] = None
        self.dead += 1
        self.arrays -= job.tasks is not None
        if index == self.start:
            while self.start < len(self.jobs) and self.jobs[self.start] is None:
                self.start += 1
        if self.dead > 64 and self.dead * 2 > len(self.jobs):
            self.keys = [key for key, kept in zip(self.keys, self.jobs, strict=True) if kept is not None]
            self.jobs = [kept for kept in self.jobs if kept is not None]
            self.start = self.dead = 0


# 预测短的先回填：(抢占关系里的高低, 层级, 预测的秒数, 次序键)。
BackfillRank = tuple[int, int, float, OrderKey]


def backfill_rank(key: OrderKey, group: Group) -> BackfillRank:
    """组里次序键是 key 的作业，在按预测排的回填里的位置；没有预测的照时限。"""
    predicted = group.shape.predicted_s
    return (key[0], key[1], group.time_limit_s if predicted is None else predicted, key)


class Queue:
    """全部排队的作业，能启动的与不能的都在 jobs 里；groups 只有能启动的。"""

    def __init__(self) -> None:
        self.jobs: dict[int, PendingJob] = {}
        self.groups: dict[GroupKey, Group] = {}
        # 计划器上次看过之后新到的（或刚刚能启动的）；它看完就清空。
        self.fresh: dict[int, PendingJob] = {}
        # 次序整个变过：记着的计划作废。
        self.disordered = False
        self._shapes: dict[Shape, Shape] = {}

    def __len__(self) -> int:
        return len(self.jobs)

    def upsert(self, job: PendingJob) -> None:
        """放进队列；同号的被替换。"""
        if job.job_id in self.jobs:
            self.remove(job.job_id)
        self.jobs[job.job_id] = job
        # 共用一个形状对象：十万个作业只存几百个形状，比较也只比身份。
        job.shape = self._shapes.setdefault(job.shape, job.shape)
        if job.startable:
            self._list(job)

    def remove(self, job_id: int) -> PendingJob | None:
        """拿出队列；不在则什么也不做。"""
        job = self.jobs.pop(job_id, None)
        if job is not None and job.startable:
            self._unlist(job)
        return job

    def judge(self, job: PendingJob, reason: str | None, message: str | None = None) -> None:
        """改它此刻为什么不能启动；None 是能。不在队列里的只改它自己。"""
        job.message = message
        if job.reason != reason:
            self._change(job, reason, job.available)

    def set_available(self, job: PendingJob, available: int) -> None:
        """改数组此刻还能启动几个任务。"""
        if job.available != available:
            self._change(job, job.reason, available)

    def _change(self, job: PendingJob, reason: str | None, available: int) -> None:
        listed = job.startable and self.jobs.get(job.job_id) is job
        if listed and (reason is not None or available <= 0):
            self._unlist(job)
            listed = False
        job.reason, job.available = reason, available
        if not listed and job.startable and self.jobs.get(job.job_id) is job:
            self._list(job)

    def _list(self, job: PendingJob) -> None:
        place = (job.shape, job.time_limit_s)
        group = self.groups.get(place)
        if group is None:
            group = self.groups[place] = Group(job.shape, job.time_limit_s)
        job.time_limit_s = group.time_limit_s
        group.insert(job)
        self.fresh[job.job_id] = job

    def _unlist(self, job: PendingJob) -> None:
        self.fresh.pop(job.job_id, None)
        place = (job.shape, job.time_limit_s)
        group = self.groups[place]
        group.discard(job)
        if not len(group):
            del self.groups[place]
        if len(self._shapes) > 2 * len(self.groups) + 10_000:
            self._shapes = {waiting.shape: waiting.shape for waiting in self.jobs.values()}

    def reorder(self) -> None:
        """优先级或层级变了之后重新排好。"""
        self.disordered = True
        for group in self.groups.values():
            found = sorted((job.key, job.job_id, job) for job in group.live())
            group.keys = [item[0] for item in found]
            group.jobs = [item[2] for item in found]
            group.start = group.dead = 0
