"""抢占的提交：请节点结束（requeue、cancel）或挂起（suspend）被抢占的作业，以及之后的恢复。

都与领导者的栅栏在同一条语句里。挂起时作业的 CPU 从节点的计数里借出去（lent_cpus），恢复时拿回来；
拿不回来（不变量 3 的 CHECK 拦下）就整条作废。
"""

import math
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.scheduling.cluster import Cluster, RunningJob
from scns_conductor.scheduling.preemption import SUSPEND, Preemption, Rules

# 不许重新排队的作业只能取消（Slurm 也是）。
_REQUEST = sa.text(
    """
    WITH wanted AS (
      SELECT * FROM unnest(CAST(:job_ids AS bigint[]), CAST(:modes AS text[]), CAST(:messages AS text[]),
        CAST(:graces AS integer[])) AS w(job_id, mode, message, grace)
    )
    UPDATE jobs AS j SET
      requested_end_state = CASE WHEN w.mode = 'requeue' AND j.requeue AND NOT j.interactive THEN 'PENDING'
                                 ELSE 'PREEMPTED' END,
      requested_end_reason = w.message, requested_end_actor = 'scheduler', requested_end_grace = w.grace
    FROM wanted AS w
    WHERE j.job_id = w.job_id AND j.state IN ('RUNNING', 'SUSPENDED') AND j.requested_end_state IS NULL
      AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
    RETURNING j.job_id
    """
)
_SUSPEND = sa.text(
    """
    WITH wanted AS (
      SELECT * FROM unnest(CAST(:job_ids AS bigint[]), CAST(:messages AS text[])) AS w(job_id, message)
    ),
    chosen AS (
      SELECT j.job_id, j.restart_count, w.message FROM jobs AS j JOIN wanted AS w USING (job_id)
      WHERE j.state = 'RUNNING' AND j.requested_end_state IS NULL
        AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
      ORDER BY j.job_id FOR NO KEY UPDATE OF j
    ),
    suspended AS (
      UPDATE jobs AS j SET state = 'SUSPENDED', suspend_time = clock_timestamp() FROM chosen
      WHERE j.job_id = chosen.job_id RETURNING j.job_id
    ),
    lent AS (
      UPDATE resource_allocations AS a SET lent_cpus = a.cpus, cpus = 0 FROM chosen
      WHERE a.job_id = chosen.job_id AND a.restart_count = chosen.restart_count AND a.released_at IS NULL
      RETURNING a.node_name, a.lent_cpus
    ),
    given AS (SELECT node_name, sum(lent_cpus)::integer AS cpus FROM lent GROUP BY node_name),
    locked AS (
      SELECT n.name FROM nodes AS n JOIN given ON given.node_name = n.name ORDER BY n.name FOR NO KEY UPDATE OF n
    ),
    counted AS (
      UPDATE nodes AS n SET allocated_cpus = n.allocated_cpus - given.cpus
      FROM given JOIN locked ON locked.name = given.node_name WHERE n.name = given.node_name
    ),
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, 'RUNNING', 'SUSPENDED', 'preempt', 'scheduler', message FROM chosen
    )
    SELECT job_id FROM suspended ORDER BY job_id
    """.replace("::", r"\:\:")
)
_RESUME = sa.text(
    """
    WITH chosen AS (
      SELECT j.job_id, j.restart_count FROM jobs AS j
      WHERE j.job_id = ANY(CAST(:job_ids AS bigint[])) AND j.state = 'SUSPENDED' AND j.requested_end_state IS NULL
        AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
      ORDER BY j.job_id FOR NO KEY UPDATE OF j
    ),
    taken AS (
      UPDATE resource_allocations AS a SET cpus = a.lent_cpus, lent_cpus = 0 FROM chosen
      WHERE a.job_id = chosen.job_id AND a.restart_count = chosen.restart_count AND a.released_at IS NULL
        AND a.lent_cpus > 0
      RETURNING a.job_id, a.node_name, a.cpus
    ),
    resumed AS (
      UPDATE jobs AS j SET state = 'RUNNING', suspend_time = NULL, suspended_s = suspended_s
        + greatest(0, extract(epoch FROM clock_timestamp() - coalesce(suspend_time, clock_timestamp())))
      WHERE j.job_id IN (SELECT job_id FROM taken) RETURNING j.job_id, j.restart_count
    ),
    wanted AS (SELECT node_name, sum(cpus)::integer AS cpus FROM taken GROUP BY node_name),
    locked AS (
      SELECT n.name FROM nodes AS n JOIN wanted ON wanted.node_name = n.name ORDER BY n.name FOR NO KEY UPDATE OF n
    ),
    counted AS (
      UPDATE nodes AS n SET allocated_cpus = n.allocated_cpus + wanted.cpus
      FROM wanted JOIN locked ON locked.name = wanted.node_name WHERE n.name = wanted.node_name
    ),
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, 'SUSPENDED', 'RUNNING', 'resume', 'scheduler', '抢占者用完了' FROM resumed
    )
    SELECT job_id FROM resumed ORDER BY job_id
    """.replace("::", r"\:\:")
)


def request_preemptions(
    connection: Connection,
    epoch: int,
    cluster: Cluster,
    preemptions: Sequence[Preemption],
    rules: Rules,
    kill_wait_s: float,
) -> tuple[dict[int, float], list[int]]:
    """写下要求。返回（要结束的作业 -> 至多多少秒之后，挂起了的作业）；已经在结束的不在其中。

    在调用者的事务里执行。宽限期一开始就发 SIGTERM，期满 SIGKILL；不短于 KillWait。
    """
    ending: dict[int, tuple[str, str, int | None]] = {}
    suspending: dict[int, str] = {}
    for preemption in preemptions:
        shape = preemption.job.shape
        by = f"QOS {shape.qos}" if rules.by_qos else f"分区 {shape.partition}"
        message = f"被作业 {preemption.job.job_id} 抢占（{by}）"
        for victim in preemption.victims:
            mode = rules.mode(cluster, victim)
            if mode == SUSPEND:
                suspending[victim.job_id] = message
                continue
            grace_s = rules.grace_s(cluster, victim)
            ending[victim.job_id] = (mode, message, max(grace_s, math.ceil(kill_wait_s)) if grace_s else None)
    ended = _end(connection, epoch, ending)
    suspended: list[int] = []
    if suspending:
        values = {"job_ids": list(suspending), "messages": list(suspending.values()), "epoch": epoch}
        suspended = list(connection.scalars(_SUSPEND, values))
    return {job_id: float(ending[job_id][2] or kill_wait_s) for job_id in ended}, suspended


def _end(connection: Connection, epoch: int, ending: Mapping[int, tuple[str, str, int | None]]) -> list[int]:
    if not ending:
        return []
    values = {
        "job_ids": list(ending),
        "modes": [mode for mode, _, _ in ending.values()],
        "messages": [message for _, message, _ in ending.values()],
        "graces": [grace for _, _, grace in ending.values()],
        "epoch": epoch,
    }
    return list(connection.scalars(_REQUEST, values))


def resume_preempted(connection: Connection, epoch: int, victims: Sequence[RunningJob]) -> list[int]:
    """恢复借出了 CPU 的；返回真的恢复了的。节点的 CPU 不够时 PostgreSQL 报 CheckViolation。"""
    return list(connection.scalars(_RESUME, {"job_ids": [each.job_id for each in victims], "epoch": epoch}))
