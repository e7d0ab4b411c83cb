"""抢占：受阻的作业比谁要紧、让谁让出来它就能启动；被挂起的何时恢复。纯函数。

依据（Slurm 的 PreemptType）：partition_prio 按分区的层级，qos 按 QOS 的 preempt 列表。
选的是够用的最少几个：最不要紧的先，同样不要紧的里最年轻的先；抢了也启动不了的一个也不动。
隔着的（--exclusive=user、mcs）也让得出来，CPU 够也要它们走；挂起的还在节点上，照样隔着。
方式是 suspend 的只让出 CPU：内存与通用资源留给它自己，抢占者结束后它接着跑。
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scns_conductor.core.accounting import QosFacts
from scns_conductor.scheduling.cluster import Cluster, keeps_off
from scns_conductor.scheduling.cluster_facts import NodeShare, RunningJob
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import Group, PendingJob, Queue
from scns_conductor.scheduling.shape import BoolArray, IntArray

# 一个周期最多为几个受阻的作业找；其余的等下一个周期。
MOST_PREEMPTORS = 20
# 等豁免时间的，至多看这么多个时刻。
MOST_MOMENTS = 50
SUSPEND = "suspend"
WITHIN = "within"


@dataclass(frozen=True, slots=True)
class Preemption:
    """为 job 让 victims 让出来。"""

    job: PendingJob
    victims: tuple[RunningJob, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """谁能抢占谁、怎样抢。by_qos 为假是按分区的层级；exempt_s 是运行满多少秒才许被抢占。"""

    by_qos: bool = False
    default_mode: str = "requeue"
    exempt_s: float = 0.0
    # 同一个 QOS 里优先级高的也抢占低的；QOS 自己也可以写（WITHIN）。
    within: bool = False
    qos: Mapping[str, QosFacts] = field(default_factory=dict)

    def _qos(self, name: str | None) -> QosFacts | None:
        return None if name is None else self.qos.get(name)

    def outranks(self, cluster: Cluster, job: PendingJob, victim: RunningJob) -> bool:
        """job 能不能抢占 victim。"""
        if not self.by_qos:
            return _tier(cluster, victim) < job.tier
        own = self._qos(job.shape.qos)
        if own is None:
            return False
        if victim.qos == own.name:
            within = self.within or (own.preempt_mode or "").endswith(WITHIN)
            return within and job.priority > victim.priority
        return victim.qos in own.preempt

    def mode(self, cluster: Cluster, victim: RunningJob) -> str:
        """被抢占时怎么办：QOS（分区）写的为准。"""
        if self.by_qos:
            qos = self._qos(victim.qos)
            mode = (qos.preempt_mode if qos else None) or ""
            return mode.removesuffix(WITHIN).rstrip(",") or self.default_mode
        partition = cluster.partitions.get(victim.partition)
        return (partition.preempt_mode if partition else None) or self.default_mode

    def leaves_within_s(self, cluster: Cluster, victim: RunningJob, kill_wait_s: float) -> float:
        """被抢占的至多多少秒之后让出来：挂起的当场；要结束的是宽限，不短于 KillWait（见 request_preemptions）。"""
        return 0.0 if self.mode(cluster, victim) == SUSPEND else max(float(self.grace_s(cluster, victim)), kill_wait_s)

    def grace_s(self, cluster: Cluster, victim: RunningJob) -> int:
        """被抢占时的宽限（秒）。"""
        if self.by_qos:
            qos = self._qos(victim.qos)
            return 0 if qos is None else qos.grace_time
        partition = cluster.partitions.get(victim.partition)
        return 0 if partition is None else partition.grace_time

    def exempt_until(self, cluster: Cluster, victim: RunningJob) -> float:
        """到什么时刻才许被抢占（Unix 秒）：QOS 写的、分区写的、全局的，先有的为准。"""
        qos, partition = self._qos(victim.qos), cluster.partitions.get(victim.partition)
        written = [each.preempt_exempt_time for each in (qos, partition) if each is not None]
        return victim.start_time + next((each for each in written if each is not None), self.exempt_s)

    def order(self, cluster: Cluster, victim: RunningJob) -> tuple[int, int]:
        """小的先让出来。"""
        if self.by_qos:
            qos = self._qos(victim.qos)
            return (0 if qos is None else qos.priority, -victim.job_id)
        return (_tier(cluster, victim), -victim.job_id)


def precedence(qos: Mapping[str, QosFacts]) -> dict[str, int]:
    """各个 QOS 在抢占关系里的高低：能抢占别人的比它高一级，先排（Slurm 也是）。

    否则被抢占而重新排队的排在抢占者前面，一空出来又是它先启动，两个没完没了。互相抢占的一样高。
    """
    found = dict.fromkeys(qos, 0)
    for _ in qos:
        higher = {
            name: max((1 + found[other] for other in facts.preempt if other in found), default=0)
            for name, facts in qos.items()
        }
        if higher == found:
            break
        found = higher
    return found


def preempt(cluster: Cluster, queue: Queue, plan: Plan, policy: Policy, rules: Rules) -> list[Preemption]:
    """这个周期要做的抢占。已经在结束的作业（ending）的资源当作快要空出来，不为同一个作业抢两次。"""
    waiting = _preemptors(queue, plan)
    if not waiting:
        return []
    free = cluster.free[: cluster.count].copy()
    for start in plan.starts:
        for share in start.shares:
            free[share.node] -= cluster.share_vector(share)
    for running in cluster.running.values():
        if running.ending:
            _give_back(cluster, free, running, "cancel")
    pool = [each for each in _candidates(cluster, rules) if rules.exempt_until(cluster, each) <= plan.now]
    found: list[Preemption] = []
    claimed: list[RunningJob] = []
    for job in waiting:
        usable = _Usable(cluster, job, plan.now, claimed)
        outranked = [each for each in pool if rules.outranks(cluster, job, each)]
        chosen = _choose(cluster, job, policy, free, usable, outranked, rules)
        if chosen is None:
            continue
        for victim in chosen:
            _give_back(cluster, free, victim, rules.mode(cluster, victim))
            pool.remove(victim)
        gone = [victim for victim in chosen if rules.mode(cluster, victim) != SUSPEND]
        shares = place(cluster, job.shape, free, policy.placement, usable.without(gone))
        assert shares is not None
        for share in shares:
            free[share.node] -= cluster.share_vector(share)
        if cluster.scopes:
            claimed.append(_claim(job, shares))
        if chosen:
            found.append(Preemption(job, tuple(chosen)))
    return found


class _Usable:
    """一个作业能用的节点，隔着它的作业走了几个之后的；claimed 是这一遍里先替别人抢下的。"""

    def __init__(self, cluster: Cluster, job: PendingJob, now: float, claimed: Sequence[RunningJob]) -> None:
        if not cluster.scopes:
            self.nodes, self._bars = cluster.usable(job.shape, now, job.time_limit_s), {}
            return
        self.nodes = cluster.usable_once_left(job.shape, now, job.time_limit_s)
        self._bars = {
            each.job_id: [share.node for share in each.shares]
            for each in (*cluster.running.values(), *claimed)
            if keeps_off(each, job.shape) and not each.ending
        }

    def without(self, gone: Sequence[RunningJob]) -> BoolArray:
        """这些走了之后能用的。"""
        left = self._bars.keys() - {each.job_id for each in gone}
        if not left:
            return self.nodes
        mask = self.nodes.copy()
        for job_id in left:
            mask[self._bars[job_id]] = False
        return mask


def _claim(job: PendingJob, shares: Sequence[NodeShare]) -> RunningJob:
    """替 job 抢下的节点，当作它已经在上面。"""
    return RunningJob(job.job_id, 0.0, tuple(shares), owners=job.shape.owners, exclusive_to=job.shape.exclusive_to)


def exempt_ends(cluster: Cluster, queue: Queue, plan: Plan, rules: Rules) -> float | None:
    """受阻的作业本可抢占、只是还没有跑满豁免时间的，最早到时的时刻；没有是 None。"""
    waiting = _preemptors(queue, plan)
    moments = [
        moment
        for victim in (_candidates(cluster, rules) if waiting else ())
        for moment in [rules.exempt_until(cluster, victim)]
        if moment > plan.now and any(rules.outranks(cluster, job, victim) for job in waiting)
    ]
    return min(moments, default=None)


def exempted(
    cluster: Cluster, job: PendingJob, now: float, policy: Policy, rules: Rules
) -> tuple[float, tuple[RunningJob, ...]] | None:
    """job 抢得到、只是要等它们运行满豁免时间的：(何时, 抢谁)；抢不到、不必抢的是 None。"""
    pool = [each for each in _candidates(cluster, rules) if rules.outranks(cluster, job, each)]
    if not pool:
        return None
    free = cluster.free[: cluster.count].copy()
    for running in cluster.running.values():
        if running.ending:
            _give_back(cluster, free, running, "cancel")
    usable = _Usable(cluster, job, now, ())
    for moment in sorted({max(now, rules.exempt_until(cluster, each)) for each in pool})[:MOST_MOMENTS]:
        able = [each for each in pool if rules.exempt_until(cluster, each) <= moment]
        chosen = _choose(cluster, job, policy, free, usable, able, rules)
        if chosen is not None:
            return (moment, tuple(chosen)) if chosen else None
    return None


def resumable(cluster: Cluster, plan: Plan, rules: Rules | None) -> list[RunningJob]:
    """借出了 CPU 的作业里现在能恢复的，先挂起的先：只有比它要紧、这个周期就启动的排在它前面。"""
    free = cluster.free[: cluster.count].copy()
    found = []
    for victim in sorted(lent_jobs(cluster), key=lambda each: each.job_id):
        left = free.copy()
        hold = cluster.running.get(-victim.job_id)
        for share in hold.shares if hold is not None else ():
            left[share.node] += cluster.share_vector(share)
        for start in plan.starts:
            if rules is not None and rules.outranks(cluster, start.job, victim):
                for share in start.shares:
                    left[share.node] -= cluster.share_vector(share)
        if all(left[spot] >= cpus for spot, cpus in _lent(cluster, victim)):
            found.append(victim)
            for spot, cpus in _lent(cluster, victim):
                free[spot] -= cpus
    return found


def _lent(cluster: Cluster, job: RunningJob) -> Iterator[tuple[tuple[int, int], int]]:
    """它借出的：((节点, CPU 的那一维), 几个)；在按核留的预留里的，还从那里出。"""
    return (((node, cluster.cpu_column_at(job.reservation, node)), cpus) for node, cpus in job.lent)


def lent_jobs(cluster: Cluster) -> list[RunningJob]:
    """挂起时借出了 CPU、等着恢复的。"""
    return [each for each in cluster.running.values() if each.lent and each.resuming and not each.ending]


def holds(cluster: Cluster, queue: Queue, rules: Rules | None) -> list[RunningJob]:
    """替等着恢复的作业攒下的 CPU：没有比它要紧的在排队时，它的节点上空出来的不给后来的。

    返回要记成占着的（作业号是负的）；凑够了 resumable 就会恢复它。
    """
    free = cluster.free[: cluster.count].copy()
    found = []
    for victim in sorted(lent_jobs(cluster), key=lambda each: each.job_id):
        if rules is not None and _outranked(cluster, queue, rules, victim):
            continue
        shares = []
        for spot, cpus in _lent(cluster, victim):
            taken = min(int(free[spot]), cpus)
            if taken > 0:
                free[spot] -= taken
                shares.append(NodeShare(spot[0], taken, 0))
        if shares:
            found.append(RunningJob(-victim.job_id, victim.expected_end, tuple(shares), reservation=victim.reservation))
    return found


def _outranked(cluster: Cluster, queue: Queue, rules: Rules, victim: RunningJob) -> bool:
    return any(rules.outranks(cluster, job, victim) for group in queue.groups.values() for job in _first(group))


def _first(group: Group) -> list[PendingJob]:
    job = next(group.live(), None)
    return [] if job is None else [job]


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


def _candidates(cluster: Cluster, rules: Rules) -> list[RunningJob]:
    found = []
    for running in cluster.running.values():
        mode = rules.mode(cluster, running)
        if running.ending or running.job_id < 0 or mode == "off" or (mode == SUSPEND and running.suspended):
            continue
        found.append(running)
    return sorted(found, key=lambda running: rules.order(cluster, running))


def _give_back(cluster: Cluster, free: IntArray, running: RunningJob, mode: str) -> None:
    for share in running.shares:
        if mode == SUSPEND:
            free[share.node, cluster.cpu_column_at(running.reservation, share.node)] += share.cpus
        else:
            free[share.node] += cluster.share_vector(share)


def _choose(
    cluster: Cluster,
    job: PendingJob,
    policy: Policy,
    free: IntArray,
    usable: _Usable,
    pool: Sequence[RunningJob],
    rules: Rules,
) -> list[RunningJob] | None:
    """够用的最少几个；不必抢就放得下是空的，怎样也放不下是 None。"""
    useful = [each for each in pool if any(usable.nodes[share.node] for share in each.shares)]

    def enough(victims: Sequence[RunningJob]) -> bool:
        trial, gone = free.copy(), []
        for victim in victims:
            mode = rules.mode(cluster, victim)
            _give_back(cluster, trial, victim, mode)
            if mode != SUSPEND:
                gone.append(victim)
        return place(cluster, job.shape, trial, policy.placement, usable.without(gone)) is not None

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
