"""令牌：签发、列出、作废。"""

from typing import Annotated, Literal

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.answers.identity import TokensAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import NOT_FLAG, Flag
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.tokens import USER_NAME_PATTERN
from scns_conductor.services import user_tokens

router = SegmentRouter(tags=["集群"])

UserName = Annotated[str, Field(pattern=USER_NAME_PATTERN)]
# 账户的名字，写法同 POST /accounts 的。
AccountName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}$")]


class TokenRequest(BaseModel):
    """要签发的令牌。"""

    model_config = ConfigDict(extra="forbid")

    user_name: UserName | None = Field(None, description="给谁；缺省是自己")
    name: Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f]*$")] = Field("", description="名字，给人看的")
    admin: Flag = Field(False, description="管理员令牌，同 role 写 administrator")
    role: Literal["user", "operator", "administrator", "auditor"] = Field(
        "user", description="角色；user 的再看用户的管理级别，别的只有管理员能签"
    )
    scopes: Annotated[list[Literal["read", "submit"]], Field(max_length=2)] = Field(
        default_factory=list, description="范围：read 只许看，submit 只许提交；空的是不限"
    )
    account: AccountName | None = Field(None, description="只管这个账户的作业；缺省不限")
    lifetime_s: Annotated[int, Field(ge=1, le=10 * 365 * 86400), NOT_FLAG] | None = Field(
        None, description="有效期（秒）"
    )


class IssuedToken(BaseModel):
    """签发的令牌。"""

    token: str = Field(description="令牌；只在这里出现一次")
    token_id: str = Field(description="令牌的号，列出、作废用它")


class Revoked(BaseModel):
    """作废的结果。"""

    revoked: int = Field(description="作废了几个登记过的")


@router.get("/tokens", summary="令牌")
async def list_tokens(
    parts: PartsDep,
    identity: IdentityDep,
    user: Annotated[
        str | None,
        Query(description="谁的；缺省是自己，* 是全部（管理员、审计员）", max_length=255, pattern=r"^[^\x00]*$"),
    ] = None,
) -> TokensAnswer:
    """没有到期的，新的在前，至多 1000 个；作废了的也在。令牌自己不在里面，系统也不留着它。"""
    return {"tokens": await user_tokens.list_tokens(parts.engine, identity, user)}


@router.post("/tokens", summary="签发令牌", status_code=201)
async def create_token(body: TokenRequest, parts: PartsDep, identity: IdentityDep) -> IssuedToken:
    """自己的令牌谁都能签；别人的、有角色的要管理员。"""
    if body.admin and body.role not in ("user", "administrator"):
        raise InvalidRequest("role", "与 admin 不能都写", code="role_conflict")
    issued = await user_tokens.issue_user_token(
        parts.engine,
        parts.settings,
        identity,
        user_name=body.user_name,
        name=body.name,
        role="administrator" if body.admin else body.role,
        scopes=body.scopes,
        account=body.account,
        lifetime_s=body.lifetime_s,
    )
    return IssuedToken(**issued)


@router.delete("/tokens", summary="作废一个用户的全部令牌")
async def revoke_all(
    parts: PartsDep,
    identity: IdentityDep,
    user: Annotated[
        str | None, Query(description="谁的；缺省是自己，别人的要管理员", max_length=255, pattern=r"^[^\x00]*$")
    ] = None,
) -> Revoked:
    """此刻之前签发的都不认，没有登记的（scns token 用密钥签的）也是；问的这一个也在内。"""
    found = await user_tokens.revoke_tokens_of(parts.engine, identity, user)
    parts.tokens.forget()
    return Revoked(revoked=found)


@router.delete("/tokens/{token_id}", summary="作废一个令牌", status_code=204)
async def revoke(
    token_id: Annotated[str, Path(description="令牌的号", pattern=r"^[^\x00]*$")],
    parts: PartsDep,
    identity: IdentityDep,
) -> Response:
    """一秒之内全部 API 进程都不认它；作废过的不变。"""
    await user_tokens.revoke_token(parts.engine, identity, token_id)
    parts.tokens.forget()
    return Response(status_code=204)
