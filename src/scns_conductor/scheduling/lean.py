"""只有一个节点、作业几乎各是各的形状时：逐个作业地走一遍，全用列表，不为每个组造对象。

重放踪迹（机器是一个处理器池）与笔记本上的混合队列都是这样。决定与 Cycle 相同（tests/unit/test_scheduling_lean.py）。
"""

from bisect import bisect_left
from collections.abc import Sequence

from scns_conductor.scheduling.attempt import facts_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.feasibility import Kind
from scns_conductor.scheduling.lane import Amounts, Lane, enough
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import OrderKey, PendingJob, Queue

# 同一组的作业多到这么多个，成组地看更省。
JOBS_PER_GROUP = 4
# 保留多到这么多，一条时间线上逐个地找就慢了。
MOST_DEPTH = 128

# 走了的攒到这么多个（且占三分之一）才丢。
MOST_STALE = 8

# 次序键、作业、要多少、时限、份额。
_Entry = tuple[OrderKey, PendingJob, Amounts, float, tuple[int, int, int]]


class Lean:
    """排好的队列，计划之间留着；只添新到的，走了的碰到时再丢。"""

    def __init__(self) -> None:
        self._queue: Queue | None = None
        self._version = -1
        self._entries: list[_Entry] = []
        # 不能这样看的作业：数组、多节点、等池的……还有一个在，就照平常的办法。
        self._odd: dict[int, PendingJob] = {}

    def plan(self, cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan | None:
        """只决定启动；不能这样看时是 None。"""
        if (
            cluster.count != 1
            or cluster.reservations
            or policy.backfill is Backfill.NONE
            or policy.depth > MOST_DEPTH
            or len(queue.jobs) > JOBS_PER_GROUP * len(queue.groups)
        ):
            self._queue = None
            return None
        self._catch_up(cluster, queue)
        if self._odd:
            self._odd = {job_id: job for job_id, job in self._odd.items() if _waits(queue, job)}
            if self._odd:
                return None
        return self._walk(cluster, queue, now, policy)

    def _catch_up(self, cluster: Cluster, queue: Queue) -> None:
        if self._queue is not queue or self._version != cluster.version or queue.disordered:
            self._queue, self._version, self._entries, self._odd = queue, cluster.version, [], {}
            fresh: Sequence[PendingJob] = [job for group in queue.groups.values() for job in group.live()]
        else:
            fresh = list(queue.fresh.values())
        for job in fresh:
            self._add(cluster, queue, job)

    def _add(self, cluster: Cluster, queue: Queue, job: PendingJob) -> None:
        need, kind = facts_of(cluster, queue.groups[job.shape, job.time_limit_s])
        shape = job.shape
        if kind is not Kind.PLAIN or job.tasks is not None or shape.pools or shape.time_minimum_s is not None:
            self._odd[job.job_id] = job
            return
        if cluster.confined(shape) or not cluster.eligible(shape)[0]:
            # 放不下，也说不准何时：不挡着别人。
            return
        found = need.tolist()
        amounts = [(dimension, amount) for dimension, amount in enumerate(found) if amount]
        key = job.key
        index = bisect_left(self._entries, key, key=_key_of)
        if index < len(self._entries) and self._entries[index][1] is job:
            return
        self._entries.insert(index, (key, job, amounts, job.time_limit_s, (found[0], found[1], shape.tasks)))

    def _walk(self, cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan:
        plan, free, jobs = Plan(now, complete=False), cluster.free[0].tolist(), queue.jobs
        lane: Lane | None = None
        started: list[tuple[float, list[int]]] = []
        depth, left, stale = policy.depth, policy.most_starts, 0
        for _, job, amounts, limit_s, share in self._entries:
            if jobs.get(job.job_id) is not job or job.reason is not None:
                stale += 1
                continue
            if enough(free, amounts) and (lane is None or lane.allows(amounts, limit_s)):
                plan.starts.add_run((job,), None, (0,), share)
                need = [0] * len(free)
                for dimension, amount in amounts:
                    free[dimension] -= amount
                    need[dimension] = amount
                if lane is not None:
                    lane.occupy(now, now + limit_s, amounts)
                else:
                    started.append((now + limit_s, need))
                left -= 1
                if not left:
                    plan.exhausted = True
                    break
            elif depth:
                if lane is None:
                    lane = _lane_of(cluster, now, free, started)
                begin = lane.earliest(amounts, limit_s)
                if begin is not None:
                    lane.occupy(begin, begin + limit_s, amounts)
                    depth -= 1
            elif not free[0]:
                # 没有空闲的 CPU，也不再保留：余下的不必看。
                break
        if stale > MOST_STALE and 3 * stale > len(self._entries):
            self._entries = [entry for entry in self._entries if _waits(queue, entry[1])]
        return plan


def _key_of(entry: _Entry) -> OrderKey:
    return entry[0]


def _waits(queue: Queue, job: PendingJob) -> bool:
    return queue.jobs.get(job.job_id) is job and job.startable


def _lane_of(cluster: Cluster, now: float, free: list[int], started: Sequence[tuple[float, list[int]]]) -> Lane:
    rows = list(cluster.node_rows[0])
    releases = [*zip(cluster.run_end[rows].tolist(), cluster.run_need[rows].tolist(), strict=True), *started]
    return Lane(now, list(free), releases)
