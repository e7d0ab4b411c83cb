"""我是谁：令牌的身份。"""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from scns_conductor.api.dependencies import IdentityDep

router = APIRouter(tags=["集群"])


class WhoAmI(BaseModel):
    """令牌的身份。"""

    user_name: str = Field(description="用户名")
    admin: bool = Field(description="是不是管理员（令牌，或 sacctmgr 的 AdminLevel）")
    operator: bool = Field(description="能不能改记账的表")
    job_id: str | None = Field(description="作业令牌的作业号；别的令牌是 null")
    expires_at: int | None = Field(description="令牌的到期（Unix 秒）；作业令牌是 null")


@router.get("/whoami", summary="我是谁")
async def whoami(identity: IdentityDep) -> WhoAmI:
    """令牌是谁的，有什么权，何时到期。"""
    return WhoAmI(
        user_name=identity.user_name,
        admin=identity.admin,
        operator=identity.operator,
        job_id=None if identity.job_id is None else str(identity.job_id),
        expires_at=identity.expires_at,
    )
