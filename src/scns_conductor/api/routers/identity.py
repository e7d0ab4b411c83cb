"""我是谁：令牌的身份。"""

from pydantic import BaseModel, Field

from scns_conductor.api.dependencies import IdentityDep
from scns_conductor.api.segment_router import SegmentRouter

router = SegmentRouter(tags=["集群"])


class WhoAmI(BaseModel):
    """令牌的身份。"""

    user_name: str = Field(description="用户名")
    admin: bool = Field(description="是不是管理员（令牌，或 sacctmgr 的 AdminLevel）")
    operator: bool = Field(description="是不是 Operator：管记账、预留与别人的作业")
    role: str = Field(description="job、user、coordinator、auditor、operator、administrator，取最大的")
    coordinates: list[str] = Field(description="作协调人的账户，连同各级下级")
    scopes: list[str] = Field(description="令牌的范围：read、submit；空的是不限")
    account: str | None = Field(description="令牌只管这个账户的作业；null 是不限")
    method: str = Field(description="怎样认出来的：token、job、socket 等")
    token_id: str | None = Field(description="登记过的令牌的号")
    job_id: str | None = Field(description="作业令牌的作业号；别的令牌是 null")
    expires_at: int | None = Field(description="令牌的到期（Unix 秒）；作业令牌、本机套接字的是 null")


@router.get("/whoami", summary="我是谁")
async def whoami(identity: IdentityDep) -> WhoAmI:
    """是谁，有什么权，令牌何时到期。"""
    return WhoAmI(
        user_name=identity.user_name,
        admin=identity.admin,
        operator=identity.operator,
        role=identity.role,
        coordinates=sorted(identity.coordinates),
        scopes=sorted(identity.scopes),
        account=identity.account,
        method=identity.method,
        token_id=identity.token_id,
        job_id=None if identity.job_id is None else str(identity.job_id),
        expires_at=identity.expires_at,
    )
