"""令牌与审计的端点。"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scns_conductor.client.cluster_calls import nothing
from scns_conductor.client.request import Request, many, one, plain, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import AccessToken, AuditEntry, IssuedToken


class TokenCalls:
    """登记过的令牌与审计。"""

    @many
    def tokens(self, user: str | None = None) -> "Request[AccessToken]":
        """没有到期的令牌，新的在前；user 缺省是自己，* 是全部（管理员、审计员）。"""
        return Request("GET", "/tokens", query={"user": user}, within="tokens")

    @one
    def create_token(self, wanted: Mapping[str, Any]) -> "Request[IssuedToken]":
        """签发并登记；字段见 docs/api.md。令牌只在回答里出现一次。"""
        return Request("POST", "/tokens", body=dict(wanted))

    @plain
    def revoke_token(self, token_id: str) -> "Request[None]":
        """作废一个，一秒之内全部 API 进程都不认。"""
        return Request("DELETE", f"/tokens/{segment(token_id)}", read=nothing)

    @plain
    def revoke_tokens(self, user: str | None = None) -> "Request[int]":
        """作废一个用户此刻之前的全部令牌，没有登记的也是；返回作废了几个登记过的。"""
        return Request("DELETE", "/tokens", query={"user": user}, read=lambda answer: int(answer.json()["revoked"]))

    @many
    def audit(self, /, **conditions: Any) -> "Request[AuditEntry]":
        """审计（管理员、审计员），新的在前；条件 actor、action、target、since、until、limit、before、after。"""
        return Request("GET", "/audit", query=conditions, within="audit")
