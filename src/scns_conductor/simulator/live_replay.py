"""重放线上系统：同样的节点、分区、许可证、层级、优先级、回填深度、依赖与开始时刻，用线上的调度核心与形状。

与实际不同的：保留（hold）、QOS 与关联的上限、预留、抢占、节点的上下线不重演，启动与收尾不花时间。
"""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scns_conductor.core.dependency import parse_dependency
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import shape_of
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, Shape
from scns_conductor.simulator.history import instant
from scns_conductor.simulator.live import REQUIREMENTS, LiveSystem
from scns_conductor.simulator.live_priority import LivePriority
from scns_conductor.simulator.machine import NodeGroup
from scns_conductor.simulator.policy_choice import LIVE, PolicyChoice
from scns_conductor.simulator.power import NodePower
from scns_conductor.simulator.predictions import Predictions, kind_of
from scns_conductor.simulator.replay import Advance, Replay, score
from scns_conductor.simulator.workload import TraceJob

# 同一时刻：先结束，再到达，最后看空闲够久的节点。
_END, _ARRIVAL, _IDLE_LONG = 0, 1, 2
# 已经在跑的作业的号：比任何序号都大。
_OCCUPIED = 2**40
# 次序照预测的与照次序的，保留的名额缺省不同（settings.backfill_depth）。
PREDICTED_DEPTH, ORDERED_DEPTH = 1, 100


def replay_live(
    system: LiveSystem,
    jobs: Sequence[TraceJob],
    choice: PolicyChoice,
    added: Sequence[NodeGroup] = (),
    progress: Advance | None = None,
) -> Replay:
    """重放一遍；choice 是 live 时次序与回填都照线上的。added 是假如加上的节点，归节点写 ALL 的分区。"""
    return _Replaying(system, jobs, choice, added, progress or (lambda count: None)).run()


def live_cluster(system: LiveSystem, added: Sequence[NodeGroup]) -> Cluster:
    """线上的节点与分区；加上的节点叫 added1、added2……没有写 ALL 的分区时归第一个。"""
    cluster = Cluster()
    nodes = live_nodes(system, added)
    for node in nodes:
        cluster.upsert_node(node)
    cluster.set_partitions(_with_added(system.partitions, [node.name for node in nodes[len(system.nodes) :]]))
    for name, count in system.licenses.items():
        cluster.set_pool(LICENSE + name, count, "Licenses")
    return cluster


def live_nodes(system: LiveSystem, added: Sequence[NodeGroup]) -> list[NodeFacts]:
    """线上的节点与加上的，次序就是集群里的。"""
    groups = [group for group in added for _ in range(group.count)]
    return system.nodes + [
        NodeFacts(f"added{number}", group.cpus, group.memory_mb, {"gpu": group.gpus} if group.gpus else {})
        for number, group in enumerate(groups, start=1)
    ]


def _with_added(partitions: Sequence[PartitionFacts], names: Sequence[str]) -> list[PartitionFacts]:
    if not names or any(each.nodes is None for each in partitions):
        return list(partitions)
    first = partitions[0]
    return [replace(first, nodes=(first.nodes or frozenset()) | set(names)), *partitions[1:]]


