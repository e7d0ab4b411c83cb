"""一件事要说给哪些订阅、说什么：纯函数。请求体照 Standard Webhooks：type、timestamp、data。"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from scns_conductor.core.efficiency import Usage
from scns_conductor.core.recurrence import occurrences
from scns_conductor.core.webhooks import events_of, job_event


@dataclass(frozen=True, slots=True)
class Subscription:
    """一个订阅；accounts 是账户连同它的下级。"""

    webhook_id: int
    scope: str
    user_name: str
    accounts: frozenset[str]
    events: frozenset[str]
    after_job_event: int
    after_cluster_event: int
    created_at: datetime


class Told(NamedTuple):
    """要送的一件。"""

    webhook_id: int
    event: str
    payload: str


def subscriptions(
    rows: Iterable[Any], parents: Mapping[str, str | None], coordinators: Collection[tuple[str, str]] = ()
) -> list[Subscription]:
    """rows 是 ACTIVE_WEBHOOKS 的行，parents 是账户 -> 上级，coordinators 是（用户，他协调的账户）。

    作为协调人定的，不再是这个账户（或它的上级）的协调人就不算。
    """
    return [
        Subscription(
            row.webhook_id,
            row.scope,
            row.user_name,
            _below(row.account, parents) if row.account is not None else frozenset(),
            _known(row.events),
            row.after_job_event,
            row.after_cluster_event,
            row.created_at,
        )
        for row in rows
        if not row.as_coordinator or _coordinates(row.user_name, row.account, parents, coordinators)
    ]


def _coordinates(
    user_name: str, account: str, parents: Mapping[str, str | None], coordinators: Collection[tuple[str, str]]
) -> bool:
    above: str | None = account
    for _ in range(len(parents) + 1):
        if above is None or (user_name, above) in coordinators:
            break
        above = parents.get(above)
    return above is not None and (user_name, above) in coordinators


def _known(patterns: Collection[str]) -> frozenset[str]:
    # 存下的都核对过；退回旧版之后不认得的，不让一个订阅拖住全部。
    found: set[str] = set()
    for pattern in patterns:
        try:
            found |= events_of([pattern])
        except ValueError:
            continue
    return frozenset(found)


def _below(account: str, parents: Mapping[str, str | None]) -> frozenset[str]:
    """这个账户与它的各级下级。"""
    found, before = {account}, 0
    while len(found) > before:
        before = len(found)
        found |= {name for name, parent in parents.items() if parent in found}
    return frozenset(found)


def told_of_jobs(rows: Iterable[Any], hooks: Sequence[Subscription], cluster: str) -> list[Told]:
    """rows 是 JOB_EVENTS_AFTER 的行。"""
    found: list[Told] = []
    for row in rows:
        event = job_event(row.from_state, row.to_state)
        chosen = [hook for hook in hooks if event in hook.events and _concerns(hook, row)]
        if event is not None and chosen:
            payload = _payload(event, row.event_time, cluster, _job(row))
            found += [Told(hook.webhook_id, event, payload) for hook in chosen]
    return found


def _concerns(hook: Subscription, row: Any) -> bool:
    if row.event_id <= hook.after_job_event:
        return False
    if hook.scope == "user":
        return bool(row.user_name == hook.user_name)
    return hook.scope == "cluster" or row.account in hook.accounts


def told_of_cluster(rows: Iterable[Any], hooks: Sequence[Subscription], cluster: str) -> list[Told]:
    """rows 是 CLUSTER_EVENTS_AFTER 的行。"""
    found: list[Told] = []
    for row in rows:
        kind = row.event.partition(".")[0]
        payload = _payload(row.event, row.created_at, cluster, {kind: row.subject, **row.detail})
        found += [
            Told(hook.webhook_id, row.event, payload)
            for hook in hooks
            if hook.scope == "cluster" and row.event in hook.events and row.event_id > hook.after_cluster_event
        ]
    return found


def told_of_reservations(
    rows: Iterable[Any], hooks: Sequence[Subscription], cluster: str, since: datetime, now: datetime
) -> list[Told]:
    """since 之后、到 now 为止开始或结束的预留；rows 是 RESERVATIONS_NOW 的行。"""
    found: list[tuple[datetime, Told]] = []
    for row in rows:
        # 从 since 起还没有结束的各次；早过 now 的一次就够了。
        for start, end in occurrences(row.start_time, row.end_time, row.flags, since):
            if start > now:
                break
            for event, moment in (("reservation.started", start), ("reservation.ended", end)):
                if since < moment <= now:
                    data = {"reservation": row.name, "start_time": start, "end_time": end, "nodes": row.nodes,
                            "users": row.users, "accounts": row.accounts, "flags": row.flags}  # fmt: skip
                    payload = _payload(event, moment, cluster, data)
                    found += [
                        (moment, Told(hook.webhook_id, event, payload))
                        for hook in hooks
                        if hook.scope == "cluster" and event in hook.events and moment > hook.created_at
                    ]
    return [told for _, told in sorted(found, key=lambda each: each[0])]


def _payload(event: str, moment: datetime, cluster: str, data: Mapping[str, Any]) -> str:
    return json.dumps(
        {"type": event, "timestamp": moment, "cluster": cluster, "data": data},
        ensure_ascii=False,
        default=_moment,
        separators=(",", ":"),
    )


def _moment(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"写不成 JSON：{value!r}")


class EndFacts(TypedDict):
    """结束了的才有的；单位在名字里，没有采到的是 null。"""

    exit_code: str
    elapsed_s: float
    time_limit_s: int | None
    cpu_s: float | None
    cpu_efficiency: float | None
    memory_asked_mb: int | None
    memory_peak_mb: int | None


class JobFacts(TypedDict):
    """一件作业的事里，作业的概况。"""

    job_id: str
    array_job_id: str | None
    array_task_id: int | None
    het_job_id: str | None
    restart_count: int
    name: str
    user: str
    account: str | None
    partition: str
    qos: str
    from_state: str | None
    state: str
    cause: str | None
    actor: str
    message: str | None
    submit_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    node_list: str | None
    cpus: int | None


class EndedFacts(JobFacts, EndFacts):
    """结束了的作业的概况。"""


def _job(row: Any) -> JobFacts | EndedFacts:
    """作业的概况：状态是这件事的，其余是读到时的。"""
    found: JobFacts = {
        "job_id": str(row.job_id),
        "array_job_id": None if row.array_job_id is None else str(row.array_job_id),
        "array_task_id": row.array_task_id,
        "het_job_id": None if row.het_job_id is None else str(row.het_job_id),
        "restart_count": row.restart_count,
        "name": row.name,
        "user": row.user_name,
        "account": row.account,
        "partition": row.partition,
        "qos": row.qos,
        "from_state": row.from_state,
        "state": row.to_state,
        "cause": row.cause,
        "actor": row.actor,
        "message": row.message,
        "submit_time": row.submit_time,
        "start_time": row.start_time,
        "end_time": row.end_time,
        "node_list": row.node_list,
        "cpus": row.allocated_cpus,
    }
    if row.end_time is not None and row.state_now == row.to_state:
        return {**found, **_ended(row)}
    return found


def _ended(row: Any) -> EndFacts:
    """结束了的：退出码与用了多少（单位在名字里）；没有运行过的、没有采到的是 null。"""
    run_s = 0.0
    if row.start_time is not None:
        run_s = max(0.0, (row.end_time - row.start_time).total_seconds() - (row.suspended_s or 0))
    cpu_s = None if row.cpu_user_s is None else row.cpu_user_s + (row.cpu_system_s or 0)
    peak = None if row.max_rss_kb is None else -(-row.max_rss_kb // 1024)
    usage = Usage(row.allocated_cpus or 1, run_s, cpu_s, row.allocated_memory or None, peak, row.time_limit)
    return {
        "exit_code": f"{row.exit_status or 0}:{row.exit_signal or 0}",
        "elapsed_s": round(run_s, 3),
        "time_limit_s": row.time_limit,
        "cpu_s": cpu_s,
        "cpu_efficiency": None if usage.cpu is None else round(usage.cpu, 4),
        "memory_asked_mb": usage.memory_asked,
        "memory_peak_mb": usage.memory_peak,
    }
