"""登录、我是谁。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from scns_conductor.client.answer import Answer, Convert


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class WhoAmI(Answer):
    """令牌的身份。"""

    user_name: str
    """用户名"""
    admin: bool
    """是不是管理员（令牌，或 sacctmgr 的 AdminLevel）"""
    operator: bool
    """是不是 Operator：管记账、预留与别人的作业"""
    role: str
    """job、user、coordinator、auditor、operator、administrator，取最大的"""
    coordinates: tuple[str, ...]
    """作协调人的账户，连同各级下级"""
    scopes: tuple[str, ...]
    """令牌的范围：read、submit；空的是不限"""
    account: str | None
    """令牌只管这个账户的作业；null 是不限"""
    method: str
    """怎样认出来的：token、job、socket 等"""
    token_id: str | None
    """登记过的令牌的号"""
    job_id: str | None
    """作业令牌的作业号；别的令牌是 null"""
    expires_at: int | None
    """令牌的到期（Unix 秒）；作业令牌、本机套接字的是 null"""

    _convert: ClassVar[Mapping[str, Convert]] = {"coordinates": tuple, "scopes": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class LoginMethods(Answer):
    """这个系统能怎样登录。"""

    password: bool
    """系统的用户与口令（PAM）"""
    oidc: str | None
    """单点登录（OIDC）的按钮上的字；没有开是 null"""
    device: bool
    """终端里登录，在看板里批准（scns login）"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class LoggedIn(Answer):
    """登录得到的。"""

    token: str
    """令牌；之后的请求写在 Authorization: Bearer 之后"""
    user_name: str
    """系统的用户名"""
    expires_at: int
    """令牌的到期（Unix 秒）"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class DeviceBegun(Answer):
    """终端拿着的。"""

    device_code: str
    """只给终端，来问有没有结果"""
    user_code: str
    """给人看，在批准的页上对"""
    verification_url: str
    """批准的页"""
    verification_url_complete: str
    """批准的页，码已填好"""
    expires_in: int
    """多久之后过期（秒）"""
    interval: int
    """至少隔多久问一次（秒）"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class DeviceAnswer(Answer):
    """有没有结果；还在等时别的是 null。"""

    status: str
    """还在等、批准了"""
    token: str | None
    """令牌"""
    user_name: str | None
    """谁批准的"""
    expires_at: int | None
    """令牌的到期（Unix 秒）"""