class _Replaying:
    """一遍重放的状态。"""

    def __init__(
        self,
        system: LiveSystem,
        jobs: Sequence[TraceJob],
        choice: PolicyChoice,
        added: Sequence[NodeGroup],
        tell: Advance,
    ) -> None:
        self._system, self._jobs, self._tell = system, jobs, tell
        self._order = "multifactor" if choice.order == LIVE and system.multifactor else choice.order
        self._live_weights = self._order == "multifactor" and system.multifactor
        policy = system.policy
        if choice.order != LIVE or choice.backfill != LIVE:
            policy = replace(policy, backfill=choice.core_backfill, shortest_first=choice.shortest_first)
            if choice.shortest_first != system.policy.shortest_first:
                # 名额各有各的缺省；换了别的策略，线上写的深度不合用。
                policy = replace(policy, depth=PREDICTED_DEPTH if choice.shortest_first else ORDERED_DEPTH)
        self._cluster, self._queue = live_cluster(system, added), Queue()
        self._planner = Planner(policy)
        self._predictions = Predictions(self._queue, jobs, self._kind) if policy.shortest_first else None
        self._priority = LivePriority(system, self._cluster)
        self._cpus = int(self._cluster.total[: self._cluster.count, 0].sum())
        self._result = Replay([None] * len(jobs), [()] * len(jobs))
        self._waiting_on: dict[int, set[int]] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        self._eligible: dict[int, float] = {}
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._events: list[tuple[float, int, int]] = []
        # 其中作业的（到达、结束）有几个：没有了，余下的空闲就不算。
        self._due = 0
        self._power: NodePower | None = None
        if choice.power is not None:
            began = min((float(job.submit_s) for job in jobs), default=0.0)
            self._power = NodePower(choice.power, self._cluster, live_nodes(system, added), began)
        # 第几次空闲 -> 节点。
        self._idle_nodes: dict[int, int] = {}
        self._shares: dict[int, tuple[NodeShare, ...]] = {}
        self._arrivals()
        for index, each in enumerate(system.occupied):
            self._occupy(index, each.nodes, each.cpus, each.memory_mb, float(each.end_s))

    def _arrivals(self) -> None:
        """到达：提交、--begin、所依赖的都结束，三者的最晚。"""
        numbers = {job.job_id: number for number, job in enumerate(self._jobs)}
        arrays: dict[str, list[int]] = defaultdict(list)
        for job_id, number in numbers.items():
            array = self._row(number).get("array_job_id")
            if array is not None:
                arrays[str(array)].append(numbers[job_id])
        for number, job in enumerate(self._jobs):
            row = self._row(number)
            begin = instant(row.get("begin_time"))
            moment = float(max(job.submit_s, begin or 0))
            parents: set[int] = set()
            if row.get("dependency"):
                for parent in parse_dependency(row["dependency"]).job_ids:
                    known = numbers.get(str(parent))
                    parents |= set(arrays.get(str(parent), () if known is None else (known,)))
            parents.discard(number)
            self._waiting_on[number] = parents
            for parent in parents:
                self._children[parent].append(number)
            if not parents:
                self._push(moment, _ARRIVAL, number)
            self._eligible[number] = moment

    def _kind(self, number: int) -> Hashable:
        """同名的算像；没有名字的看要求。"""
        return self._row(number).get("name") or kind_of(self._jobs[number])

    def _row(self, number: int) -> Mapping[str, Any]:
        return self._system.rows.get(self._jobs[number].job_id, {})

    def _occupy(self, index: int, nodes: Sequence[str], cpus: int, memory_mb: int, end_s: float) -> None:
        """开始时已经在跑的。"""
        known = [self._cluster.index[name] for name in nodes if name in self._cluster.index]
        if not known:
            return
        shares = tuple(NodeShare(node, cpus, memory_mb) for node in known)
        self._cluster.allocate(RunningJob(_OCCUPIED + index, end_s, shares))
        self._shares[_OCCUPIED + index] = shares
        self._push(end_s, _END, _OCCUPIED + index)

    def _push(self, moment: float, kind: int, number: int) -> None:
        self._due += 1
        heapq.heappush(self._events, (moment, kind, number))

    def run(self) -> Replay:
        """走完全部事件；同一时刻的一起看，再计划一次。"""
        last = 0.0
        if self._power is not None:
            self._watch_idle(self._power, range(self._cluster.count), self._power.began)
        while self._due:
            now = self._events[0][0]
            changed = False
            while self._events and self._events[0][0] == now:
                _, kind, number = heapq.heappop(self._events)
                if kind == _IDLE_LONG:
                    if self._power is not None and self._due:
                        self._power.suspend(self._idle_nodes.pop(number), number, now)
                    continue
                self._due, last = self._due - 1, now
                changed |= self._arrive(number, now) if kind == _ARRIVAL else self._end(number, now)
            if changed and len(self._queue):
                self._pass(now)
        if self._power is not None:
            self._result.power = self._power.finish(last)
        for waiting in self._queue.jobs.values():
            self._result.never_started[self._jobs[waiting.job_id].job_id] = "Resources"
        return self._result

    def _watch_idle(self, power: NodePower, nodes: Sequence[int], now: float) -> None:
        """此刻空闲的，够久了来看一次。"""
        for node, which in power.idle_now(nodes):
            self._idle_nodes[which] = node
            heapq.heappush(self._events, (now + power.saving.suspend_s, _IDLE_LONG, which))

    def _arrive(self, number: int, now: float) -> bool:
        job = self._jobs[number]
        shape = self._shape(number)
        self._eligible[number] = now
        if impossible(self._cluster, shape) is not None:
            self._result.never_started[job.job_id] = "Resources"
            self._tell(2)
            return False
        if self._predictions is not None:
            shape = self._predictions.arrived(number, shape)
        tier = max((each.tier for each in self._cluster.partitions_of(shape)), default=1)
        pending = PendingJob(number, shape, float(job.limit_s), tier=tier, order=number)
        if self._live_weights:
            self._prioritise(pending, now)
        else:
            pending.priority = score(self._order, job, now, self._cpus)
        self._queue.upsert(pending)
        self._tell(1)
        return True

    def _prioritise(self, pending: PendingJob, now: float) -> None:
        row, number = self._row(pending.job_id), pending.job_id
        if row.get("priority") is not None:
            pending.priority = float(row["priority"] - (row.get("nice") or 0))
            return
        pending.priority = self._priority.of(
            self._jobs[number], pending, row.get("qos"), int(row.get("nice") or 0), self._eligible[number], now
        )

    def _shape(self, number: int) -> Shape:
        job, row = self._jobs[number], self._row(number)
        if "tasks" not in row:
            return Shape(cpus_per_task=job.cpus, partition=next(iter(self._cluster.partitions), ""))
        partition = row.get("requested_partitions") or row["partition"]
        # 预留不重演。
        columns = {**row, "partition": partition, "reservation": None}
        throttle = (row.get("array_job_id"), row["array_max_tasks"]) if row.get("array_max_tasks") else None
        limits = self._user_pools(job)
        key = (throttle, limits, partition, *(columns[name] for name in REQUIREMENTS if name != "time_limit"))
        found = self._shapes.get(key)
        if found is None:
            found = shape_of(columns, self._system.defaults)
            if throttle is not None:
                pool = f"array:{throttle[0]}"
                self._cluster.set_pool(pool, int(throttle[1]), "JobArrayTaskLimit")
                found = replace(found, pools=(*found.pools, (pool, 1)))
            if limits:
                found = replace(found, pools=(*found.pools, *limits))
            self._shapes[key] = found
        return found

    def _user_pools(self, job: TraceJob) -> tuple[tuple[str, int], ...]:
        """假如每个用户有上限：他的一份，与这个作业占多少。"""
        found: list[tuple[str, int]] = []
        for kind, limit, amount, reason in (
            ("jobs", self._system.user_jobs, 1, "QOSMaxJobsPerUserLimit"),
            ("cpus", self._system.user_cpus, job.cpus, "QOSMaxCpuPerUserLimit"),
        ):
            if limit is not None:
                pool = f"user_{kind}:{job.user}"
                self._cluster.set_pool(pool, limit, reason)
                found.append((pool, amount))
        return tuple(found)

    def _end(self, number: int, now: float) -> bool:
        self._cluster.release(number)
        shares = self._shares.pop(number, ())
        if self._power is not None:
            self._watch_idle(self._power, [share.node for share in shares], now)
        if number >= _OCCUPIED:
            return True
        job = self._jobs[number]
        if self._predictions is not None:
            self._predictions.ended(number)
        self._priority.ended(number, (job.account, job.user), now)
        self._tell(1)
        for child in self._children[number]:
            self._waiting_on[child].discard(number)
            if not self._waiting_on[child]:
                self._push(max(now, self._eligible[child]), _ARRIVAL, child)
        return True

    def _pass(self, now: float) -> None:
        if self._live_weights:
            self._refresh(now)
        elif self._order in ("wfp3", "unicep", "multifactor"):
            for waiting in self._queue.jobs.values():
                waiting.priority = score(self._order, self._jobs[waiting.job_id], now, self._cpus)
            self._queue.reorder()
        self._result.passes += 1
        for start in self._planner.plan(self._cluster, self._queue, now, complete=False).starts:
            self._start(start.job, start.shares, now)

    def _refresh(self, now: float) -> None:
        """到了计算周期：公平份额与全部优先级。"""
        if now < self._priority.due_s:
            return
        waiting = self._queue.jobs.values()
        owners = {(job.account, job.user) for each in waiting for job in [self._jobs[each.job_id]]}
        self._priority.refresh(owners, now)
        for pending in waiting:
            self._prioritise(pending, now)
        self._queue.reorder()

    def _start(self, pending: PendingJob, shares: tuple[NodeShare, ...], now: float) -> None:
        number = pending.job_id
        job = self._jobs[number]
        self._queue.remove(number)
        if self._power is not None:
            # 分配在此刻，开始在节点开好之后。
            now += self._power.wake(shares, now)
        pools = pending.shape.pools
        self._cluster.allocate(RunningJob(number, now + job.limit_s, shares, pending.shape.partition, pools))
        self._priority.started(number, (job.account, job.user), sum(share.cpus for share in shares), now)
        self._result.starts[number], self._result.shares[number] = now, shares
        self._shares[number] = shares
        self._push(now + job.run_s, _END, number)


def actual_starts(jobs: Sequence[TraceJob]) -> list[float | None]:
    """记录里真的开始的时刻。"""
    return [None if job.recorded_wait_s < 0 else float(job.submit_s + job.recorded_wait_s) for job in jobs]
