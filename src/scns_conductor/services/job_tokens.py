"""作业令牌的核对：那个作业的那次尝试正在运行，而且它的节点登记过这个令牌的摘要。"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Unauthorized
from scns_conductor.core.job_token import token_digest
from scns_conductor.core.tokens import Identity

# 作业结束、重新排队、份额释放，令牌就没有用了；不缓存，所以立即生效。
_OWNER = sa.text(
    """
    SELECT j.user_name FROM jobs AS j
    WHERE j.job_id = :job_id AND j.restart_count = :attempt AND j.state IN ('RUNNING', 'SUSPENDED')
      AND EXISTS (SELECT FROM resource_allocations AS a
                  WHERE a.job_id = j.job_id AND a.restart_count = j.restart_count AND a.released_at IS NULL
                    AND a.token_digest = :digest)
    """
)


async def job_identity(engine: AsyncEngine, token: str, job_id: int, attempt: int) -> Identity:
    """作业的用户；作业不在运行、令牌不对抛 Unauthorized。"""
    values = {"job_id": job_id, "attempt": attempt, "digest": token_digest(token)}
    async with engine.connect() as connection:
        user_name = (await connection.execute(_OWNER, values)).scalar_one_or_none()
    if user_name is None:
        raise Unauthorized("作业令牌无效：它只在那个作业运行时有效", code="token_invalid")
    return Identity(user_name, admin=False, job_id=job_id)
