"""取消排队的作业；运行中的由节点结束，见 end_requests.CANCEL_ACTIVE。"""

import sqlalchemy as sa

from scns_conductor.core.states import JobState
from scns_conductor.statements.array_tasks import SHARED_COLUMNS
from scns_conductor.statements.conditions import leaving

_CANCELLABLE = leaving({JobState.PENDING}, to={JobState.CANCELLED})
_SHARED = ", ".join(name for name in SHARED_COLUMNS if name != "hold")

# 排队的作业当场取消，记事件。
CANCEL_PENDING = sa.text(
    f"""
    WITH ended AS (
      UPDATE jobs SET state = 'CANCELLED', reason = 'None', error_msg = :message, end_time = clock_timestamp(),
        hold = NULL, expected_start_time = NULL, exit_status = 0, exit_signal = 0, revision = revision + 1
      WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND state IN {_CANCELLABLE}
      RETURNING job_id, restart_count
    )
    INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
    SELECT job_id, restart_count, 'PENDING', 'CANCELLED', 'cancel', :actor, :message FROM ended
    """
)
# 数组里还没有启动的一部分任务：拆成一行 CANCELLED，任务在这一行的 array_remaining 里，不为每个任务各写一行。
CANCEL_TASKS = sa.text(
    f"""
    WITH taken AS (
      UPDATE jobs SET array_remaining = array_remaining - CAST(CAST(:tasks AS text) AS int4multirange),
        revision = revision + 1
      WHERE job_id = :job_id AND state IN {_CANCELLABLE}
    ), ended AS (
      INSERT INTO jobs ({_SHARED}, array_job_id, array_task_id, array_remaining, array_base, array_step,
        state, error_msg, submit_time, end_time, exit_status, exit_signal)
      SELECT {_SHARED}, array_job_id, CAST(:only AS integer),
        CASE WHEN CAST(:only AS integer) IS NULL THEN CAST(CAST(:tasks AS text) AS int4multirange) END,
        array_base, array_step, 'CANCELLED', :message,
        submit_time, clock_timestamp(), 0, 0
      FROM jobs WHERE job_id = :job_id
      RETURNING job_id
    )
    INSERT INTO job_events (job_id, from_state, to_state, cause, actor, message)
    SELECT job_id, 'PENDING', 'CANCELLED', 'cancel', :actor, :message FROM ended
    """
)
