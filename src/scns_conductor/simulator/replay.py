"""重放：虚拟时钟推动事件，每个事件之后让线上的调度核心计划一次。这里没有第二套调度。

规则（Gaussier 等，SC'15 的全日志实验）：每个事件一次；同一时刻先到达再结束，几个结束按启动的先后。
什么也启动不了的事件不必计划：到达的作业此刻放不下，或结束之后空出来的还不够排队的最小的一个；
没有别的在等而又放得下的，用核心的放置直接启动。
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.placement import place
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape
from scns_conductor.simulator.machine import Machine
from scns_conductor.simulator.policy_choice import PolicyChoice
from scns_conductor.simulator.power import NodePower, PowerUse
from scns_conductor.simulator.predictions import Predictions
from scns_conductor.simulator.workload import Span, TraceJob

Advance = Callable[[int], None]
# conservative 为每个受阻的作业保留。
ALL_BLOCKED = 1_000_000
# 多因子的缺省：等待（七天到顶）与大小各一半，见 slurm.conf 的 PriorityWeightAge、PriorityWeightJobSize。
MAX_AGE_S = 7 * 86400
# 同一时刻的事件：先到达，再结束，再（节能时）空闲够久了的。
_END, _IDLE_LONG = 1, 2


@dataclass(slots=True)
class Replay:
    """结果：starts、shares（占了哪些节点）与作业一一对应，没有启动的是 None 与空。

    never_started 是作业号 -> 原因码；walked 是停过的（下标）真的在走的各段，ran_s 是没有做完就被取消的跑了多久。
    """

    starts: list[float | None]
    shares: list[tuple[NodeShare, ...]]
    never_started: dict[str, str] = field(default_factory=dict)
    passes: int = 0
    power: PowerUse | None = None
    walked: dict[int, list[Span]] = field(default_factory=dict)
    ran_s: dict[int, float] = field(default_factory=dict)


def node_facts(machine: Machine) -> list[NodeFacts]:
    """模拟的机器的各个节点。"""
    return [
        NodeFacts(f"n{number}", group.cpus, group.memory_mb, {"gpu": group.gpus} if group.gpus else {})
        for number, group in enumerate((group for group in machine.groups for _ in range(group.count)), start=1)
    ]


def build_cluster(machine: Machine) -> Cluster:
    """模拟的机器 -> 调度核心的集群。"""
    cluster = Cluster()
    for facts in node_facts(machine):
        cluster.upsert_node(facts)
    return cluster


def policy_of(choice: PolicyChoice) -> Policy:
    """命令行的选择 -> 核心的策略；easy 是教科书的：只为队首保留。"""
    backfill = choice.core_backfill
    depth = ALL_BLOCKED if backfill is Backfill.CONSERVATIVE else 1
    return Policy(backfill, depth, shortest_first=choice.shortest_first)


def shape_of(job: TraceJob, cluster: Cluster) -> Shape:
    """SWF 的作业要的是处理器：机器是一个池时是一个任务的多个 CPU，否则每个 CPU 一个任务，可拆到几个节点。"""
    gres = (("gpu", job.gpus),) if job.gpus else ()
    if cluster.count == 1:
        return Shape(cpus_per_task=job.cpus, maximum_nodes=1, memory_per_node=job.memory_mb or None, gres_per_node=gres)
    nodes = max(1, min(job.nodes, job.cpus))
    return Shape(
        tasks=job.cpus,
        minimum_nodes=nodes,
        maximum_nodes=job.nodes or None,
        memory_per_cpu=-(-job.memory_mb // job.cpus) if job.memory_mb else None,
        gres_per_node=(("gpu", -(-job.gpus // nodes)),) if job.gpus else (),
    )


def score(order: str, job: TraceJob, now: float, cpus: int) -> float:
    """次序的分数，大者先排；fifo 不看分数。w 是真正的等待（RLScheduler 的表用的不是，见 rlscheduler）。"""
    wait = max(0.0, now - job.submit_s)
    match order:
        case "sjf":
            return -job.limit_s
        case "wfp3":
            return (wait / job.limit_s) ** 3 * job.cpus
        case "unicep":
            return wait / (math.log2(max(2, job.cpus)) * job.limit_s)
        case "f1":
            return -(math.log10(job.limit_s) * job.cpus + 870 * math.log10(max(1, job.submit_s)))
        case "multifactor":
            return 0.5 * min(1.0, wait / MAX_AGE_S) + 0.5 * job.cpus / cpus
        case _:
            return 0.0


_CHANGES_WITH_TIME = frozenset({"wfp3", "unicep", "multifactor"})


def replay(jobs: Sequence[TraceJob], machine: Machine, choice: PolicyChoice, progress: Advance | None = None) -> Replay:
    """重放一遍；progress 收到新完成的事件数（共 2 × 作业数）。"""
    return _Replaying(jobs, machine, choice, progress or (lambda count: None)).run()


class _Replaying:
    """一遍重放的状态。"""

    def __init__(self, jobs: Sequence[TraceJob], machine: Machine, choice: PolicyChoice, tell: Advance) -> None:
        self._jobs = jobs
        self._order = choice.order
        self._cpus = machine.cpus
        self._tell = tell
        # 还没有到的作业，先到的先。
        self._arrivals = iter(sorted(range(len(jobs)), key=lambda number: jobs[number].submit_s))
        self._cluster, self._queue, self._policy = build_cluster(machine), Queue(), policy_of(choice)
        self._planner = Planner(self._policy)
        self._in_order = self._policy.backfill is Backfill.NONE and choice.order == "fifo"
        self._result = Replay([None] * len(jobs), [()] * len(jobs))
        # 到达之外的事件；同一时刻的几个结束按启动的先后：第三项是第几个启动的。
        self._events: list[tuple[float, int, int, int]] = []
        # 要求相同的共用一个形状对象。
        self._shapes: dict[tuple[int, int, int, int], Shape] = {}
        self._started = 0
        # 还没有到的、在排队的、在跑的。
        self._unfinished = len(jobs)
        self._free = machine.cpus
        # 排队的作业各要几个 CPU：最小的在最前，已经启动的到时再丢。
        self._smallest: list[tuple[int, int]] = []
        # 照预测回填时：各用户跑了多久，与排队的作业。
        self._predictions = Predictions(self._queue, jobs) if choice.shortest_first else None
        # 先来先服务又不回填时，队首之后的与决定无关：到了队首才交给核心。
        self._behind: deque[PendingJob] = deque()
        self._power: NodePower | None = None
        if choice.power is not None:
            began = float(jobs[0].submit_s) if jobs else 0.0
            self._power = NodePower(choice.power, self._cluster, node_facts(machine), began)

    def run(self) -> Replay:
        """走完全部事件。"""
        if self._power is not None:
            self._watch_idle(self._power, range(self._cluster.count), self._power.began)
        jobs, events, last = self._jobs, self._events, 0.0
        arriving = next(self._arrivals, None)
        while events or arriving is not None:
            # 同一时刻的先到达。
            if arriving is not None and (not events or jobs[arriving].submit_s <= events[0][0]):
                now = float(jobs[arriving].submit_s)
                worth = self._arrive(arriving, now)
                arriving = next(self._arrivals, None)
            else:
                now, kind, which, number = heapq.heappop(events)
                if kind == _IDLE_LONG:
                    # 它不改变谁放得下，只改变先用谁；全做完了之后的不算。
                    if self._power is not None and self._unfinished:
                        self._power.suspend(number, which, now)
                    continue
                self._unfinished -= 1
                worth = self._end(number, now)
            last = now
            self._tell(1)
            if worth:
                self._pass(now)
        for waiting in (*self._queue.jobs.values(), *self._behind):
            self._result.never_started[self._jobs[waiting.job_id].job_id] = "Resources"
            self._tell(1)
        if self._power is not None:
            self._result.power = self._power.finish(last)
        return self._result

    def _watch_idle(self, power: NodePower, nodes: Sequence[int], now: float) -> None:
        """此刻空闲的，够久了来看一次。"""
        for node, which in power.idle_now(nodes):
            heapq.heappush(self._events, (now + power.saving.suspend_s, _IDLE_LONG, which, node))

    def _arrive(self, number: int, now: float) -> bool:
        """到达；返回它此刻是否放得下：放不下，谁的处境都没有变好。"""
        job = self._jobs[number]
        shape = self._shape_of(job)
        if impossible(self._cluster, shape) is not None:
            self._result.never_started[job.job_id] = "Resources"
            self._unfinished -= 1
            self._tell(1)
            return False
        priority = 0.0 if self._order == "fifo" else score(self._order, job, now, self._cpus)
        if self._predictions is not None:
            shape = self._predictions.arrived(number, shape)
        pending = PendingJob(number, shape, float(job.limit_s), priority=priority, order=number)
        if self._in_order and len(self._queue):
            self._behind.append(pending)
            return False
        self._queue.upsert(pending)
        heapq.heappush(self._smallest, (job.cpus, number))
        if job.cpus > self._free:
            return False
        if self._cluster.count == 1:
            # 一个池：放不放得下，计划一看就知道。
            return True
        shares = place(self._cluster, shape, self._cluster.free[: self._cluster.count], self._policy.placement)
        if shares is not None and len(self._queue) == 1:
            # 只有它一个在等：放得下就启动，没有别的要决定。
            self._start(number, now, shares)
            return False
        return shares is not None

    def _shape_of(self, job: TraceJob) -> Shape:
        key = (job.cpus, job.memory_mb, job.gpus, job.nodes)
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = shape_of(job, self._cluster)
        return found

    def _end(self, number: int, now: float) -> bool:
        """结束；返回是否有排队的作业也许放得下了：空出来的还不够最小的一个，就不必计划。"""
        self._cluster.release(number)
        if self._power is not None:
            self._watch_idle(self._power, [share.node for share in self._result.shares[number]], now)
        self._free += self._jobs[number].cpus
        if self._predictions is not None:
            self._predictions.ended(number)
        waiting = self._queue.jobs
        if not waiting:
            return False
        while self._smallest[0][1] not in waiting:
            heapq.heappop(self._smallest)
        return self._smallest[0][0] <= self._free

    def _pass(self, now: float) -> None:
        """计划，照它启动；队首走了，后面的轮上来再计划。"""
        if self._order in _CHANGES_WITH_TIME:
            for waiting in self._queue.jobs.values():
                waiting.priority = score(self._order, self._jobs[waiting.job_id], now, self._cpus)
            self._queue.reorder()
        self._plan(now)
        while self._behind and not len(self._queue):
            head = self._behind.popleft()
            self._queue.upsert(head)
            heapq.heappush(self._smallest, (self._jobs[head.job_id].cpus, head.job_id))
            if self._jobs[head.job_id].cpus <= self._free:
                self._plan(now)

    def _plan(self, now: float) -> None:
        self._result.passes += 1
        for start in self._planner.plan(self._cluster, self._queue, now, complete=False).starts:
            self._start(start.job.job_id, now, start.shares)

    def _start(self, number: int, now: float, shares: tuple[NodeShare, ...]) -> None:
        job = self._jobs[number]
        self._queue.remove(number)
        if self._power is not None:
            # 分配在此刻，开始在节点开好之后。
            now += self._power.wake(shares, now)
        self._cluster.allocate(RunningJob(number, now + job.limit_s, shares))
        self._free -= job.cpus
        self._result.starts[number], self._result.shares[number] = now, shares
        self._started += 1
        heapq.heappush(self._events, (now + job.run_s, _END, self._started, number))
