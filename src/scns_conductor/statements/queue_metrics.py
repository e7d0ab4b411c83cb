"""指标：没有结束的作业按状态、分区、原因计数。"""

import sqlalchemy as sa

from scns_conductor.statements.array_tasks import TASKS_OF_ROW
from scns_conductor.statements.conditions import ACTIVE

# 什么也不问的一句，量一个来回。
ROUNDTRIP = sa.text("SELECT 1")
# 个数多的在前；列了几个分区的算在第一个里。
QUEUE_COUNTS = sa.text(
    f"""
    SELECT state, split_part(partition, ',', 1) AS partition, reason, sum({TASKS_OF_ROW}) AS jobs
    FROM jobs WHERE state = 'PENDING' GROUP BY 1, 2, 3
    UNION ALL
    SELECT state, split_part(partition, ',', 1), 'None', count(*) FROM jobs WHERE state IN {ACTIVE} GROUP BY 1, 2
    ORDER BY jobs DESC LIMIT :most
    """
)
