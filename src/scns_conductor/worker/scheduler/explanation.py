"""回答 explain（为什么）与 plan（试排）：按记忆里的队列，用调度核心真的计划一次。"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.answers.accounting import Priority, Ranked, Share, Shares, TreeAccount
from scns_conductor.core.answers.cluster import ClusterWhy
from scns_conductor.core.answers.jobs import Explained, Plan, Schedule
from scns_conductor.core.answers.writing import rows_of
from scns_conductor.core.units import format_duration
from scns_conductor.scheduling.eligibility import open_partitions
from scns_conductor.scheduling.explain import TRIAL_JOB_ID, Explanation, Gate, explain
from scns_conductor.scheduling.job_requirements import COLUMNS
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.preemption import preempt
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import LICENSE
from scns_conductor.scheduling.suggestions import Situation, suggestions
from scns_conductor.scheduling.time_slices import sharers
from scns_conductor.statements.queue import pending_job
from scns_conductor.worker.scheduler.alternatives import Alternatives
from scns_conductor.worker.scheduler.cluster_why import cluster_why
from scns_conductor.worker.scheduler.dependents import evaluations
from scns_conductor.worker.scheduler.explained_answer import explained, iso
from scns_conductor.worker.scheduler.gates import Gates
from scns_conductor.worker.scheduler.holding import holding
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.prediction import probable_start
from scns_conductor.worker.scheduler.turn_outlook import taking_for, turns_for
from scns_conductor.worker.scheduler.waiting_job import Waiting
from scns_conductor.worker.scheduler.whole_schedule import whole_schedule

MOST_PRIORITIES = 10_000
# 等时刻、等别人、等放行的，改要求也不能更早。
UNCHANGEABLE = frozenset({"BeginTime", "Dependency", "DependencyNeverSatisfied", "SystemFailure"})

_ROW = pending_job(COLUMNS)


def answer_question(
    connection: Connection, memory: QueueMemory, policy: Policy, kind: str, payload: Mapping[str, Any], now: float
) -> Explained | Plan | Schedule | ClusterWhy | Ranked | Shares:
    """kind 依次是 explain、plan、schedule、utilisation、priorities、shares；问的在 services/scheduler_questions.py。"""
    if kind == "plan":
        return _Answers(connection, memory, policy, now).plan(payload["job"])
    if kind == "schedule":
        return {"schedule": whole_schedule(connection, memory, policy, now)}
    if kind == "utilisation":
        return cluster_why(connection, memory, policy, now, float(payload["horizon_s"]))
    if kind == "priorities":
        return {"priorities": _priorities(memory, payload.get("job_ids"), now)}
    if kind == "shares":
        return {
            "shares": rows_of(Share, map(asdict, memory.priority.standings.values())),
            "accounts": rows_of(TreeAccount, map(asdict, memory.priority.accounts)),
        }
    return _Answers(connection, memory, policy, now).why(int(payload["job_id"]))


@dataclass(frozen=True, slots=True)
class _Preempting:
    """抢占：至迟何时（Unix 秒）开始，谁让出来。"""

    start: float
    victims: list[int]
    text: str


@dataclass(slots=True)
class _Answers:
    """一次回答。"""

    connection: Connection
    memory: QueueMemory
    policy: Policy
    now: float

    def why(self, job_id: int) -> Explained:
        """排队的作业为什么还没有开始。"""
        waiting = self.memory.waiting.get(job_id)
        row = self.connection.execute(_ROW, {"job_id": job_id}).mappings().one_or_none()
        if waiting is None or row is None:
            return holding(self.connection, self.memory, self.policy, job_id, self.now)
        gate = self._gates().of(waiting)
        job = self._narrowed(waiting)
        outlook = Outlook(self.memory.cluster, self.memory.queue, job, self.now, self.policy)
        found = self._explain(outlook, waiting, job, gate)
        self._sooner(found, job, gate)
        if waiting.request.hold is None and waiting.het_job_id is None and found.reason not in UNCHANGEABLE:
            alternatives = Alternatives(self.memory, self.policy, job, dict(row), outlook, self.now)
            throttled = found.reason == "JobArrayTaskLimit"
            others = alternatives.more_tasks() if throttled else alternatives.others()
            current = math.inf if found.expected_start is None else found.expected_start
            at = Situation(self.now, current)
            found.suggestions = suggestions(alternatives.row, alternatives.build, others, at, searched=not throttled)
        probable = None
        if not found.final and not found.fits_now and not found.pools and found.turns is None:
            opens_at = None if gate is None else gate.opens_at
            probable = probable_start(self.connection, self.memory, self.policy, job, self.now, opens_at)
        if probable is not None and (found.expected_start is None or probable < found.expected_start - 1):
            found.probable_start = probable
        return explained(self.connection, found, self.now)

    def plan(self, row: Mapping[str, Any]) -> Plan:
        """假如现在提交，何时、在哪里开始；什么也不留下。"""
        unset = {
            "job_id": TRIAL_JOB_ID, "revision": 0, "submit_time": self.now, "array_remaining": None, "reason": None,
            "array_listed": None,
            "error_msg": None, "expected_start_time": None, "array_job_id": None, "array_task_id": None,
            "het_job_id": None, "het_job_offset": 0, "het_job_id_set": None,
        }  # fmt: skip
        waiting = self.memory.waiting_for({**row, **unset})
        if self.memory.priority.enabled:
            memory = self.memory
            waiting.job.priority = memory.priority.of(waiting.applicant, waiting.job, waiting.age_from, self.now)
        self._judge(waiting)
        gate = self._gates().of(waiting)
        job = self._narrowed(waiting)
        outlook = Outlook(self.memory.cluster, self.memory.queue, job, self.now, self.policy)
        found = self._explain(outlook, waiting, job, gate)
        self.memory.queue.upsert(job)
        try:
            self._sooner(found, job, gate)
        finally:
            self.memory.queue.remove(job.job_id)
        answer = explained(self.connection, found, self.now)
        start = self.now if found.fits_now else found.expected_start
        taking = self._preempting(job) if gate is None and not found.fits_now else None
        if taking is not None and (start is None or taking.start < start):
            start, found.nodes = taking.start, []
        return {
            "start_time": iso(start),
            "nodes": found.nodes,
            "preempts": [] if taking is None else [str(victim) for victim in taking.victims],
            "endless": [each["job_id"] for each in answer["waiting_for"] if each["expected_end_time"] is None],
            "reason": "None" if start is not None else found.reason,
            "text": taking.text if taking is not None else None if start == self.now else answer["text"],
            "cpus": job.shape.tasks * job.shape.cpus_per_task,
            "firm": found.firm,
        }

    def _sooner(self, found: Explanation, job: PendingJob, gate: Gate | None) -> None:
        """不等谁结束也能开始的：轮到它，或抢得到。job 在队列里。"""
        if gate is not None or found.final or found.fits_now or found.pools or self.memory.cluster.confined(job.shape):
            return
        turns = turns_for(self.memory, self.policy, job, self.now)
        if turns is not None:
            found.turn_to(turns)
        elif self.memory.turns.turn_at is not None and {holder.job_id for holder in found.holders} & {
            each.job_id for each in sharers(self.memory.cluster)
        }:
            # 等的作业与别人轮流用 CPU：停着的时间不算在它的时限里。
            found.firm = False
        taking = taking_for(self.memory, self.policy, job, self.now)
        if taking is not None:
            found.take(taking, job.time_limit_s)

    def _preempting(self, job: PendingJob) -> "_Preempting | None":
        """假如它现在排进队里，会不会抢占；不开抢占、抢不到的是 None。"""
        rules, cluster, queue = self.memory.preempt_rules, self.memory.cluster, self.memory.queue
        if rules is None:
            return None
        queue.upsert(job)
        try:
            decided = plan(cluster, queue, self.now, self.policy)
            wanted = preempt(cluster, queue, decided, self.policy, rules)
        finally:
            queue.remove(job.job_id)
        found = next((each for each in wanted if each.job is job), None)
        if found is None:
            return None
        waits = [rules.leaves_within_s(cluster, victim, self.memory.kill_wait_s) for victim in found.victims]
        victims = [victim.job_id for victim in found.victims]
        within = f"至多 {format_duration(max(waits))} 之内让出来" if max(waits) else "当场让出来"
        return _Preempting(self.now + max(waits), victims, f"会抢占作业 {'、'.join(map(str, victims))}：{within}")

    def _judge(self, waiting: Waiting) -> None:
        """试排的作业此刻能不能排：依赖，资格，单个作业的上限。"""
        if waiting.dependency is not None:
            for each, judgement in evaluations(self.connection, [waiting], self.now):
                each.request = replace(each.request, dependency=judgement.outcome, waiting_for=judgement.unmet)
        refused = self.memory.refusal(waiting, self.now)
        if refused is not None:
            waiting.job.reason, waiting.job.message = refused.reason, refused.message

    def _narrowed(self, waiting: Waiting) -> PendingJob:
        """列了几个分区的，只用此刻许它启动的那些；还不能排的也这样看。异构作业看整个。"""
        unit = self.memory.het.unit_of(waiting, self.memory.queue)
        if unit is not None:
            return unit
        partitions = self.memory.cluster.partitions
        named = waiting.request.partitions
        if len(named) == 1:
            return waiting.job
        partition = ",".join(open_partitions(waiting.request, partitions) or named)
        shape = replace(waiting.job.shape, partition=partition)
        return replace(waiting.job, shape=shape, tier=self.memory.tier_of(partition))

    def _gates(self) -> Gates:
        return Gates(self.connection, self.memory, self.now, self._predict)

    def _predict(self, waiting: Waiting, depth: int) -> tuple[float, float] | None:
        """另一个排队的作业预计 (开始, 结束)。"""
        gate = self._gates().of(waiting, depth)
        if gate is not None and gate.opens_at is None:
            return None
        job = self._narrowed(waiting)
        outlook = Outlook(self.memory.cluster, self.memory.queue, job, self.now, self.policy)
        if any(not name.startswith(LICENSE) for name in outlook.lacking(job.shape, job.time_limit_s)):
            return None
        found = outlook.earliest(job.shape, job.time_limit_s, None if gate is None else gate.opens_at)
        return None if found is None else (found[0], found[0] + job.time_limit_s)

    def _explain(self, outlook: Outlook, waiting: Waiting, job: PendingJob, gate: Gate | None) -> Explanation:
        limits, cluster = self.memory.limits, self.memory.cluster
        return explain(
            outlook,
            self.memory.queue,
            job,
            gate=gate,
            pool_dates=lambda pool, need, before: limits.date_of(pool, need, before, cluster, self.now),
            latest_start=waiting.request.latest_start,
            deadline=waiting.request.deadline,
        )


def _priorities(memory: QueueMemory, job_ids: list[int] | None, now: float) -> list[Priority]:
    """排队的作业的优先级与各因子（已乘权重），按优先级从高到低，至多 MOST_PRIORITIES 个。"""
    chosen = memory.waiting.values() if job_ids is None else (memory.waiting[n] for n in job_ids if n in memory.waiting)
    found = sorted(chosen, key=lambda waiting: waiting.job.key)[:MOST_PRIORITIES]
    enabled = memory.priority.enabled
    return [
        {
            "job_id": str(waiting.job.job_id),
            "user_name": waiting.user_name,
            "account": waiting.applicant.account,
            "partition": ",".join(waiting.applicant.partitions),
            "priority": int(waiting.job.priority),
            "factors": memory.priority.factors_of(waiting.applicant, waiting.job, waiting.age_from, now)
            if enabled
            else {},
        }
        for waiting in found
    ]
