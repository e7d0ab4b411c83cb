"""抢占（Slurm 的 preempt/partition_prio）：受阻的作业层级更高时，结束哪几个层级更低的作业它就能启动。纯函数。

选的是够用的最少几个：层级最低的先，同层级里最年轻的先；抢了也启动不了的一个也不动。
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scns_conductor.scheduling.cluster import Cluster, RunningJob
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.planner import Plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import BoolArray, IntArray

# 一个周期最多为几个受阻的作业找；其余的等下一个周期。
MOST_PREEMPTORS = 20


@dataclass(frozen=True, slots=True)
class Preemption:
    """为 job 结束 victims。"""

    job: PendingJob
    victims: tuple[RunningJob, ...]


def preempt(cluster: Cluster, queue: Queue, plan: Plan, policy: Policy, default_mode: str) -> list[Preemption]:
    """这个周期要做的抢占。已经在结束的作业（ending）的资源当作快要空出来，不为同一个作业抢两次。

    default_mode 是分区没有写 PreemptMode 时的方式；off 的分区里的作业不会被抢占。
    """
    waiting = _preemptors(queue, plan)
    if not waiting:
        return []
    free = cluster.free[: cluster.count].copy()
    for start in plan.starts:
        for share in start.shares:
            free[share.node] -= cluster.share_vector(share)
    for running in cluster.running.values():
        if running.ending:
            _give_back(cluster, free, running)
    pool = _candidates(cluster, default_mode)
    found: list[Preemption] = []
    for job in waiting:
        usable = cluster.usable(job.shape, plan.now, job.time_limit_s)
        chosen = _choose(cluster, job, policy, free, usable, [each for each in pool if _tier(cluster, each) < job.tier])
        if chosen is None:
            continue
        for victim in chosen:
            _give_back(cluster, free, victim)
            pool.remove(victim)
        shares = place(cluster, job.shape, free, policy.placement, usable)
        assert shares is not None
        for share in shares:
            free[share.node] -= cluster.share_vector(share)
        if chosen:
            found.append(Preemption(job, tuple(chosen)))
    return found


def _preemptors(queue: Queue, plan: Plan) -> list[PendingJob]:
    """缺资源的各组的第一个作业，按次序。同组的要等它先启动。"""
    heads = []
    for place_key, reason in plan.blocked.items():
        group = queue.groups.get(place_key)
        head = next(group.live(), None) if group is not None and reason == "Resources" else None
        if head is not None:
            heads.append(head)
    return sorted(heads, key=lambda job: job.key)[:MOST_PREEMPTORS]


def _tier(cluster: Cluster, running: RunningJob) -> int:
    partition = cluster.partitions.get(running.partition)
    return partition.tier if partition is not None else 1


def _candidates(cluster: Cluster, default_mode: str) -> list[RunningJob]:
    found = []
    for running in cluster.running.values():
        partition = cluster.partitions.get(running.partition)
        if not running.ending and mode_of(partition.preempt_mode if partition else None, default_mode) != "off":
            found.append(running)
    return sorted(found, key=lambda running: (_tier(cluster, running), -running.job_id))


def mode_of(partition_mode: str | None, default_mode: str) -> str:
    """被抢占时怎么办：分区写的为准。"""
    return partition_mode or default_mode


def _give_back(cluster: Cluster, free: IntArray, running: RunningJob) -> None:
    for share in running.shares:
        free[share.node] += cluster.share_vector(share)


def _choose(
    cluster: Cluster,
    job: PendingJob,
    policy: Policy,
    free: IntArray,
    eligible: BoolArray,
    pool: Sequence[RunningJob],
) -> list[RunningJob] | None:
    """够用的最少几个；不必抢就放得下是空的，怎样也放不下是 None。"""
    useful = [each for each in pool if any(eligible[share.node] for share in each.shares)]

    def enough(victims: Sequence[RunningJob]) -> bool:
        trial = free.copy()
        for victim in victims:
            _give_back(cluster, trial, victim)
        return place(cluster, job.shape, trial, policy.placement, eligible) is not None

    if enough(()):
        return []
    if not enough(useful):
        return None
    # 前缀越长空闲越多：二分找到最短的够用的前缀，再从舍不得的一头去掉用不着的。
    low, high = 0, len(useful)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(useful[:middle]) else (middle, high)
    chosen = list(useful[:high])
    for victim in reversed(useful[:high]):
        rest = [each for each in chosen if each is not victim]
        if enough(rest):
            chosen = rest
    return chosen
