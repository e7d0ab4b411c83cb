"""提交数的上限：锁住，数一遍。"""

import sqlalchemy as sa

from scns_conductor.statements.array_tasks import TASKS_OF_ROW
from scns_conductor.statements.conditions import LIVE

# 排队与运行的作业数，可以只数这些账户、这个用户、这个 QOS 的；数组按任务计。
COUNT_LIVE_TASKS = sa.text(
    f"""
    SELECT coalesce(sum({TASKS_OF_ROW}), 0)::bigint
    FROM jobs WHERE state IN {LIVE}
      AND (CAST(:accounts AS text[]) IS NULL OR account = ANY(CAST(:accounts AS text[])))
      AND (CAST(:user AS text) IS NULL OR user_name = :user) AND (CAST(:qos AS text) IS NULL OR qos = :qos)
    """.replace("::", r"\:\:")
)
# 同一个上限的提交一个一个地数，数完落盘才轮到下一个；按名字的次序锁，不会死锁。
LOCK_LIMIT = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7236302))")
