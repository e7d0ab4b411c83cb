"""计划一个周期：集群 + 队列 + 现在 + 策略 -> 启动、保留、谁为什么在等。纯函数，什么也不改。

各组按组首的次序键排在一个堆里，所以作业严格按次序考虑；一组里有一个放不下，整组这个周期都不再试。
没有保留时空闲只增不减，看此刻的空闲就够；有了保留，就看作业要占的整段时间里一直有的空闲，
于是后面的作业不可能推迟任何一个保留（EASY 的两条规则都在其中）。
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scns_conductor.scheduling.cluster import Cluster, NodeShare
from scns_conductor.scheduling.placement import Placement, candidate_order, place
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.profile import Profile, fits
from scns_conductor.scheduling.queue import Group, OrderKey, PendingJob, Queue
from scns_conductor.scheduling.shape import IntArray, Shape


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """现在启动；task_id 是数组任务号，不是数组则为 None。"""

    job: PendingJob
    task_id: int | None
    shares: tuple[NodeShare, ...]
    # --time-min 的作业得到的时限（秒）；None 是作业自己的。
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """为受阻的作业保留：预计 start_time（Unix 秒）开始，用 shares。"""

    job: PendingJob
    start_time: float
    shares: tuple[NodeShare, ...]


@dataclass(slots=True)
class Plan:
    """一个周期的决定。

    blocked：放不下的组 -> 原因；组里有保留的作业是 Resources，其余是 Priority。
    impossible：无论等多久都放不下的组 -> 说明。exhausted：达到了一个周期的启动上限，应当马上再计划。
    """

    now: float
    starts: list[PlannedStart] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    blocked: dict[tuple[Shape, float], str] = field(default_factory=dict)
    impossible: dict[tuple[Shape, float], str] = field(default_factory=dict)
    exhausted: bool = False


# 此刻放得下，只是会碰到预留（Slurm 的 ReqNodeNotAvail）。
RESERVED = "ReqNodeNotAvail"


def plan(cluster: Cluster, queue: Queue, now: float, policy: Policy) -> Plan:
    """计划一个周期；now 是 Unix 秒。"""
    return _Cycle(cluster, queue, now, policy).run()


class _Attempt:
    """一组作业在本周期的进度。"""

    __slots__ = (
        "candidates",
        "duration",
        "eligible",
        "entries",
        "group",
        "job",
        "need",
        "nodes",
        "pointer",
        "share",
        "taken",
        "whole",
    )

    def __init__(self, cluster: Cluster, group: Group, now: float) -> None:
        self.group = group
        self.duration = group.time_limit_s
        self.entries: Iterator[PendingJob] = group.live()
        self.job: PendingJob | None = next(self.entries, None)
        self.taken = 0
        self.candidates: IntArray | None = None
        self.pointer = 0
        if group.facts is None or group.facts[0] != cluster.version:
            group.facts = (cluster.version, *_facts(cluster, group.shape))
        _, self.need, self.whole = group.facts
        self.share = (int(self.need[0]), int(self.need[1]))
        self.eligible = cluster.eligible(group.shape)
        # 没有预留时两者是同一个。
        self.nodes = cluster.usable(group.shape, now, group.time_limit_s)

    @property
    def key(self) -> OrderKey:
        assert self.job is not None
        return self.job.key

    def advance(self) -> None:
        """轮到组里的下一个作业。"""
        self.job = next(self.entries, None)
        self.taken = 0


def _facts(cluster: Cluster, shape: Shape) -> tuple[IntArray, bool]:
    """(在一个节点上放下全部任务要多少, 是否要走一般的放置)。一般的：独占、整节点内存、多节点、指名、通用资源。"""
    simple = (
        shape.single_node
        and not cluster.exclusive(shape)
        and shape.memory_per_node != 0
        and not shape.required_nodes
        and (shape.maximum_nodes == 1 or shape.tasks == 1)
        and not shape.minimum_cpus_per_node
        and not shape.gres_names
    )
    per_task = shape.per_task(cluster.kinds, cluster.width)
    return shape.per_node(cluster.kinds, cluster.width) + shape.tasks * per_task, not simple


class _Cycle:
    def __init__(self, cluster: Cluster, queue: Queue, now: float, policy: Policy) -> None:
        self.cluster = cluster
        self.policy = policy
        self.free: IntArray = cluster.free[: cluster.count].copy()
        self.pools = dict(cluster.pools)
        self.profile: Profile | None = None
        self.plan = Plan(now)
        self.now = now
        self.depth = policy.depth if policy.backfill is not Backfill.NONE else 0
        self.stopped: set[str] = set()
        self.heap: list[tuple[OrderKey, int, _Attempt]] = []
        for number, group in enumerate(queue.groups.values()):
            attempt = _Attempt(cluster, group, now)
            if attempt.job is not None:
                self.heap.append((attempt.key, number, attempt))
        heapq.heapify(self.heap)

    def run(self) -> Plan:
        most = self.policy.most_starts
        while self.heap:
            _, number, attempt = heapq.heappop(self.heap)
            limit = self.heap[0][0] if self.heap else None
            keep = True
            while keep and attempt.job is not None and (limit is None or attempt.key <= limit):
                keep = self._step(attempt)
                if keep and self.profile is None:
                    self._fill(attempt, limit, most)
                if len(self.plan.starts) >= most:
                    self.plan.exhausted = True
                    return self.plan
            if keep and attempt.job is not None:
                heapq.heappush(self.heap, (attempt.key, number, attempt))
        return self.plan

    def _fill(self, attempt: _Attempt, limit: OrderKey | None, most: int) -> None:
        """刚放了一个：同组紧接着的作业放进同一个节点余下的地方，只算一次。"""
        shape, starts = attempt.group.shape, self.plan.starts
        if attempt.whole or shape.pools or not starts or self.policy.placement is Placement.SPREAD:
            return
        last = starts[-1]
        if last.job.shape is not shape or attempt.candidates is None or attempt.pointer >= len(attempt.candidates):
            return
        node = last.shares[0].node
        wanted = attempt.need > 0
        room = int((self.free[node][wanted] // attempt.need[wanted]).min()) if wanted.any() else 0
        room = min(room, most - len(starts))
        placed = 0
        while placed < room and attempt.job is not None and (limit is None or attempt.key <= limit):
            job = attempt.job
            task_id = None if job.tasks is None else nth_task(job, attempt.taken)
            starts.append(PlannedStart(job, task_id, last.shares))
            placed += 1
            attempt.taken += 1
            if attempt.taken >= job.available:
                attempt.advance()
        if placed:
            self.free[node] -= attempt.need * placed

    # ---- 一个作业 ----

    def _step(self, attempt: _Attempt) -> bool:
        """考虑组里当前的作业；返回 False 表示这一组本周期不必再看。"""
        shape = attempt.group.shape
        place_key = (shape, attempt.duration)
        if shape.partition in self.stopped:
            self.plan.blocked[place_key] = "Priority"
            return False
        lacking = self._lacking(shape)
        if lacking is not None:
            self.plan.blocked[place_key] = self.cluster.pool_reasons.get(lacking, "Resources")
            return False
        shares = None if place_key in self.plan.blocked else self._fit_now(attempt)
        if shares is not None:
            self._start(attempt, shares)
            return True
        if place_key not in self.plan.blocked:
            message = impossible(self.cluster, shape)
            if message is not None:
                self.plan.impossible[place_key] = message
                return False
        self.plan.blocked[place_key] = "Resources" if self._fits_without_reservations(attempt) is None else RESERVED
        if self.policy.backfill is Backfill.NONE:
            self.stopped.add(shape.partition)
            return False
        if len(self.plan.reservations) >= self.depth or shape.reservation is not None:
            return False
        return self._reserve(attempt)

    def _fits_without_reservations(self, attempt: _Attempt) -> tuple[NodeShare, ...] | None:
        """此刻放不下，只是因为有预留。"""
        if attempt.nodes is attempt.eligible:
            return None
        return place(self.cluster, attempt.group.shape, self.free, self.policy.placement)

    def _lacking(self, shape: Shape) -> str | None:
        return next((name for name, count in shape.pools if self.pools.get(name, 0) < count), None)

    def _fit_now(self, attempt: _Attempt) -> tuple[NodeShare, ...] | None:
        """此刻启动会用到的份额；放不下、或会推迟某个保留时是 None。"""
        if attempt.whole:
            return place(self.cluster, attempt.group.shape, self._window(attempt), self.policy.placement, attempt.nodes)
        if attempt.candidates is None:
            free = self._window(attempt)
            usable = attempt.nodes & fits(free, attempt.need)
            nodes = np.flatnonzero(usable)
            if nodes.size:
                nodes = candidate_order(self.cluster, nodes, free, self.policy.placement)
            attempt.candidates = nodes
        # 空闲在一个周期里只减不增：候选里放不下的不必回头。一段一段地试，越往后段越长。
        chunk = 32
        free = self._window(attempt)
        while attempt.pointer < len(attempt.candidates):
            picked = attempt.candidates[attempt.pointer : attempt.pointer + chunk]
            good = fits(free[picked], attempt.need)
            found = int(good.argmax())
            if good[found]:
                attempt.pointer += found
                if self.policy.placement is Placement.SPREAD:
                    self._to_the_back(attempt)
                cpus, memory = attempt.share
                return (NodeShare(int(picked[found]), cpus, memory, (), attempt.group.shape.tasks),)
            attempt.pointer += len(picked)
            chunk = min(chunk * 8, 4096)
        return None

    def _window(self, attempt: _Attempt) -> IntArray:
        """从现在起作业要占的整段时间里一直有的空闲。预留里的作业只看此刻：别人的保留不会用到它的节点。"""
        if self.profile is None or attempt.group.shape.reservation is not None:
            return self.free
        return self.profile.window(0, attempt.duration)

    def _to_the_back(self, attempt: _Attempt) -> None:
        """分散：用过的节点排到最后。"""
        assert attempt.candidates is not None
        rest, used = attempt.candidates[attempt.pointer + 1 :], attempt.candidates[attempt.pointer]
        attempt.candidates, attempt.pointer = np.append(rest, used), 0

    def _start(self, attempt: _Attempt, shares: tuple[NodeShare, ...]) -> None:
        job = attempt.job
        assert job is not None
        task_id = None
        if job.tasks is not None:
            task_id = nth_task(job, attempt.taken)
        self.plan.starts.append(PlannedStart(job, task_id, shares))
        for share in shares:
            self.free[share.node] -= attempt.need if not attempt.whole else self.cluster.share_vector(share)
        if self.profile is not None:
            self.profile.occupy(0, attempt.duration, shares)
        for name, count in attempt.group.shape.pools:
            self.pools[name] -= count
        attempt.taken += 1
        if attempt.taken >= job.available:
            attempt.advance()

    def _reserve(self, attempt: _Attempt) -> bool:
        """为当前的作业保留；返回组里还要不要往下看（只为保留）。"""
        job, shape = attempt.job, attempt.group.shape
        assert job is not None
        if self.profile is None:
            ends = [(self.now + start.job.time_limit_s, start.shares) for start in self.plan.starts]
            # 剖面自己拿一份：此后此刻的空闲与剖面各记各的。
            self.profile = Profile(self.cluster, self.now, self.free.copy(), ends)
            for reservation in self.cluster.reservations.values():
                mask = reservation.mask(self.cluster.index, self.cluster.count)
                self.profile.close(mask, reservation.start, reservation.end)
        profile = self.profile
        found = earliest_start(self.cluster, profile, shape, attempt.duration, self.policy, attempt.need, attempt.whole)
        if found is None:
            return False
        slot, shares = found
        start_time = float(profile.times[slot])
        profile.occupy(slot, attempt.duration, shares)
        self.plan.reservations.append(Reservation(job, start_time, shares))
        attempt.advance()
        return attempt.job is not None


def earliest_start(
    cluster: Cluster, profile: Profile, shape: Shape, duration_s: float, policy: Policy, need: IntArray, whole: bool
) -> tuple[int, tuple[NodeShare, ...]] | None:
    """剖面上最早能连续放下 duration_s 秒的 (段, 份额)；已知的结束都等到了也放不下则为 None。"""
    if not whole:
        nodes = np.flatnonzero(cluster.eligible(shape))
        if not nodes.size:
            return None
        slot = profile.earliest_on_one_node(shape, need, nodes, duration_s)
        if slot is None:
            return None
        free = profile.window(slot, duration_s)
        nodes = nodes[fits(free[nodes], need)]
        node = int(candidate_order(cluster, nodes, free, policy.placement)[0])
        return slot, (NodeShare(node, int(need[0]), int(need[1]), (), shape.tasks),)
    for slot in range(len(profile.times)):
        shares = place(cluster, shape, profile.window(slot, duration_s), policy.placement)
        if shares is not None:
            return slot, shares
    return None


def nth_task(job: PendingJob, index: int) -> int:
    """数组里还没有启动的第 index 个任务号。"""
    assert job.tasks is not None
    for span in job.tasks:
        size = span.upper - span.lower
        if index < size:
            return span.lower + index
        index -= size
    raise IndexError(f"数组作业 {job.job_id} 没有第 {index} 个任务")


def impossible(cluster: Cluster, shape: Shape) -> str | None:
    """所有节点都空着也放不下时，说明缺什么；只是有节点此刻不可用则不算。"""
    known = cluster.verdicts.get(shape)
    if known is not None and known[0] == cluster.version:
        return known[1]
    total = cluster.total[: cluster.count]
    fits = place(cluster, shape, total, Placement.BEST_FIT, cluster.acceptable(shape)) is not None
    verdict = None if fits else shortfall(cluster, shape)
    if len(cluster.verdicts) > 10_000:
        cluster.verdicts.clear()
    cluster.verdicts[shape] = (cluster.version, verdict)
    return verdict


def shortfall(cluster: Cluster, shape: Shape) -> str:
    """给人看的：哪一样不够。"""
    if cluster.count == 0:
        return "还没有节点登记"
    unknown = [name for name in sorted(shape.gres_names) if name not in cluster.kinds]
    if unknown:
        return f"没有节点有通用资源 {unknown[0]}"
    total = cluster.total[: cluster.count]
    rows = cluster.schedulable[: cluster.count]
    total = total[rows] if rows.any() else total
    need = shape.per_node(cluster.kinds, cluster.width) + shape.per_task(cluster.kinds, cluster.width) * (
        shape.tasks if shape.maximum_nodes == 1 else shape.tasks_per_node or 1
    )
    names = {0: " 个 CPU", 1: " MiB 内存", **{column: f" 个 {name}" for name, column in cluster.kinds.items()}}
    most = total.max(axis=0)
    lacking = [
        f"每节点要 {int(need[column])}{names[column]}，最大的节点只有 {int(most[column])}{names[column]}"
        for column in range(cluster.width)
        if need[column] > most[column]
    ]
    if lacking:
        return "；".join(lacking)
    if shape.required_nodes and any(name not in cluster.index for name in shape.required_nodes):
        missing = next(name for name in shape.required_nodes if name not in cluster.index)
        return f"没有节点 {missing}"
    if shape.constraints and not cluster.acceptable(shape).any():
        return f"没有节点满足特性 {shape.constraints}"
    nodes = int(cluster.acceptable(shape).sum())
    if nodes < shape.minimum_nodes:
        return f"要 {shape.minimum_nodes} 个节点，合用的只有 {nodes} 个"
    return f"要 {shape.tasks} 个任务、每任务 {shape.cpus_per_task} 个 CPU，合用的节点全部空着也放不下"


def unlimited(seconds: float | None) -> float:
    """None（不限时）换成 inf。"""
    return math.inf if seconds is None else float(seconds)
