"""回答 explain（为什么）与 plan（试排）：按记忆里的队列，用调度核心真的计划一次。"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.instants import moment_of
from scns_conductor.scheduling.cluster import PartitionFacts
from scns_conductor.scheduling.eligibility import ineligible
from scns_conductor.scheduling.explain import TRIAL_JOB_ID, Holder, explain
from scns_conductor.scheduling.explain_text import render
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import COLUMNS, eligibility_request, priority_of
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.suggestions import Change, suggestions
from scns_conductor.statements.queue import JOB_LABELS, pending_job
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.priority_factors import Applicant, age_from
from scns_conductor.worker.scheduler.waiting_job import Waiting

MOST_PRIORITIES = 10_000
# 分区、QOS、账户各至多试这么多个。
MOST_ALTERNATIVES = 5

_ROW = pending_job(COLUMNS)


def answer_question(
    connection: Connection, memory: QueueMemory, policy: Policy, kind: str, payload: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """explain：{reason, text, expected_start_time, ...}；plan：{start_time, nodes, reason, text}；
    priorities：{priorities: [...]}；shares：{shares: [...]}。
    """
    if kind == "plan":
        return _trial(memory, policy, payload["job"], now)
    if kind == "priorities":
        return {"priorities": _priorities(memory, payload.get("job_ids"), now)}
    if kind == "shares":
        return {
            "shares": [asdict(share) for share in memory.priority.standings.values()],
            "accounts": [asdict(account) for account in memory.priority.accounts],
        }
    return _why(connection, memory, policy, int(payload["job_id"]), now)


def _why(connection: Connection, memory: QueueMemory, policy: Policy, job_id: int, now: float) -> dict[str, Any]:
    waiting = memory.waiting.get(job_id)
    row = connection.execute(_ROW, {"job_id": job_id}).mappings().one_or_none()
    if waiting is None or row is None:
        return {"reason": "None", "text": "调度器的队列里没有它；它刚刚启动或结束了"}
    outlook = Outlook(memory.cluster, memory.queue, waiting.job, now, policy)
    found = explain(outlook, memory.queue, waiting.job)
    if found.message is None:
        builder = _Builder(memory, policy, waiting, dict(row), outlook, now)
        current = math.inf if found.expected_start is None else found.expected_start
        found.suggestions = suggestions(builder.row, builder.build, builder.others(), now, current)
    # 数组任务写成 8_1：它自己的号哪里也不显示。
    named = list(connection.execute(JOB_LABELS, {"job_ids": sorted(found.job_ids)}))
    users = {line.job_id: line.user_name for line in named}
    labels = {line.job_id: line.label for line in named}
    called = {line.job_id: f"{line.label}（{line.user_name}）" for line in named}
    return {
        "reason": found.reason,
        "text": render(found, called, now),
        "expected_start_time": _iso(found.expected_start),
        "expected_end_time": _iso(found.expected_end),
        "nodes": found.nodes,
        "jobs_ahead": [labels.get(number, str(number)) for number, _ in found.ahead],
        "jobs_ahead_count": found.ahead_count,
        "waiting_for": [_holder(holder, users, labels) for holder in found.holders],
        "shortages": found.shortages,
        "reservations": [
            {"name": name, "start_time": _iso(start), "end_time": _iso(end) if math.isfinite(end) else None}
            for name, start, end in found.reserved
        ],
        "limits": [
            {
                "reason": pool.reason,
                "name": pool.name,
                "needed": pool.need,
                "left": pool.left,
                "total": pool.total,
                "holders": [_holder(holder, users, labels) for holder in pool.holders],
            }
            for pool in found.pools
        ],
        "suggestions": [{**asdict(item), "start_time": _iso(item.start_time)} for item in found.suggestions],
    }


def _holder(holder: Holder, users: Mapping[int, str], labels: Mapping[int, str]) -> dict[str, Any]:
    return {
        "job_id": labels.get(holder.job_id, str(holder.job_id)),
        "user_name": users.get(holder.job_id),
        "nodes": list(holder.nodes),
        "amount": holder.amount,
        "expected_end_time": _iso(holder.end),
    }


@dataclass(slots=True)
class _Builder:
    """改了某些列之后的作业：形状、时限，与它那时的前景（层级不同的分区，前面的作业也不同）。"""

    memory: QueueMemory
    policy: Policy
    waiting: Waiting
    row: dict[str, Any]
    outlook: Outlook
    now: float
    _elsewhere: dict[tuple[int, int], Outlook] = field(default_factory=dict)

    def build(self, columns: Mapping[str, Any]) -> tuple[Shape, float, Outlook] | None:
        """不许这样改（分区、上限）的是 None。"""
        changed = {**self.row, **columns}
        memory = self.memory
        request = eligibility_request(changed, None)
        if ineligible(request, memory.cluster.partitions, self.now, memory.cluster.reservations) is not None:
            return None
        shape, violation = memory.requirements(changed)
        if violation is not None or impossible(memory.cluster, shape) is not None:
            return None
        limit = math.inf if changed["time_limit"] is None else float(changed["time_limit"])
        tier = max((each.tier for each in self._partitions(changed["partition"])), default=1)
        return shape, limit, self._outlook(memory.precedence.get(changed["qos"], 0), tier)

    def others(self) -> list[Change]:
        """换分区、QOS、账户：只试许用的。"""
        row, found = self.row, []
        own = row["partition"].split(",")
        for name in sorted(self.memory.cluster.partitions.keys() - set(own))[:MOST_ALTERNATIVES]:
            found.append(Change(f"换到分区 {name}", {"partition": name}, {"partition": name}))
        accounting = self.memory.limits.accounting
        association = accounting.find(row["account"], row["user_name"], own[0])
        if association is not None:
            for name in sorted(accounting.qos.keys() - {row["qos"]})[:MOST_ALTERNATIVES]:
                if accounting.allows(association, name):
                    found.append(Change(f"换 QOS {name}", {"qos": name}, {"qos": name}))
            accounts = sorted({account for account, user, _ in accounting.associations if user == row["user_name"]})
            for name in [account for account in accounts if account != row["account"]][:MOST_ALTERNATIVES]:
                found.append(Change(f"换账户 {name}", {"account": name}, {"account": name}))
        return found

    def _partitions(self, text: str) -> list[PartitionFacts]:
        known = self.memory.cluster.partitions
        return [known[name] for name in text.split(",") if name in known]

    def _outlook(self, precedence: int, tier: int) -> Outlook:
        own = self.waiting.job
        place = (precedence, tier)
        if place == (own.precedence, own.tier):
            return self.outlook
        if place not in self._elsewhere:
            moved = replace(own, precedence=precedence, tier=tier)
            self._elsewhere[place] = Outlook(self.memory.cluster, self.memory.queue, moved, self.now, self.policy)
        return self._elsewhere[place]


def _priorities(memory: QueueMemory, job_ids: list[int] | None, now: float) -> list[dict[str, Any]]:
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
            "priority": waiting.job.priority,
            "factors": memory.priority.factors_of(waiting.applicant, waiting.job, waiting.age_from, now)
            if enabled
            else {},
        }
        for waiting in found
    ]


def _trial(memory: QueueMemory, policy: Policy, row: Mapping[str, Any], now: float) -> dict[str, Any]:
    shape, violation = memory.requirements(row)
    limit = math.inf if row["time_limit"] is None else float(row["time_limit"])
    refused = ineligible(eligibility_request(row, None), memory.cluster.partitions, now, memory.cluster.reservations)
    if refused is not None and refused.wake_at is None:
        return {"start_time": None, "nodes": [], "reason": refused.reason, "text": refused.message}
    if violation is not None:
        return {"start_time": None, "nodes": [], "reason": violation.reason, "text": violation.message}
    verdict = impossible(memory.cluster, shape)
    if verdict is not None:
        return {"start_time": None, "nodes": [], "reason": "Resources", "text": verdict}
    job = PendingJob(TRIAL_JOB_ID, shape, limit, priority=priority_of(row), order=TRIAL_JOB_ID)
    if memory.priority.enabled:
        job.priority = memory.priority.of(Applicant.of(row), job, age_from({**row, "submit_time": now}), now)
    outlook = Outlook(memory.cluster, memory.queue, job, now, policy)
    lacking = outlook.lacking(shape, limit)
    found = outlook.earliest(shape, limit)
    if found is None or lacking:
        text = "占着资源的作业没有时限，说不准何时开始" if not lacking else "许可证或上限此刻不够，说不准何时开始"
        reason = memory.cluster.pool_reasons.get(lacking[0], "Resources") if lacking else "Resources"
        return {"start_time": None, "nodes": [], "reason": reason, "text": text}
    start = max(found[0], refused.wake_at if refused and refused.wake_at else found[0])
    cpus = shape.tasks * shape.cpus_per_task
    return {
        "start_time": _iso(start),
        "nodes": memory.cluster.node_names(found[1]),
        "reason": "None",
        "text": None,
        "cpus": cpus,
    }


def _iso(moment: float | None) -> str | None:
    found = moment_of(moment)
    return None if found is None else found.isoformat()
