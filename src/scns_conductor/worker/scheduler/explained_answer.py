"""解释 -> 给人与程序的回答：话，与同样意思的 JSON；提到的作业怎样称呼。"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from scns_conductor.core.answers.jobs import Explained, TimeSlices
from scns_conductor.core.answers.jobs import Holder as HolderShown
from scns_conductor.core.instants import moment_of
from scns_conductor.scheduling.explain import Explanation, Holder, Turns
from scns_conductor.scheduling.explain_text import Names, render
from scns_conductor.statements.explanations import SUSPENDERS
from scns_conductor.statements.queue import JOB_LABELS


@dataclass(frozen=True, slots=True)
class Called:
    """提到的作业怎样称呼：数组任务写成 8_1，它自己的号哪里也不显示。"""

    labels: Mapping[int, str]
    users: Mapping[int, str]
    suspenders: Mapping[int, str]

    @classmethod
    def read(cls, connection: Connection, job_ids: Iterable[int], holders: Iterable[Holder]) -> "Called":
        """查出这些作业的称呼，挂起了的是谁挂起的。"""
        named = list(connection.execute(JOB_LABELS, {"job_ids": sorted(job_ids)}))
        suspended = [holder.job_id for holder in holders if holder.suspended]
        return cls(
            {line.job_id: line.label for line in named},
            {line.job_id: line.user_name for line in named},
            {line.job_id: line.actor for line in connection.execute(SUSPENDERS, {"job_ids": suspended})}
            if suspended
            else {},
        )

    def label(self, job_id: int) -> str:
        return self.labels.get(job_id, str(job_id))

    def names(self, now: float) -> Names:
        """话里怎样称呼。"""
        full = {job_id: f"{label}（{self.users[job_id]}）" for job_id, label in self.labels.items()}
        return Names(full, self.suspenders, now)

    def shown(self, holder: Holder) -> HolderShown:
        return {
            "job_id": self.label(holder.job_id),
            "user_name": self.users.get(holder.job_id),
            "nodes": list(holder.nodes),
            "amount": holder.amount,
            "expected_end_time": iso(holder.end),
            "suspended": holder.suspended,
            "suspended_by": self.suspenders.get(holder.job_id),
        }

    def turns(self, turns: Turns) -> TimeSlices:
        return {
            "partition": turns.partition,
            "time_slice_s": turns.slice_s,
            "most": turns.most,
            "next_turn_time": iso(turns.next_at),
            "active": [self.shown(holder) for holder in turns.active],
            "parked": [self.shown(holder) for holder in turns.parked],
        }


def explained(connection: Connection, found: Explanation, now: float) -> Explained:
    """一个排队的作业的。"""
    called = Called.read(connection, found.job_ids, found.named)
    answer: Explained = {
        "reason": found.reason,
        "text": render(found, called.names(now)),
        "expected_start_time": iso(found.expected_start),
        "expected_end_time": iso(found.expected_end),
        # latest：至迟；estimate：只是估计。
        "expected_kind": None if found.expected_start is None else "latest" if found.firm else "estimate",
        "probable_start_time": iso(found.probable_start),
        "latest_start_time": iso(found.late[1]) if found.late else None,
        "nodes": found.nodes,
        "jobs_ahead": [called.label(number) for number, _ in found.ahead.first],
        "jobs_ahead_count": found.ahead.count,
        "waiting_for": [called.shown(holder) for holder in (*found.holders, *found.endless, *found.waiting_for)],
        "shortages": found.shortages,
        "resources": [{"name": name, "needed": needed, "free": free} for name, needed, free in found.balance],
        "reservations": [
            {"name": name, "start_time": iso(start), "end_time": iso(end) if math.isfinite(end) else None}
            for name, start, end in found.reserved
        ],
        "limits": [
            {
                "reason": pool.reason,
                "name": pool.name,
                "needed": pool.need,
                "left": pool.left,
                "total": pool.total,
                "free_at": iso(pool.free_at),
                "holders": [called.shown(holder) for holder in pool.holders],
            }
            for pool in found.pools
        ],
        "suggestions": [
            {
                "text": item.text,
                "summary": item.summary,
                "changes": dict(item.changes),
                "start_time": iso(item.start_time),
                "expected_kind": "latest" if item.firm else "estimate",
                "good_until": iso(item.good_until),
            }
            for item in found.suggestions
        ],
    }
    if found.turns is not None:
        answer["time_slices"] = called.turns(found.turns)
    if found.taking is not None:
        answer["preempts"] = [called.label(victim.job_id) for victim in found.taking.victims]
        answer["preempts_from"] = iso(found.taking.allowed_at)
    return answer


def iso(moment: float | None) -> str | None:
    """Unix 秒 -> ISO 8601。"""
    found = moment_of(moment)
    return None if found is None else found.isoformat()
