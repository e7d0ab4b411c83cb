"""作业令牌的核对。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import ACTIVE

# 令牌的作业的用户：那次尝试正在占着资源，它的节点登记过这个摘要。结束、重新排队、释放之后就没有行。
OWNER_OF_TOKEN = sa.text(
    f"""
    SELECT j.user_name FROM jobs AS j
    WHERE j.job_id = :job_id AND j.restart_count = :attempt AND j.state IN {ACTIVE}
      AND EXISTS (SELECT FROM resource_allocations AS a
                  WHERE a.job_id = j.job_id AND a.restart_count = j.restart_count AND a.released_at IS NULL
                    AND a.token_digest = :digest)
    """
)
