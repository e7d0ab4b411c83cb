"""sdiag 的计数。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import ACTIVE

# 自 :since（Unix 秒）以来提交与结束的作业数，此刻排队与运行的，收件箱里的。提交的走提交时刻的索引，结束的走结束时刻的。
JOB_COUNTS = sa.text(
    f"""
    SELECT
      (SELECT count(*) FROM jobs WHERE submit_time >= to_timestamp(:since)) AS jobs_submitted,
      (SELECT count(*) FROM jobs WHERE end_time >= to_timestamp(:since) AND state = 'COMPLETED') AS jobs_completed,
      (SELECT count(*) FROM jobs WHERE end_time >= to_timestamp(:since) AND state = 'CANCELLED') AS jobs_canceled,
      (SELECT count(*) FROM jobs WHERE end_time >= to_timestamp(:since)
         AND state NOT IN ('COMPLETED', 'CANCELLED')) AS jobs_failed,
      (SELECT count(*) FROM jobs WHERE state = 'PENDING') AS jobs_pending,
      (SELECT count(*) FROM jobs WHERE state IN {ACTIVE}) AS jobs_running,
      (SELECT count(*) FROM scheduler_inbox) AS agent_queue_size
    """
)
