"""一组作业在一遍计划里的进度：轮到哪个作业，哪些节点能用，要多少。"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import cast

from scns_conductor.scheduling.bins import Bins
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.feasibility import Kind, requirement
from scns_conductor.scheduling.queue import Group, OrderKey, PendingJob
from scns_conductor.scheduling.shape import BoolArray, IntArray


def facts_of(cluster: Cluster, group: Group) -> tuple[IntArray, Kind]:
    """(一个作业在一个节点上要多少, 怎样放置)，按集群的版本记在组里与形状里。"""
    if group.facts is None or group.facts[0] != cluster.version:
        group.facts = cluster.requirements.get(group.shape)
        if group.facts is None or group.facts[0] != cluster.version:
            if len(cluster.requirements) > 10_000:
                cluster.requirements.clear()
            group.facts = (cluster.version, *requirement(cluster, group.shape))
            cluster.requirements[group.shape] = group.facts
    # 就是 requirement 给的 Kind；再转一遍要花的比别的都多。
    return group.facts[1], cast(Kind, group.facts[2])


class Attempt:
    """一组作业在这一遍里的进度：轮到 jobs[index]，数组已经拿走 taken 个任务。"""

    __slots__ = (
        "allowed",
        "amounts",
        "begun",
        "bins",
        "candidates",
        "duration",
        "filled",
        "group",
        "index",
        "inside",
        "job",
        "kind",
        "known",
        "lone",
        "need",
        "pointer",
        "refused",
        "share",
        "skipped",
        "taken",
        "usable",
        "within",
    )

    def __init__(
        self,
        cluster: Cluster,
        group: Group,
        now: float,
        skipped: Collection[int] = (),
        begun: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """skipped 是不再看的作业号；begun 是数组 -> 已经启动了几个任务。"""
        self.group = group
        # 在（整个的）预留的节点里运行：别人的保留用不到它的节点。
        self.inside = cluster.secluded(group.shape)
        self.duration = group.time_limit_s
        self.skipped = skipped
        self.begun = begun
        self.index = group.start - 1
        self.job: PendingJob | None = None
        self.advance()
        self.need, self.kind = facts_of(cluster, group)
        self.amounts = [(dimension, amount) for dimension, amount in enumerate(self.need.tolist()) if amount]
        self.share = (int(self.need[0]), int(self.need[1]), group.shape.tasks)
        # 在哪个节点上都一样、不等池、一个也没有略过：可以一个个地放（Cycle._start_interleaved）。
        self.lone = self.kind is Kind.PLAIN and not group.shape.pools and not skipped and not begun
        # usable 不看预留；没有预留时两者是同一个。
        self.usable: BoolArray = cluster.open_to(group.shape)
        self.allowed: BoolArray = cluster.usable(group.shape, now, group.time_limit_s)
        # 只看这些节点；None 是全部。
        self.within: BoolArray | None = None
        # 上一遍就受阻的，记着那时的原因。
        self.known: str | None = None
        self.bins: list[Bins] | None = None
        self.candidates: IntArray | None = None
        # 逐个找时看到第几个候选；成段放时放满了前几个候选。
        self.pointer = 0
        self.filled = 0
        # 有保留、给不出这个要求的节点。
        self.refused: BoolArray | None = None

    def advance(self) -> None:
        """轮到组里的下一个作业。"""
        jobs, index = self.group.jobs, self.index + 1
        while index < len(jobs):
            job = jobs[index]
            if job is not None and job.job_id not in self.skipped:
                break
            index += 1
        self.index = index
        self.job = jobs[index] if index < len(jobs) else None
        self.taken = 0 if self.job is None else self.begun.get(self.job.job_id, 0)

    def turn_to(self, job: PendingJob) -> None:
        """轮到组里的 job。"""
        self.index = self.group.index_of(job)
        self.job, self.taken = job, 0

    def limit_to(self, within: BoolArray, nodes: IntArray, known: str) -> None:
        """上一遍因为 known 受阻，此后只有这些节点的空闲多了：只看它们（多节点的还要配上别的节点，都看）。

        nodes 是 within 里的节点，从小到大。
        """
        self.known, self.lone = known, False
        if self.kind is not Kind.GENERAL:
            # 只挑这几个：不动全部节点那么长的 allowed。
            self.within, self.candidates = within, nodes[self.allowed[nodes]]

    @property
    def key(self) -> OrderKey:
        """当前的作业的次序键。"""
        return self.group.keys[self.index]
