"""通知：取触发器记下的变化，定下要发的，取到时候的，记下结果。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import LIVE

# 看过的变化，连同定要不要发、发给谁要知道的；一个进程看的，别的跳过。
TAKE_NOTICES = sa.text(
    """
    WITH taken AS (
      DELETE FROM job_notices WHERE notice_id IN (
        SELECT notice_id FROM job_notices ORDER BY notice_id LIMIT :most FOR UPDATE SKIP LOCKED)
      RETURNING notice_id, job_id, restart_count, from_state, to_state
    )
    SELECT t.job_id, t.restart_count, t.from_state, t.to_state, j.mail_type, j.mail_user, j.user_name, j.array_job_id
    FROM taken AS t JOIN jobs AS j USING (job_id) ORDER BY t.notice_id
    """
)
# 这些数组里还没有结束的。
UNFINISHED_ARRAYS = sa.text(
    f"""
    SELECT DISTINCT array_job_id FROM jobs
    WHERE array_job_id = ANY(CAST(:array_job_ids AS bigint[])) AND state IN {LIVE}
    """
)
# 这些数组里有失败的。
FAILED_ARRAYS = sa.text(
    """
    SELECT DISTINCT array_job_id FROM jobs
    WHERE array_job_id = ANY(CAST(:array_job_ids AS bigint[])) AND state = ANY(CAST(:failures AS text[]))
    """
)
# 时限用掉了这么多的，还没有说过的。
TIME_LIMITS_REACHED = sa.text(
    r"""
    SELECT j.job_id, j.restart_count, 'TIME_LIMIT_' || percent AS occasion, j.mail_user, j.user_name
    FROM jobs AS j, unnest(ARRAY[50, 80, 90]) AS percent
    WHERE j.state = 'RUNNING' AND j.mail_type LIKE '%TIME\_LIMIT\_%' AND j.time_limit IS NOT NULL
      AND strpos(j.mail_type, 'TIME_LIMIT_' || percent) > 0
      AND clock_timestamp() >= j.start_time + make_interval(secs => j.suspended_s + j.time_limit * percent / 100.0)
      AND NOT EXISTS (SELECT FROM notifications AS n WHERE n.job_id = j.job_id
        AND n.restart_count = j.restart_count AND n.occasion = 'TIME_LIMIT_' || percent)
    """
)
# 定下要发的；一小时里超过上限的不发，说明为什么。
ADD = sa.text(
    """
    WITH wanted AS (
      SELECT *, row_number() OVER (PARTITION BY user_name ORDER BY position) AS rank FROM unnest(
        CAST(:job_ids AS bigint[]), CAST(:restart_counts AS integer[]), CAST(:occasions AS text[]),
        CAST(:recipients AS text[]), CAST(:user_names AS text[])
      ) WITH ORDINALITY AS w(job_id, restart_count, occasion, recipients, user_name, position)
    ), spent AS (
      SELECT j.user_name, count(*) AS total FROM notifications AS n JOIN jobs AS j USING (job_id)
      WHERE n.created_at > clock_timestamp() - interval '1 hour' AND n.state <> 'DEAD'
        AND j.user_name IN (SELECT user_name FROM wanted)
      GROUP BY j.user_name
    )
    INSERT INTO notifications (job_id, restart_count, occasion, recipients, state, error)
    SELECT w.job_id, w.restart_count, w.occasion, w.recipients,
      CASE WHEN w.rank + coalesce(s.total, 0) > :hourly_limit THEN 'DEAD' ELSE 'QUEUED' END,
      CASE WHEN w.rank + coalesce(s.total, 0) > :hourly_limit THEN CAST(:refusal AS text) END
    FROM wanted AS w LEFT JOIN spent AS s USING (user_name) ORDER BY w.position
    ON CONFLICT ON CONSTRAINT notifications_once DO NOTHING
    """
)
# 到时候的；lease_s 秒里没有结果就再试：发的一方也许死了。
TAKE_DUE = sa.text(
    """
    UPDATE notifications SET attempts = attempts + 1, next_try_at = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE notification_id IN (
      SELECT notification_id FROM notifications WHERE state = 'QUEUED' AND next_try_at <= clock_timestamp()
      ORDER BY next_try_at LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING notification_id
    """
)
# 发一份要知道的。
TO_SEND = sa.text(
    """
    SELECT n.notification_id, n.job_id, n.occasion, n.recipients, n.attempts, n.created_at, j.name, j.user_name,
      j.account, j.partition, j.state, j.array_job_id, j.array_task_id, j.exit_status, j.exit_signal, j.error_msg,
      j.submit_time, j.start_time, j.end_time, j.suspended_s, j.time_limit, j.node_list, j.allocated_cpus,
      j.allocated_memory, j.max_rss_kb, j.cpu_user_s, j.cpu_system_s, j.standard_output, j.mail_type,
      j.current_working_directory, clock_timestamp() AS now
    FROM notifications AS n JOIN jobs AS j USING (job_id)
    WHERE n.notification_id = ANY(CAST(:notification_ids AS bigint[])) AND n.state = 'QUEUED'
    ORDER BY n.notification_id
    """
)
# 数组各任务的结局。
ARRAY_OUTCOMES = sa.text(
    """
    SELECT array_job_id, state, count(*) AS tasks, min(exit_status) AS least, max(exit_status) AS most
    FROM jobs WHERE array_job_id = ANY(CAST(:array_job_ids AS bigint[])) GROUP BY array_job_id, state
    ORDER BY array_job_id, state
    """
)
# 一批的结果：没有 error 的发出去了；retry_s 为 -1 的不再试。
RESULTS = sa.text(
    """
    UPDATE notifications AS n SET error = r.error,
      state = CASE WHEN r.error IS NULL THEN 'SENT' WHEN r.retry_s < 0 THEN 'DEAD' ELSE 'QUEUED' END,
      sent_at = CASE WHEN r.error IS NULL THEN clock_timestamp() END,
      next_try_at = clock_timestamp() + make_interval(secs => greatest(r.retry_s, 0))
    FROM unnest(CAST(:notification_ids AS bigint[]), CAST(:errors AS text[]), CAST(:retries_s AS float8[]))
      AS r(notification_id, error, retry_s)
    WHERE n.notification_id = r.notification_id
    """
)
# 一个人的（user_name 为空是所有人的），新的在前。
LIST = sa.text(
    """
    SELECT n.*, j.user_name FROM notifications AS n JOIN jobs AS j USING (job_id)
    WHERE (CAST(:user_name AS text) IS NULL OR j.user_name = :user_name)
      AND (CAST(:job_id AS bigint) IS NULL OR n.job_id = :job_id)
      AND (CAST(:state AS text) IS NULL OR n.state = :state)
      AND n.notification_id < :before
    ORDER BY n.notification_id DESC LIMIT :limit
    """
)
