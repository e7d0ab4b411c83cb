"""令牌：HS256 的 JWT，声明与 Slurm 的 auth/jwt 兼容（sun 是用户名）。

scns_admin 为真的令牌是管理员，scns_role 是别的角色；scns_scope、scns_account 是范围；jti 是登记过的令牌的号。
签发时写上 iss 与密钥的号（kid）；没有 iss 的（scontrol token 的样子）认不认由设置定，iss 是别人的总不认。
"""

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from scns_conductor.core.errors import Unauthorized
from scns_conductor.core.settings import Settings
from scns_conductor.core.signing_keys import ensure_key, key_id
from scns_conductor.core.token_words import SCOPES

ALGORITHM = "HS256"
ISSUER = "scns-conductor"
# 系统用户的名字（useradd(8)），加上目录服务的 域\\用户、用户@域。
USER_NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,253}[$]?$"
_USER_NAME = re.compile(USER_NAME_PATTERN)
# 再大的时刻 JSON 里的数已不准。
_MOST_EPOCH = 2**53


@dataclass(frozen=True, slots=True)
class Identity:
    """一个请求是谁做的：用户、角色、令牌的范围、怎样认出来的。

    角色来自令牌，或 users 表（sacctmgr 的 AdminLevel）：admin 什么都能做；operator 管记账的表、预留与别人的作业；
    auditor 什么都能看、什么也不能改；coordinates 是他作协调人的账户，连同各级下级。几种可以都有。
    scopes 是令牌的范围（SCOPES），空的是不限；account 不为空的令牌只管这个账户的作业。
    token_id 是登记过的令牌的号；method 是怎样认出来的：token 令牌、job 作业令牌、socket 本机套接字的对端凭证。
    job_id 是作业令牌的作业号：只在那个作业运行时有效，从不是管理员。
    issued_at、expires_at 是令牌的签发与到期（Unix 秒），作业令牌、套接字没有。
    """

    user_name: str
    admin: bool
    operator: bool = False
    job_id: int | None = None
    expires_at: int | None = None
    auditor: bool = False
    coordinates: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    account: str | None = None
    token_id: str | None = None
    method: str = "token"
    issued_at: int | None = None

    @property
    def privileged(self) -> bool:
        """管理员或 Operator：能动别人的作业与记账的表。"""
        return self.admin or self.operator

    @property
    def role(self) -> str:
        """给人看的角色，取最大的一个。"""
        if self.job_id is not None:
            return "job"
        if self.privileged:
            return "administrator" if self.admin else "operator"
        if self.auditor:
            return "auditor"
        return "coordinator" if self.coordinates else "user"

    def oversees(self, account: str | None) -> bool:
        """管不管这个账户里别人的东西。"""
        return self.privileged or account in self.coordinates

    def manages(self, user_name: str, account: str | None) -> bool:
        """能不能动这个用户在这个账户里的作业。"""
        within = self.account is None or account == self.account
        return within and (user_name == self.user_name or self.oversees(account))

    def sees(self, user_name: str, account: str | None) -> bool:
        """能不能看这样的作业里只给本人的：脚本、环境、输出。"""
        return self.auditor or self.manages(user_name, account)


def legal_user_name(name: str) -> bool:
    """能不能是系统用户的名字。"""
    return _USER_NAME.fullmatch(name) is not None and not name.endswith("\n")


@dataclass(frozen=True, slots=True)
class Grant:
    """要签发的令牌：给谁、什么角色、什么范围；token_id 是登记的号。"""

    user_name: str
    role: str = "user"
    scopes: Collection[str] = ()
    account: str | None = None
    token_id: str | None = None


def issue_token(settings: Settings, user_name: str, *, admin: bool = False, lifetime_s: int | None = None) -> str:
    """签发不登记的令牌；lifetime_s 是有效期（秒），缺省取设置。名字不对抛 ValueError，密钥有问题时抛 SettingsError。"""
    return sign(settings, Grant(user_name, "administrator" if admin else "user"), lifetime_s)[0]


