"""等待的原因、预计的开始，以及来不及的。"""

import sqlalchemy as sa

from scns_conductor.core.states import JobState
from scns_conductor.statements.conditions import leaving

_HOPELESS = leaving({JobState.PENDING}, to={JobState.DEADLINE, JobState.CANCELLED})

# 写下等待的原因与预计的开始；返回写成了的。
WRITE_REASONS = sa.text(
    """
    UPDATE jobs AS j SET reason = w.reason, error_msg = w.message, expected_start_time = w.expected,
      expected_nodes = w.nodes
    FROM (
      -- 被别的会话锁着的跳过，下次再写。各处都按作业号去找：规划器不知道数组多长，两个数组相连会是 n 的平方。
      SELECT w.* FROM unnest(CAST(:job_ids AS bigint[]), CAST(:reasons AS text[]), CAST(:messages AS text[]),
                             CAST(:expected AS timestamptz[]), CAST(:nodes AS text[]))
      AS w(job_id, reason, message, expected, nodes)
        JOIN jobs AS l ON l.job_id = w.job_id AND l.state = 'PENDING'
      ORDER BY w.job_id FOR NO KEY UPDATE OF l SKIP LOCKED) AS w
    WHERE j.job_id = w.job_id
    RETURNING j.job_id
    """
)
# 结束来不及的、依赖无望的；返回写成了的。
END_HOPELESS = sa.text(
    f"""
    WITH wanted AS MATERIALIZED (
      SELECT w.* FROM unnest(CAST(:job_ids AS bigint[]), CAST(:states AS text[]), CAST(:messages AS text[]))
          AS w(job_id, state, message)
        JOIN jobs AS l ON l.job_id = w.job_id AND l.state = 'PENDING'
      ORDER BY w.job_id FOR NO KEY UPDATE OF l SKIP LOCKED
    ), ended AS (
      UPDATE jobs AS j SET state = w.state,
        reason = CASE w.state WHEN 'DEADLINE' THEN 'DeadLine' ELSE 'DependencyNeverSatisfied' END,
        error_msg = w.message, end_time = clock_timestamp(), exit_status = 0, exit_signal = 0,
        expected_start_time = NULL, revision = revision + 1
      FROM wanted AS w WHERE j.job_id = w.job_id AND j.state IN {_HOPELESS}
        AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
      RETURNING j.job_id, j.restart_count, w.state AS to_state, w.message
    )
    INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
    SELECT job_id, restart_count, 'PENDING', to_state, lower(to_state), 'scheduler', message FROM ended
    RETURNING job_id
    """
)
