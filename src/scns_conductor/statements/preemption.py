"""挂起与恢复时借出、拿回 CPU：因抢占、时间片而挂起的，与人挂起、让出 CPU 的（SCNS_SUSPEND_FREES=cpus）。"""

import sqlalchemy as sa

from scns_conductor.core.states import JobState
from scns_conductor.statements.allocations import locked_nodes
from scns_conductor.statements.conditions import leaving

_SUSPENDABLE = leaving({JobState.RUNNING}, to={JobState.SUSPENDED})
_RESUMABLE = leaving({JobState.SUSPENDED}, to={JobState.RUNNING})
# lent 里借出的 CPU，从节点的计数里减去。
_TAKEN_OFF = f"""
    given AS (SELECT node_name, sum(lent_cpus)::integer AS cpus FROM lent GROUP BY node_name),
    {locked_nodes("given")},
    counted AS (
      UPDATE nodes AS n SET allocated_cpus = n.allocated_cpus - locked.cpus
      FROM locked WHERE n.name = locked.node_name
    )
"""

# 挂起被抢占的、轮到别人的（:cause 是 preempt、timeslice）：借出它们的 CPU，减去节点的计数，记事件；
# 时间片的一次尝试只记第一回，不然历史里全是它。
SUSPEND_LENDING = sa.text(
    f"""
    WITH wanted AS (
      SELECT * FROM unnest(CAST(:job_ids AS bigint[]), CAST(:messages AS text[])) AS w(job_id, message)
    ),
    chosen AS (
      SELECT j.job_id, j.restart_count, w.message FROM jobs AS j JOIN wanted AS w USING (job_id)
      WHERE j.state IN {_SUSPENDABLE} AND j.requested_end_state IS NULL
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
    {_TAKEN_OFF},
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, 'RUNNING', 'SUSPENDED', CAST(:cause AS text), 'scheduler', message FROM chosen
      WHERE :cause <> 'timeslice' OR NOT EXISTS (SELECT FROM job_events AS e WHERE e.job_id = chosen.job_id
        AND e.restart_count = chosen.restart_count AND e.cause = 'timeslice')
    )
    SELECT job_id FROM suspended ORDER BY job_id
    """.replace("::", r"\:\:")
)
# 人挂起了的（状态已经是 SUSPENDED）：让出 CPU，减去节点的计数。
LEND_SUSPENDED = sa.text(
    f"""
    WITH chosen AS (
      SELECT j.job_id, j.restart_count FROM jobs AS j
      WHERE j.job_id = ANY(CAST(:job_ids AS bigint[])) AND j.state = 'SUSPENDED' AND j.requested_end_state IS NULL
        AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
      ORDER BY j.job_id FOR NO KEY UPDATE OF j
    ),
    lent AS (
      UPDATE resource_allocations AS a SET lent_cpus = a.cpus, cpus = 0 FROM chosen
      WHERE a.job_id = chosen.job_id AND a.restart_count = chosen.restart_count AND a.released_at IS NULL
        AND a.lent_cpus = 0 AND a.cpus > 0
      RETURNING a.job_id, a.node_name, a.lent_cpus
    ),
    {_TAKEN_OFF}
    SELECT DISTINCT job_id FROM lent ORDER BY job_id
    """.replace("::", r"\:\:")
)
# 恢复借出了 CPU 的：拿回来，加上节点的计数（不够就整条作废），记事件；:quiet 的不记。
RESUME_PREEMPTED = sa.text(
    f"""
    WITH chosen AS (
      SELECT j.job_id, j.restart_count FROM jobs AS j
      WHERE j.job_id = ANY(CAST(:job_ids AS bigint[])) AND j.state IN {_RESUMABLE} AND j.requested_end_state IS NULL
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
    {locked_nodes("wanted")},
    counted AS (
      UPDATE nodes AS n SET allocated_cpus = n.allocated_cpus + locked.cpus
      FROM locked WHERE n.name = locked.node_name
    ),
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, 'SUSPENDED', 'RUNNING', 'resume', 'scheduler', 'CPU 空出来了' FROM resumed
      WHERE job_id <> ALL(CAST(:quiet AS bigint[]))
    )
    SELECT job_id FROM resumed ORDER BY job_id
    """.replace("::", r"\:\:")
)
