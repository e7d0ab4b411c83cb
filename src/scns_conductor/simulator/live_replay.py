"""重放线上系统：同样的节点、分区、许可证、预留、层级、优先级、上限、抢占、时间片、依赖与开始时刻，调度核心与形状是线上的。

与实际不同的：节点的上下线、人挂起的、管理员的改动不重演，启动与收尾不花时间；保留（hold）当作从提交起。
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from scns_conductor.core.replay_words import LIVE, NodeGroup
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeShare, RunningJob
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.preemption import SUSPEND, Preemption, exempt_ends, preempt
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, LICENSE
from scns_conductor.scheduling.time_slices import Turn
from scns_conductor.simulator.live import LiveSystem
from scns_conductor.simulator.live_arrivals import Arrivals
from scns_conductor.simulator.live_clock import EVERYONE, Clock, Kind
from scns_conductor.simulator.live_cluster import live_cluster, live_nodes, live_policy
from scns_conductor.simulator.live_lending import Lending
from scns_conductor.simulator.live_limits import ReplayedLimits
from scns_conductor.simulator.live_others import Other, numbered
from scns_conductor.simulator.live_priority import LivePriority
from scns_conductor.simulator.live_requirements import Requirements, owners
from scns_conductor.simulator.live_reservations import Admissions
from scns_conductor.simulator.live_turns import Turns
from scns_conductor.simulator.live_walks import Walks
from scns_conductor.simulator.policy_choice import PolicyChoice
from scns_conductor.simulator.power import NodePower
from scns_conductor.simulator.predictions import Predictions, kind_of
from scns_conductor.simulator.replay import Advance, Replay, score
from scns_conductor.simulator.workload import TraceJob

# 再没有到达与结束了，还有排队的：至多再等这么多个要再看的时刻。
MOST_LOOKS = 100
# 同一时刻至多计划这么多遍：抢占的，让出来了要再计划。
MOST_ROUNDS = 1000


def replay_live(
    system: LiveSystem,
    jobs: Sequence[TraceJob],
    choice: PolicyChoice,
    added: Sequence[NodeGroup] = (),
    progress: Advance | None = None,
) -> Replay:
    """重放一遍；choice 是 live 时次序与回填都照线上的。added 是假如加上的节点，归节点写 ALL 的分区。"""
    return _Replaying(system, jobs, choice, added, progress or (lambda count: None)).run()


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
        self._system, self._tell = system, tell
        self._order = "multifactor" if choice.order == LIVE and system.multifactor else choice.order
        self._live_weights = self._order == "multifactor" and system.multifactor
        self._policy = live_policy(system, choice)
        self._began = began = min((float(job.submit_s) for job in jobs), default=0.0)
        self._cluster, self._queue = live_cluster(system, added), Queue()
        # 作业的号从 1 起，越晚交的越大；负的是替挂起的作业攒着的 CPU（见 Lending）。
        self._jobs, self._others, self._places = numbered(
            [each for each in system.others if each.competes(began, self._cluster.index)], jobs
        )
        rows = {number: system.rows.get(job.job_id, {}) for number, job in self._jobs.items()}
        rows |= {number: other.row for number, other in self._others.items()}
        self._planner = Planner(self._policy)
        self._predictions = Predictions(self._queue, self._jobs, self._kind) if self._policy.shortest_first else None
        self._priority = LivePriority(system, self._cluster)
        self._limits = ReplayedLimits.of(system, self._cluster, began)
        self._wanted = Requirements(system, self._jobs, rows, self._cluster, self._limits)
        self._clock = Clock()
        self._arrivals = Arrivals(self._jobs, rows, self._clock, began)
        self._admissions = Admissions(system, self._jobs, rows, self._cluster, self._queue, self._clock, began)
        self._rules = system.preemption
        self._lending = Lending(self._cluster, self._queue, self._rules)
        self._turns = Turns(system.slice_s, self._cluster, self._queue, self._policy, self._clock)
        self._cpus = int(self._cluster.total[: self._cluster.count, 0].sum())
        self._walks = Walks(self._places)
        self._result = Replay([None] * len(jobs), [()] * len(jobs), walked=self._walks.spans, ran_s=self._walks.ran_s)
        self._patience = MOST_LOOKS
        self._power: NodePower | None = None
        if choice.power is not None:
            self._power = NodePower(choice.power, self._cluster, live_nodes(system, added), began)
        # 第几次空闲 -> 节点。
        self._idle_nodes: dict[int, int] = {}
        self._shares: dict[int, tuple[NodeShare, ...]] = {}
        running = {number: other for number, other in self._others.items() if other.runs_at(began)}
        self._arrivals.expect(running)
        # 刚启动的那时一定在走，停着的是它们前面的。
        for number, other in sorted(running.items(), key=lambda each: (-(each[1].start_s or 0.0), -each[0])):
            self._seat(number, other)

    def _kind(self, number: int) -> Hashable:
        """同名的算像；没有名字的看要求。"""
        return self._row(number).get("name") or kind_of(self._jobs[number])

    def _row(self, number: int) -> Mapping[str, Any]:
        return self._wanted.row(number)

    def _seat(self, number: int, other: Other) -> None:
        """开始时已经在跑的；轮流用 CPU 的里放不下的、因抢占停着的，停着。"""
        index, row, now = self._cluster.index, other.row, self._began
        shares = tuple(
            NodeShare(index[each.node], each.cpus, each.memory_mb, each.gres)
            for each in other.held
            if each.node in index
        )
        shape, partition, start_s = self._wanted.shape(number), row["partition"], other.start_s or 0.0
        by_turns = self._turns.taken_by(partition, bool(row["oversubscribe"]))
        stopped = other.preempted_at(now) or (by_turns and float(row.get("suspended_s") or 0) > 0)
        job = RunningJob(
            number,
            other.expected_end_s(now),
            shares,
            partition,
            self._wanted.held(number, shape, partition, shares, start_s),
            qos=row.get("qos"),
            start_time=start_s,
            reservation=self._admissions.used(row),
            oversubscribe=bool(row["oversubscribe"]),
            priority=float((row["priority"] or 0) - (row["nice"] or 0)),
            owners=owners(row)[0],
            exclusive_to=shape.exclusive_to,
        )
        self._wanted.scope(shape.exclusive_to, 1)
        self._shares[number] = shares
        self._turns.moved((number,), start_s)
        left_s = other.left_s(now, by_turns=by_turns)
        if stopped and any(self._cluster.free[share.node, CPU] < share.cpus for share in shares):
            self._lending.suspend(job, left_s, now)
            return
        self._cluster.allocate(job)
        self._priority.started(number, self._owner(number), sum(share.cpus for share in shares), now)
        self._clock.ends_at(number, now + left_s)

    def run(self) -> Replay:
        """走完全部事件；同一时刻的一起看，再计划一次。"""
        last = 0.0
        if self._power is not None:
            self._watch_idle(self._power, range(self._cluster.count), self._power.began)
        clock = self._clock
        while len(clock) and (clock.due or ((len(self._queue) or self._lending.any) and self._patience > 0)):
            now = clock.next_s
            self._patience -= not clock.due
            changed = self._admissions.turn(now)
            while len(clock) and clock.next_s == now:
                kind, number = clock.pop()
                if kind is Kind.IDLE_LONG:
                    if self._power is not None and clock.due:
                        self._power.suspend(self._idle_nodes.pop(number), number, now)
                elif kind is Kind.LOOK:
                    changed |= self._look(number, now)
                else:
                    last = now
                    changed |= self._arrive(number, now) if kind is Kind.ARRIVAL else self._end(number, now)
            if changed and (len(self._queue) or self._lending.any):
                self._pass(now)
        if self._power is not None:
            self._result.power = self._power.finish(last)
        for waiting in self._queue.jobs.values():
            self._never(waiting.job_id, self._reason(waiting))
        return self._result

    def _never(self, number: int, reason: str) -> None:
        if number in self._places:
            self._result.never_started[self._jobs[number].job_id] = reason

    def _done(self, number: int, events: int) -> None:
        """一个作业又走过了几步。"""
        if number in self._places:
            self._tell(events)

    def _reason(self, waiting: PendingJob) -> str:
        """到最后也没有启动的是为什么。"""
        pools, reasons = self._cluster.pools, self._cluster.pool_reasons
        lacking = (name for name, need in waiting.shape.pools if pools.get(name, 0) < need)
        name = next(lacking, "")
        # 已经删了的许可证，线上没有这个池。
        return waiting.reason or reasons.get(name, "Licenses" if name.startswith(LICENSE) else "Resources")

    def _watch_idle(self, power: NodePower, nodes: Sequence[int], now: float) -> None:
        """此刻空闲的，够久了来看一次。"""
        for node, which in power.idle_now(nodes):
            self._idle_nodes[which] = node
            self._clock.push(now + power.saving.suspend_s, Kind.IDLE_LONG, which)

    # ---- 到达 ----

    def _arrive(self, number: int, now: float) -> bool:
        shape = self._wanted.shape(number)
        if impossible(self._cluster, shape) is not None:
            self._never(number, "Resources")
            self._done(number, 2)
            return False
        if self._wanted.scope(shape.exclusive_to, 1):
            self._planner.forget()
        self._enqueue(number, now)
        self._done(number, 1)
        return True

    def _enqueue(self, number: int, now: float) -> None:
        """排队：到达了，或被抢占而重新排队。"""
        job, shape = self._jobs[number], self._wanted.shape(number)
        if self._predictions is not None:
            shape = self._predictions.arrived(number, shape)
        tier = max((each.tier for each in self._cluster.partitions_of(shape)), default=1)
        rank = self._wanted.precedence(number)
        pending = PendingJob(number, shape, job.within_s, precedence=rank, tier=tier, order=number)
        if self._live_weights:
            self._prioritise(pending, now)
        else:
            pending.priority = score(self._order, job, now, self._cpus)
        self._queue.upsert(pending)
        self._admissions.admit(pending, now)

    def _prioritise(self, pending: PendingJob, now: float) -> None:
        row, number = self._row(pending.job_id), pending.job_id
        if row.get("priority") is not None:
            pending.priority = float(row["priority"] - (row.get("nice") or 0))
            return
        pending.priority = self._priority.of(
            self._jobs[number], pending, row.get("qos"), int(row.get("nice") or 0), self._arrivals.eligible[number], now
        )

    def _look(self, number: int, now: float) -> bool:
        """到了时刻：一个作业此刻也许进不去预留了；大家的只是要再计划。"""
        waiting = self._queue.jobs.get(number)
        if waiting is not None:
            self._admissions.admit(waiting, now)
        return number == EVERYONE or waiting is not None

    # ---- 结束、让出来 ----

    def _end(self, number: int, now: float) -> bool:
        if self._clock.ends.get(number) != now:
            # 被抢占之前定下的。
            return False
        self._finish(number, now)
        return True

    def _finish(self, number: int, now: float) -> None:
        """做完了，或被抢占而就此结束。"""
        self._walks.end(number, now)
        self._leave(number, now)
        if self._wanted.scope(owners(self._row(number))[1], -1):
            self._planner.forget()
        if self._predictions is not None:
            self._predictions.ended(number)
        self._done(number, 1)
        self._arrivals.ended(number, now)

    def _leave(self, number: int, now: float) -> None:
        """不再占着资源。"""
        if self._clock.ends.pop(number, None) is not None:
            self._priority.ended(number, self._owner(number), now)
        self._lending.forget(number)
        self._cluster.release(number)
        shares = self._shares.pop(number, ())
        if self._power is not None:
            self._watch_idle(self._power, [share.node for share in shares], now)
        self._limits.ended(number, now)

    def _owner(self, number: int) -> tuple[str, str]:
        job = self._jobs[number]
        return (job.account, job.user)

    def _evict(self, victim: RunningJob, now: float) -> None:
        """被抢占：挂起、重新排队，或就此结束；当场让出来（线上要等它收尾）。"""
        assert self._rules is not None
        number, mode = victim.job_id, self._rules.mode(self._cluster, victim)
        if mode == SUSPEND:
            self._suspend(victim, now)
        elif mode == "requeue" and _may_requeue(self._row(number)):
            self._leave(number, now)
            self._walks.again(number)
            self._record(number, None, ())
            self._enqueue(number, now)
        else:
            self._walks.cut(number, now)
            self._finish(number, now)

    def _suspend(self, victim: RunningJob, now: float) -> None:
        """停下，让出 CPU。"""
        number = victim.job_id
        self._lending.suspend(victim, self._clock.ends.pop(number) - now, now)
        self._walks.stop(number, now)
        self._priority.ended(number, self._owner(number), now)
        self._turns.moved((number,), now)

    def _resume(self, number: int, end_s: float, now: float) -> None:
        """接着跑，到 end_s 结束。"""
        self._clock.ends_at(number, end_s)
        self._walks.go(number, now)
        cpus = sum(share.cpus for share in self._cluster.running[number].shares)
        self._priority.started(number, self._owner(number), cpus, now)
        self._turns.moved((number,), now)

    # ---- 计划 ----

    def _pass(self, now: float) -> None:
        if self._live_weights:
            self._refresh(now)
        elif self._order in ("wfp3", "unicep", "multifactor"):
            for waiting in self._queue.jobs.values():
                waiting.priority = score(self._order, self._jobs[waiting.job_id], now, self._cpus)
            self._queue.reorder()
        self._limits.settle(self._cluster, now)
        for _ in range(MOST_ROUNDS):
            if not self._round(now):
                break
        moment = self._limits.next_look(self._cluster, self._queue, now)
        if moment is not None:
            self._clock.push(moment, Kind.LOOK, EVERYONE)

    def _round(self, now: float) -> bool:
        """计划一遍，照它启动、抢占、恢复；马上要再计划一遍时返回真。"""
        self._lending.collect()
        yields = self._rules is not None or self._turns.taken
        found = self._planner.plan(self._cluster, self._queue, now, complete=yields)
        self._result.passes += 1
        resumed = self._lending.resume(found, now)
        for number, end_s in resumed:
            self._resume(number, end_s, now)
        if resumed:
            # 这一遍的启动不作数。
            self._planner.forget()
            return True
        preemptions = self._preemptions(found, now)
        # 有抢占的这一遍不换。
        turn = Turn() if preemptions else self._turns.look(found, now)
        for job in turn.suspend:
            self._suspend(job, now)
        for job in turn.resume:
            self._resume(*self._lending.back(job, now), now)
        for start in [*found.starts, *turn.starts]:
            self._start(start.job, start.shares, now)
        for each in preemptions:
            for victim in each.victims:
                self._evict(victim, now)
        if turn:
            # 记着的计划不知道换过。
            self._planner.forget()
        return bool(preemptions) or bool(turn) or (bool(found.starts) and (found.exhausted or yields))

    def _preemptions(self, found: Plan, now: float) -> list[Preemption]:
        if self._rules is None or not found.blocked:
            return []
        moment = exempt_ends(self._cluster, self._queue, found, self._rules)
        if moment is not None:
            self._clock.push(moment, Kind.LOOK, EVERYONE)
        return preempt(self._cluster, self._queue, found, self._policy, self._rules)

    def _record(self, number: int, start_s: float | None, shares: tuple[NodeShare, ...]) -> None:
        place = self._places.get(number)
        if place is not None:
            self._result.starts[place], self._result.shares[place] = start_s, shares

    def _refresh(self, now: float) -> None:
        """到了计算周期：公平份额与全部优先级。"""
        if now < self._priority.due_s:
            return
        waiting = self._queue.jobs.values()
        self._priority.refresh({self._owner(each.job_id) for each in waiting}, now)
        for pending in waiting:
            self._prioritise(pending, now)
        self._queue.reorder()

    def _start(self, pending: PendingJob, shares: tuple[NodeShare, ...], now: float) -> None:
        number, shape = pending.job_id, pending.shape
        job, row = self._jobs[number], self._row(number)
        self._queue.remove(number)
        if self._power is not None:
            # 分配在此刻，开始在节点开好之后。
            now += self._power.wake(shares, now)
        partition = self._cluster.chosen_partition(shape, shares) if "," in shape.partition else shape.partition
        self._cluster.allocate(
            RunningJob(
                number,
                NEVER_ENDS if math.isinf(job.within_s) else now + job.within_s,
                shares,
                partition,
                self._wanted.held(number, shape, partition, shares, now),
                qos=row.get("qos"),
                start_time=now,
                reservation=shape.reservation,
                oversubscribe=shape.oversubscribe,
                priority=pending.priority,
                owners=owners(row)[0],
                exclusive_to=shape.exclusive_to,
            )
        )
        self._priority.started(number, self._owner(number), sum(share.cpus for share in shares), now)
        self._record(number, now, shares)
        self._shares[number] = shares
        self._walks.go(number, now)
        self._turns.moved((number,), now)
        self._patience = MOST_LOOKS
        self._clock.ends_at(number, now + job.run_s)


def _may_requeue(row: Mapping[str, Any]) -> bool:
    return bool(row.get("requeue", True)) and not row.get("interactive")


def actual_starts(jobs: Sequence[TraceJob]) -> list[float | None]:
    """记录里真的开始的时刻。"""
    return [None if job.recorded_wait_s < 0 else float(job.submit_s + job.recorded_wait_s) for job in jobs]
