"""令牌与审计。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from scns_conductor.client.answer import Answer, Convert, instant


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class AccessToken(Answer):
    """签发过的一个令牌。令牌自己不在库里，摘要也不在：凭签名核对，这里只有它的号。"""

    token_id: str
    """令牌的号"""
    user_name: str
    """谁的"""
    name: str
    """名字，给人看的"""
    role: str
    """user、operator、administrator、auditor；user 的再看用户的管理级别"""
    scopes: tuple[str, ...]
    """范围：read 只许看，submit 只许提交；空的是不限"""
    account: str | None
    """只管这个账户的作业；空的是不限"""
    created_by: str
    """谁签发的"""
    created_at: datetime
    """何时签发"""
    expires_at: datetime
    """何时到期"""
    revoked_at: datetime | None
    """何时作废；空的是没有作废"""
    revoked_by: str | None
    """谁作废的"""
    last_used_at: datetime | None
    """最近一次用是何时；一会儿记一次"""
    last_used_from: str | None
    """最近一次从哪个地址用"""

    _convert: ClassVar[Mapping[str, Convert]] = {
        "scopes": tuple,
        "created_at": instant,
        "expires_at": instant,
        "revoked_at": instant,
        "last_used_at": instant,
    }


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class IssuedToken(Answer):
    """签发的令牌。"""

    token: str
    """令牌；只在这里出现一次"""
    token_id: str
    """令牌的号，列出、作废用它"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class AuditEntry(Answer):
    """审计的一条：谁、何时、从哪里、做了什么、之前之后各是什么。只增不改，改与删由触发器拒绝。"""

    audit_id: int
    """次序"""
    at: datetime
    """何时"""
    actor: str
    """谁做的"""
    role: str
    """他当时的角色"""
    method: str
    """怎样认出来的：token、job、socket 等"""
    token_id: str | None
    """用的令牌的号；没有登记过的令牌是空的"""
    address: str | None
    """从哪个地址"""
    request_id: str | None
    """请求号（X-Request-Id）"""
    action: str
    """做了什么，如 node.update"""
    target: str
    """对什么做的，如节点名"""
    before: Mapping[str, Any] | None
    """之前"""
    after: Mapping[str, Any] | None
    """之后，或所写的改动"""

    _convert: ClassVar[Mapping[str, Convert]] = {"at": instant}
