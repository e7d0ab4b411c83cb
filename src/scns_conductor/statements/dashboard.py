"""总览：各状态的作业数，最近的几个作业。"""

import sqlalchemy as sa

from scns_conductor.statements.array_tasks import TASKS_OF_ROW
from scns_conductor.statements.conditions import ACTIVE, LIVE

# 列出的作业至多几个。
SHORT_LIST = 20
# job_id::text 的列也叫 job_id：按作业号排序要写 jobs.job_id，否则按文字排。
_BRIEF = "job_id::text, name, user_name, partition, reason, submit_time, start_time, node_list, allocated_cpus"

# 没有结束的作业，按状态计数；数组按任务计。
COUNT_LIVE = sa.text(
    f"SELECT state, sum({TASKS_OF_ROW})::bigint AS jobs FROM jobs WHERE state = 'PENDING' GROUP BY state UNION ALL "
    f"SELECT state, count(*) FROM jobs WHERE state IN {ACTIVE} GROUP BY state"
)
# 结束了的作业，按状态计数；历史里的已经数好。
COUNT_FINISHED = sa.text(
    f"SELECT state, sum(jobs)::bigint AS jobs FROM (SELECT state, count(*) AS jobs FROM jobs WHERE state NOT IN {LIVE} "
    "GROUP BY state UNION ALL SELECT state, jobs FROM history.counts) AS c GROUP BY state".replace("::", r"\:\:")
)
# 最近启动的几个作业。
LATEST_RUNNING = sa.text(
    f"SELECT {_BRIEF} FROM jobs WHERE state IN {ACTIVE} ORDER BY jobs.job_id DESC LIMIT {SHORT_LIST}"
)
# 排得最久的几个作业。
LONGEST_PENDING = sa.text(
    f"SELECT {_BRIEF}, expected_start_time FROM jobs WHERE state = 'PENDING' ORDER BY jobs.job_id LIMIT {SHORT_LIST}"
)
