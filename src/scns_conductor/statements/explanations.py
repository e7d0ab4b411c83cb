"""解释要说的事实：谁保留的、谁挂起的，所依赖的作业到了哪一步。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import LIVE

# 一个作业最近一次被保留：什么时候、谁、怎样；提交时就保留的是提交那一条。
LAST_HOLD = sa.text(
    """
    SELECT cause, actor, extract(epoch FROM event_time)::float8 AS at FROM job_events
    WHERE job_id = :job_id AND (
      cause IN ('submit', 'hold', 'requeue', 'launch_failed')
      OR (cause = 'update' AND (message LIKE '%hold%' OR message LIKE '%priority%')))
    ORDER BY event_id DESC LIMIT 1
    """.replace("::", r"\:\:")
)
# 这些作业最近一次是谁挂起的。
SUSPENDERS = sa.text(
    """
    SELECT DISTINCT ON (job_id) job_id, actor FROM job_events
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND to_state = 'SUSPENDED' AND from_state <> 'SUSPENDED'
    ORDER BY job_id, event_id DESC
    """
)
# 一个停着的作业最近一次为什么停、谁停的。
LAST_STOP = sa.text(
    """
    SELECT cause, actor, message FROM job_events
    WHERE job_id = :job_id AND cause IN ('suspend', 'preempt', 'timeslice') ORDER BY event_id DESC LIMIT 1
    """
)
# 所依赖的作业此刻怎样；数组是它还没有完的、或没有成的那些任务。
PARENTS = sa.text(
    f"""
    SELECT job_id, array_job_id, state, user_name,
      CASE WHEN array_task_id IS NULL THEN CAST(job_id AS text)
        ELSE concat(array_job_id, '_', array_task_id) END AS label,
      coalesce(exit_status, 0) AS exit_status,
      coalesce(exit_signal, 0) AS exit_signal, exit_status IS NOT NULL AS exited, reason
    FROM jobs
    WHERE job_id = ANY(CAST(:job_ids AS bigint[])) OR array_job_id = ANY(CAST(:job_ids AS bigint[]))
    ORDER BY state IN {LIVE} DESC, job_id LIMIT 200
    """
)
# 同一个用户同名的、在它前面的作业。
SAME_NAME = sa.text(
    f"""
    SELECT job_id FROM jobs WHERE user_name = :user_name AND name = :name AND job_id <> :job_id AND state IN {LIVE}
      AND (state <> 'PENDING' OR job_id < :job_id) ORDER BY state = 'PENDING', job_id LIMIT 20
    """
)
# 这些用户各自最近做完的作业（先做完的在前）：叫什么，跑了多少秒。
RECENT_RUN_TIMES = sa.text(
    """
    SELECT w.user_name, r.name, r.run_s FROM unnest(CAST(:user_names AS text[])) AS w(user_name), LATERAL (
      SELECT name, end_time, extract(epoch FROM end_time - start_time)::float8 - suspended_s AS run_s FROM jobs
      WHERE user_name = w.user_name AND state IN ('COMPLETED', 'FAILED', 'TIMEOUT')
        AND start_time IS NOT NULL AND end_time IS NOT NULL
      ORDER BY job_id DESC LIMIT 100) AS r
    ORDER BY r.end_time
    """.replace("::", r"\:\:")
)
# 有作业在排队的用户。
USERS_WAITING = sa.text("SELECT DISTINCT user_name FROM jobs WHERE state = 'PENDING'")
# 这些作业是谁的、叫什么。
NAMES_OF_JOBS = sa.text("SELECT job_id, user_name, name FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))")
