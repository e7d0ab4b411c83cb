"""把等待的原因与预计开始写回数据库：只写变了的；来不及的（期限、依赖无望且要求取消）在这里结束。"""

from collections.abc import Iterable
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.scheduling.planner import RESERVED, Plan
from scns_conductor.worker.queue_memory import QueueMemory

# 预计开始变动不到这么多秒就不写：它每个周期都会抖一点。
EXPECTED_START_TOLERANCE_S = 5.0

_MARK = sa.text(
    """
    UPDATE jobs AS j SET reason = w.reason, error_msg = w.message, expected_start_time = w.expected
    FROM unnest(CAST(:job_ids AS bigint[]), CAST(:reasons AS text[]), CAST(:messages AS text[]),
                CAST(:expected AS timestamptz[])) AS w(job_id, reason, message, expected)
    WHERE j.job_id = w.job_id AND j.state = 'PENDING'
    """
)
_END = sa.text(
    """
    WITH wanted AS (
      SELECT * FROM unnest(CAST(:job_ids AS bigint[]), CAST(:states AS text[]), CAST(:messages AS text[]))
        AS w(job_id, state, message)
    ), ended AS (
      UPDATE jobs AS j SET state = w.state, reason = CASE w.state WHEN 'DEADLINE' THEN 'DeadLine' ELSE 'Dependency' END,
        error_msg = w.message, end_time = clock_timestamp(), exit_status = 0, exit_signal = 0,
        expected_start_time = NULL, revision = revision + 1
      FROM wanted AS w WHERE j.job_id = w.job_id AND j.state = 'PENDING'
        AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
      RETURNING j.job_id, j.restart_count, w.state AS to_state, w.message
    )
    INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
    SELECT job_id, restart_count, 'PENDING', to_state, lower(to_state), 'scheduler', message FROM ended
    RETURNING job_id
    """
)


def write_reasons(connection: Connection, memory: QueueMemory, plan: Plan) -> int:
    """按最近的计划写下每个等待的作业的原因；返回写了几行。"""
    expected = {item.job.job_id: item.start_time for item in plan.reservations}
    changed: list[tuple[int, str, str | None, float | None]] = []
    for job_id, waiting in memory.waiting.items():
        job = waiting.job
        place = (job.shape, job.time_limit_s)
        message, start = job.message, None
        if job.reason is not None:
            reason = job.reason
        elif place in plan.impossible:
            message = plan.impossible[place]
            reason = "BadConstraints" if job.shape.constraints or job.shape.required_nodes else "Resources"
        elif plan.blocked.get(place) == RESERVED:
            reason, start = RESERVED, expected.get(job_id)
            message = "此刻放得下，但节点在作业的时限之内有预留；改短时限也许能在它之前跑完"
        elif job_id in expected:
            reason, start = "Resources", expected[job_id]
        elif job.tasks is not None and job.available == 0:
            reason = "JobArrayTaskLimit"
        elif plan.blocked.get(place, "Resources") not in ("Resources", "Priority"):
            reason = plan.blocked[place]
        elif place in plan.blocked:
            reason = "Priority" if plan.reservations or plan.blocked[place] == "Priority" else "Resources"
        else:
            continue
        old_reason, old_message, old_start = waiting.written
        moved = (start is None) != (old_start is None) or (
            start is not None and old_start is not None and abs(start - old_start) > EXPECTED_START_TOLERANCE_S
        )
        if reason != old_reason or message != old_message or moved:
            changed.append((job_id, reason, message, start))
            waiting.written = (reason, message, start)
    if changed:
        connection.execute(
            _MARK,
            {
                "job_ids": [item[0] for item in changed],
                "reasons": [item[1] for item in changed],
                "messages": [item[2] for item in changed],
                "expected": [None if item[3] is None else datetime.fromtimestamp(item[3], UTC) for item in changed],
            },
        )
    return len(changed)


def end_hopeless(
    connection: Connection, epoch: int, memory: QueueMemory, *, kill_invalid_dependency: bool
) -> list[int]:
    """结束来不及的（DEADLINE）与依赖无望且要求取消的；返回作业号。"""
    wanted: list[tuple[int, str, str]] = []
    for job_id, waiting in memory.waiting.items():
        if waiting.job.reason == "Deadline":
            wanted.append((job_id, "DEADLINE", waiting.job.message or ""))
        elif waiting.job.reason == "DependencyNeverSatisfied":
            own = waiting.kill_on_invalid_dependency
            if kill_invalid_dependency if own is None else own:
                wanted.append((job_id, "CANCELLED", waiting.job.message or ""))
    return _end(connection, epoch, wanted)


def _end(connection: Connection, epoch: int, wanted: Iterable[tuple[int, str, str]]) -> list[int]:
    rows = list(wanted)
    if not rows:
        return []
    values = {
        "epoch": epoch,
        "job_ids": [row[0] for row in rows],
        "states": [row[1] for row in rows],
        "messages": [row[2] for row in rows],
    }
    return list(connection.scalars(_END, values))
