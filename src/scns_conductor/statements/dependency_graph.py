"""依赖图：一批作业各自的依赖，与谁在等它们。数组是一行（array_job_id 那一行）。"""

import sqlalchemy as sa

from scns_conductor.statements.archive import archived
from scns_conductor.statements.conditions import LIVE

_COLUMNS = "job_id, name, user_name, state, dependency"
# 这些作业（数组取它自己的那一行）。
_JOBS = f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))"
GRAPH_JOBS = sa.text(f"{_JOBS} UNION ALL {archived(_JOBS)}")
# 一个数组任务属于哪个数组。
_ROOT = "SELECT coalesce(array_job_id, job_id) FROM jobs WHERE job_id = :job_id"
GRAPH_ROOT = sa.text(f"{_ROOT} UNION ALL {archived(_ROOT)}")
# 没有结束的作业里，谁的依赖写着其中一个；pattern 是作业号的正则。没有结束的有部分索引。
GRAPH_DEPENDENTS = sa.text(
    f"""
    SELECT {_COLUMNS} FROM jobs
    WHERE state IN {LIVE} AND dependency IS NOT NULL AND dependency ~ :pattern
      AND (array_job_id IS NULL OR array_job_id = job_id)
    ORDER BY job_id LIMIT :most
    """
)
