"""作业令牌的核对：那个作业的那次尝试正在运行，而且它的节点登记过这个令牌的摘要。"""

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.errors import Unauthorized
from scns_conductor.core.job_token import token_digest
from scns_conductor.core.tokens import Identity
from scns_conductor.statements.job_tokens import OWNER_OF_TOKEN


async def job_identity(engine: AsyncEngine, token: str, job_id: int, attempt: int) -> Identity:
    """作业的用户；作业不在运行、令牌不对抛 Unauthorized。不缓存，所以作业一结束就失效。"""
    values = {"job_id": job_id, "attempt": attempt, "digest": token_digest(token)}
    async with engine.connect() as connection:
        user_name = (await connection.execute(OWNER_OF_TOKEN, values)).scalar_one_or_none()
    if user_name is None:
        raise Unauthorized("作业令牌无效：它只在那个作业运行时有效", code="token_invalid")
    return Identity(user_name, admin=False, job_id=job_id, method="job")
