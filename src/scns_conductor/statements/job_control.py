"""保留、放行、把结束了的重新排队、挂起、恢复；运行中的重新排队见 end_requests.REQUEUE_ACTIVE。"""

import sqlalchemy as sa

from scns_conductor.core.states import TERMINAL_STATES, JobState
from scns_conductor.statements.conditions import leaving
from scns_conductor.statements.starts import ASKED_RESERVATION


def _still_pending(change: str, cause: str) -> sa.TextClause:
    """改排队的作业而状态不变：改与记事件是一条语句，两万个也只找一遍行。"""
    return sa.text(
        f"""
        WITH changed AS (
          UPDATE jobs SET {change}, revision = revision + 1
          WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND state = 'PENDING'
          RETURNING job_id, restart_count
        )
        INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor)
        SELECT job_id, restart_count, 'PENDING', 'PENDING', '{cause}', :actor FROM changed
        """
    )


# 保留排队的作业。
HOLD = _still_pending("hold = :hold, reason = :reason, expected_start_time = NULL", "hold")
# 放行被保留的作业；优先级 0 也是一种保留，一并去掉。
RELEASE = _still_pending("hold = NULL, reason = 'None', priority = nullif(priority, 0)", "release")
# 结束了的作业回到排队：上一次尝试留下的都清掉，restart_count 加一。
REQUEUE_ENDED = sa.text(
    f"""
    UPDATE jobs AS j SET state = 'PENDING', reason = coalesce(:reason, 'None'), error_msg = NULL,
      hold = CAST(:hold AS text),
      restart_count = restart_count + 1, revision = revision + 1, eligible_time = NULL, start_time = NULL,
      partition = coalesce(requested_partitions, partition), reservation = {ASKED_RESERVATION},
      end_time = NULL, suspend_time = NULL, suspended_s = 0, expected_start_time = NULL, exit_status = NULL,
      exit_signal = NULL, derived_exit_status = NULL, node_list = NULL, batch_host = NULL, allocated_nodes = 0,
      allocated_cpus = 0, allocated_memory = 0, allocated_gres = NULL, process_id = NULL
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND state IN {leaving(TERMINAL_STATES, to={JobState.PENDING})}
    """
)
# 挂起：从此不计运行的时间。
SUSPEND = sa.text(
    "UPDATE jobs SET state = 'SUSPENDED', suspend_time = clock_timestamp() "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) "
    f"AND state IN {leaving({JobState.RUNNING}, to={JobState.SUSPENDED})}"
)
# 恢复：把挂起过的秒数加进去。
RESUME = sa.text(
    "UPDATE jobs SET state = 'RUNNING', suspend_time = NULL, suspended_s = suspended_s "
    "+ greatest(0, extract(epoch FROM clock_timestamp() - coalesce(suspend_time, clock_timestamp()))) "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) "
    f"AND state IN {leaving({JobState.SUSPENDED}, to={JobState.RUNNING})}"
)
# 其中 CPU 借出去了的；preempted：是因抢占、时间片而挂起的。
LENT_JOBS = sa.text(
    """
    SELECT DISTINCT a.job_id, coalesce((SELECT cause <> 'suspend' FROM job_events AS e WHERE e.job_id = a.job_id
      AND cause IN ('suspend', 'preempt', 'timeslice') ORDER BY event_id DESC LIMIT 1), true) AS preempted
    FROM resource_allocations AS a
    WHERE a.job_id = ANY(CAST(:job_ids AS bigint[])) AND a.released_at IS NULL AND a.lent_cpus > 0
    """
)
