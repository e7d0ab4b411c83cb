"""各端点共用的：应用的部件、认证。

一个请求的身份是 core.tokens.Identity（用户、角色、范围、令牌的号、怎样认出来的），identity_of 认一次，放在 scope 里。
认的次序：Authorization: Bearer 与 X-SLURM-USER-TOKEN 里的令牌；没有带令牌的，看连接的那一头（本机套接字，
由 api/peers.py 认，method="socket"）；再没有就是 401。
users 表里的管理级别（AdminLevel）与协调的账户由这里加上，不必自己查。
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from scns_conductor.api.local_socket import peer_uid
from scns_conductor.api.peers import Peers
from scns_conductor.api.request_headers import headers_of
from scns_conductor.api.roles import RULES, authorize
from scns_conductor.core.errors import InvalidRequest, Unauthorized
from scns_conductor.core.job_token import parse_job_token
from scns_conductor.core.settings import Settings
from scns_conductor.core.signing_keys import KeyRing
from scns_conductor.core.tokens import Identity, claimed_user, verify_with
from scns_conductor.services.accounting_cache import AccountingCache
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.audit import ORIGIN
from scns_conductor.services.current_rules import CurrentRules
from scns_conductor.services.dashboard import Dashboard
from scns_conductor.services.job_output import OutputReader
from scns_conductor.services.job_policy import JobPolicy
from scns_conductor.services.job_tokens import job_identity
from scns_conductor.services.live_settings import LiveSettings
from scns_conductor.services.new_job import Submitter
from scns_conductor.services.oidc_login import OidcLogin
from scns_conductor.services.password_login import PasswordLogin
from scns_conductor.services.queue_metrics import QueueMetrics
from scns_conductor.services.rate_limits import RateLimits
from scns_conductor.services.refusal_audit import RefusalAudit
from scns_conductor.services.simulations import Simulations
from scns_conductor.services.submit_desk import SubmitDesk
from scns_conductor.services.token_registry import TokenRegistry
from scns_conductor.services.utilization import Utilization

SOURCES = ("API", "CLI", "WEB")
# 核对过的令牌记这么久：同一个客户端接连发请求时不必每次都算 HMAC。过期时刻另外核对不到时也至多晚这么久。
VERIFIED_FRESH_S = 30.0
_VERIFIED_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Parts:
    """应用的部件，一个进程一份。settings 是启动时的；运行时能改的设置看 live。"""

    settings: Settings
    live: LiveSettings
    engine: AsyncEngine
    accounting: AccountingCache
    rules: CurrentRules
    submit_desk: SubmitDesk
    desk: AnswerDesk
    output: OutputReader
    dashboard: Dashboard
    utilization: Utilization
    queue_metrics: QueueMetrics
    simulations: Simulations
    tokens: TokenRegistry
    rates: RateLimits
    verifier: "Verifier"
    peers: Peers
    passwords: PasswordLogin | None
    oidc: OidcLogin | None
    refusals: RefusalAudit
    policy: JobPolicy | None = None


class Verifier:
    """核对令牌。"""

    def __init__(self, keys: KeyRing, rates: RateLimits, *, require_issuer: bool = False) -> None:
        self._keys = keys
        self._rates = rates
        self._generation = keys.generation
        self._require_issuer = require_issuer
        self._verified: dict[bytes, tuple[float, Identity]] = {}

    def verify(self, token: str) -> Identity:
        """返回身份；无效抛 Unauthorized。从那个地址来的不对的令牌太多，没有见过的先不核对，抛 TooManyRequests。"""
        keys, now = self._keys.keys(), time.monotonic()
        if self._keys.generation != self._generation:
            # 密钥换了：旧的也许不再认。
            self._generation = self._keys.generation
            self._verified.clear()
        digest = hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=16).digest()
        known = self._verified.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        address = ORIGIN.get().address
        if known is None:
            self._rates.before_unknown(address)
        try:
            identity = verify_with(keys, token, require_issuer=self._require_issuer)
        except Unauthorized as error:
            if error.code == "token_invalid":
                self._rates.failed(address)
            raise
        if len(self._verified) >= _VERIFIED_MOST:
            self._verified.clear()
        self._verified[digest] = (now + VERIFIED_FRESH_S, identity)
        return identity


async def get_parts(request: Request) -> Parts:
    """应用的部件。"""
    parts: Parts = request.app.state.parts
    return parts


_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="scns token 签发的 JWT")


# Entrance 在读请求体之前认出的身份放在 scope 的这个键下，不必再认一次。
_IDENTITY = "scns.identity"


async def identity_of(scope: Scope, parts: Parts) -> Identity:
    """这个请求的身份，一个请求只认一次；没有令牌或无效抛 Unauthorized。"""
    identity: Identity | None = scope.get(_IDENTITY)
    if identity is None:
        try:
            identity = scope[_IDENTITY] = await _identify(scope, parts)
        except Unauthorized as error:
            await _note_unidentified(scope, parts, error)
            raise
    return identity


async def _note_unidentified(scope: Scope, parts: Parts, error: Unauthorized) -> None:
    """记进审计；什么也没有带的不是试着冒充谁，不记。"""
    token = given_token(headers_of(scope))
    if token:
        owner = parse_job_token(token)
        claimed = claimed_user(token) if owner is None else f"job {owner[0]}"
        await parts.refusals.not_identified(claimed, "token" if owner is None else "job", error.code)
    elif error.code != "token_missing":
        await parts.refusals.not_identified(None, "socket", error.code)


def known_identity(scope: Scope) -> Identity | None:
    """这个请求认出来了的身份；还没有认、认不出是 None。"""
    found: Identity | None = scope.get(_IDENTITY)
    return found


async def _identify(scope: Scope, parts: Parts) -> Identity:
    """Authorization: Bearer，或 slurmrestd 的 X-SLURM-USER-TOKEN；本机套接字上没有带的，是那一头的用户。

    没有或无效抛 Unauthorized；带了就只看带的，不对也不换成那一头的用户。
    """
    headers = headers_of(scope)
    identity = await _stated(scope, headers, parts)
    wanted = headers.get("x-slurm-user-name")
    if wanted and wanted != identity.user_name:
        raise Unauthorized("X-SLURM-USER-NAME 与令牌里的用户不同", code="token_invalid")
    parts.rates.token(identity.token_id or (identity.user_name, identity.job_id, identity.issued_at))
    if identity.privileged or identity.auditor or identity.job_id is not None:
        # 写明了角色的就是那个角色；作业令牌从不提升：被攻陷的作业够不到管理员的事。
        return identity
    return await _raised(identity, parts.accounting)


async def _job_identity(parts: Parts, token: str, job_id: int, attempt: int) -> Identity:
    """核对作业令牌要查库：一个地址乱试一个作业的，也先不查。"""
    key = (ORIGIN.get().address, job_id)
    parts.rates.before_unknown(key)
    try:
        return await job_identity(parts.engine, token, job_id, attempt)
    except Unauthorized:
        parts.rates.failed(key)
        raise


async def _stated(scope: Scope, headers: Mapping[str, str], parts: Parts) -> Identity:
    uid = peer_uid(scope)
    if uid is not None and "authorization" not in headers and "x-slurm-user-token" not in headers:
        return await parts.peers.identity(uid, headers)
    token = given_token(headers)
    if not token:
        raise Unauthorized(
            "需要令牌：请求头写 Authorization: Bearer <令牌>，令牌用 scns token 签发", code="token_missing"
        )
    owner = parse_job_token(token)
    if owner is not None:
        return await _job_identity(parts, token, *owner)
    identity = parts.verifier.verify(token)
    await parts.tokens.require_live(identity)
    return identity


def given_token(headers: Mapping[str, str]) -> str:
    """请求带的令牌，没有核对过；没有带是空的。"""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        token = headers.get("x-slurm-user-token", "")
    return token.strip()


async def _raised(identity: Identity, accounting: AccountingCache) -> Identity:
    """sacctmgr 给的管理级别与协调的账户；令牌本来就是管理员的不必看。"""
    found = await accounting.get()
    level, coordinates = found.admin_levels.get(identity.user_name, "None"), found.coordinated.get(identity.user_name)
    if level == "None" and coordinates is None:
        return identity
    return replace(
        identity,
        admin=level == "Administrator",
        operator=identity.operator or level in ("Operator", "Administrator"),
        auditor=identity.auditor or level == "Auditor",
        coordinates=coordinates or frozenset(),
    )


def submitter_of(identity: Identity, source: str | None) -> Submitter:
    """谁、从哪里提交；source 是 X-SCNS-Source，不认识的抛 InvalidRequest。"""
    if source is not None and source not in SOURCES:
        raise InvalidRequest("X-SCNS-Source", f"只能是 {'、'.join(SOURCES)}")
    return Submitter(identity, source or "API")


async def get_identity(
    request: Request, _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
) -> Identity:
    """这个请求的身份。"""
    return await identity_of(request.scope, request.app.state.parts)


async def get_submitter(
    identity: Annotated[Identity, Depends(get_identity)],
    source: Annotated[
        str | None,
        Header(alias="X-SCNS-Source", description="来源：API、CLI、WEB", json_schema_extra={"enum": list(SOURCES)}),
    ] = None,
) -> Submitter:
    """谁、从哪里提交。"""
    return submitter_of(identity, source)


async def authorized(request: Request) -> None:
    """每个端点的门：照 api.roles 的表，用不了的抛 Forbidden；不要令牌的不认身份。"""
    path = request.scope["route"].path
    if not RULES[request.method, path].is_open:
        authorize(request.method, path, await identity_of(request.scope, request.app.state.parts))


IdentityDep = Annotated[Identity, Depends(get_identity)]
PartsDep = Annotated[Parts, Depends(get_parts)]
SubmitterDep = Annotated[Submitter, Depends(get_submitter)]