def sign(settings: Settings, grant: Grant, lifetime_s: int | None = None) -> tuple[str, int]:
    """签发令牌，返回它与到期（Unix 秒）；抛的同 issue_token。"""
    if not legal_user_name(grant.user_name):
        raise ValueError(f"用户名 {grant.user_name[:64]!r} 不合法：只能有字母、数字与 _ . @ + -")
    now = int(time.time())
    expires = now + (settings.token_lifetime_s if lifetime_s is None else lifetime_s)
    optional = {
        "scns_role": grant.role if grant.role in ("operator", "auditor") else None,
        "scns_scope": sorted(grant.scopes) or None,
        "scns_account": grant.account,
        "jti": grant.token_id,
    }
    claims = {
        "iss": ISSUER,
        "sun": grant.user_name,
        "iat": now,
        "exp": expires,
        "scns_admin": grant.role == "administrator",
        **{name: value for name, value in optional.items() if value is not None},
    }
    key = ensure_key(settings.jwt_key_path)
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id(key)}), expires


def verify_with(keys: Mapping[str, bytes], token: str, *, require_issuer: bool = False) -> Identity:
    """用令牌写明的那把密钥（kid）核对；没有写、认不得的逐把试。抛的同 verify_token。"""
    try:
        wanted = str(jwt.get_unverified_header(token).get("kid"))
    except jwt.InvalidTokenError:
        wanted = ""
    refused: list[Unauthorized] = []
    for key in [keys[wanted]] if wanted in keys else keys.values():
        try:
            return verify_token(key, token, require_issuer=require_issuer)
        except Unauthorized as error:
            refused.append(error)
    # 签名对而过期的，比签名不对的说得清楚。
    raise min(refused, key=lambda error: error.code != "token_expired")


def verify_token(key: bytes, token: str, *, require_issuer: bool = False) -> Identity:
    """核对令牌，返回身份；过期、伪造、声明不对都抛 Unauthorized，说明怎么办。

    require_issuer 为真时没有 iss 的也不认。
    """
    try:
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], options={"require": ["exp", "iat", "sun"]})
        claims |= {name: int(claims[name]) for name in ("exp", "iat")}
    except jwt.ExpiredSignatureError as error:
        raise Unauthorized("令牌已过期；请用 scns token 重新签发", code="token_expired") from error
    except jwt.ImmatureSignatureError as error:
        raise Unauthorized(
            "令牌的签发时刻在将来：签发它的机器与 API 的时钟不一致；请对时，或重新签发", code="token_invalid"
        ) from error
    # 签名对而声明不成样子（exp 是无穷大等）时，PyJWT 抛的不都是自己的错误。
    except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError) as error:
        raise Unauthorized(
            "令牌无效；请用 scns token 签发，并写在 Authorization: Bearer 之后", code="token_invalid"
        ) from error
    if not all(0 <= claims[name] < _MOST_EPOCH for name in ("exp", "iat")):
        raise Unauthorized("令牌里的 exp 或 iat 不是 Unix 秒", code="token_invalid")
    user_name, issuer = claims["sun"], claims.get("iss")
    if not isinstance(user_name, str) or not legal_user_name(user_name):
        raise Unauthorized("令牌里的 sun 必须是系统用户的名字", code="token_invalid")
    if issuer != ISSUER and (issuer is not None or require_issuer):
        raise Unauthorized("令牌不是本系统签发的（iss）；请用 scns token 签发", code="token_invalid")
    return _identity(claims)


def claimed_user(token: str) -> str | None:
    """令牌说自己是谁，没有核对过：只写进审计。"""
    try:
        name = jwt.decode(token, options={"verify_signature": False}).get("sun")
    except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) and legal_user_name(name) else None


def _identity(claims: Mapping[str, Any]) -> Identity:
    role, scopes, account = (claims.get(name) for name in ("scns_role", "scns_scope", "scns_account"))
    scopes = [] if scopes is None else scopes
    if not (isinstance(scopes, list) and all(scope in SCOPES for scope in scopes)):
        # 看不懂的限制不能当作没有限制。
        raise Unauthorized("令牌的范围（scns_scope）认不得；API 也许太旧了", code="token_invalid")
    if account is not None and not isinstance(account, str):
        raise Unauthorized("令牌的账户（scns_account）不是文字", code="token_invalid")
    token_id = claims.get("jti")
    return Identity(
        claims["sun"],
        claims.get("scns_admin") is True,
        operator=role == "operator",
        auditor=role == "auditor",
        scopes=frozenset(scopes),
        account=account,
        token_id=token_id if isinstance(token_id, str) else None,
        issued_at=claims["iat"],
        expires_at=claims["exp"],
    )
