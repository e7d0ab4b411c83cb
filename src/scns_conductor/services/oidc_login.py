"""OIDC 登录：授权码 + PKCE。去认证之前给一个签了名的 flow，回来时凭它与 state 换，服务器上不存什么。"""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import pwd
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt
import structlog

from scns_conductor.core.errors import Forbidden, ServiceUnavailable, SettingsError, Unauthorized
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import legal_user_name

if TYPE_CHECKING:
    from authlib.integrations.httpx_client import AsyncOAuth2Client

CALLBACK = "/login/oidc/callback"
FLOW_S = 600
# 问认证的服务至多等多久；它的说明多久再取一次；不认识的密钥至少隔多久再取（秒）。
ASK_S = 10.0
METADATA_FRESH_S = 3600.0
KEYS_AGAIN_S = 30.0
# 两边的钟至多差这么多（秒）。
LEEWAY_S = 60
_PURPOSE = "oidc-flow"
# 只认公钥的算法：HS256 的密钥是客户端的口令，none 没有签名。
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Flow:
    """去认证：浏览器去 url；flow 留在浏览器的 cookie 里，回来时要。"""

    url: str
    flow: str


class OidcLogin:
    """一个 API 进程一个；settings.oidc_issuer 有值才用。keys 给出此刻认的签名密钥，现行的在前。"""

    def __init__(self, settings: Settings, keys: Callable[[], Mapping[str, bytes]]) -> None:
        """没有装要的库、设置不全抛 SettingsError。"""
        if importlib.util.find_spec("authlib") is None or importlib.util.find_spec("httpx") is None:
            raise SettingsError("设了 oidc_issuer，却没有装要的库；请执行 pip install 'scns-conductor[oidc]'")
        if not settings.oidc_client_id or not settings.web_url:
            raise SettingsError(
                "OIDC 登录还要 oidc_client_id（在认证的服务那里登记的）与 web_url（看板给浏览器的地址）"
            )
        self._settings = settings
        self._issuer = (settings.oidc_issuer or "").rstrip("/")
        if not _protected(self._issuer):
            raise SettingsError(f"oidc_issuer 要是 https:// 的地址（本机的可以是 http）：{self._issuer}")
        self._redirect = settings.web_url.rstrip("/") + CALLBACK
        self._signing_keys = keys
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, dict[str, Any]] | None = None
        self._fetching = asyncio.Lock()

    async def begin(self) -> Flow:
        """开始；问不到认证的服务抛 ServiceUnavailable。"""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        metadata = await self._known_metadata()
        async with self._client() as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        claims = {
            "aud": _PURPOSE, "exp": int(time.time()) + FLOW_S, "state": state, "nonce": nonce, "verifier": verifier,
        }  # fmt: skip
        return Flow(url, jwt.encode(claims, self._flow_keys()[0], algorithm="HS256"))

    async def finish(self, flow: str, state: str, code: str) -> str:
        """回来了：换得 ID 令牌，核对，返回系统的用户名。

        flow 不对、过期、不是这个浏览器的，或认证的服务不认抛 Unauthorized；没有对应的用户抛 Forbidden；
        问不到抛 ServiceUnavailable。
        """
        begun = self._begun(flow, state)
        token = await self._exchanged(code, begun["verifier"])
        claims = await self.verified(str(token.get("id_token") or ""), begun["nonce"], token.get("access_token"))
        return await self._user(claims)

    def _begun(self, flow: str, state: str) -> dict[str, Any]:
        for key in self._flow_keys():
            with contextlib.suppress(jwt.InvalidTokenError, ValueError, KeyError):
                begun: dict[str, Any] = jwt.decode(flow, key, algorithms=["HS256"], audience=_PURPOSE)
                if secrets.compare_digest(begun["state"].encode(), state.encode()):
                    return begun
        raise Unauthorized("登录不是从这个浏览器开始的，或隔得太久；请从登录页再来一次", code="oidc_flow_invalid")

    def _flow_keys(self) -> list[bytes]:
        """由签名密钥得来，另有用处：flow 当不了令牌，令牌也当不了 flow。"""
        return [hashlib.blake2b(key, person=b"scns-oidc-flow").digest() for key in self._signing_keys().values()]

    async def _exchanged(self, code: str, verifier: str) -> Mapping[str, Any]:
        import httpx
        from authlib.common.errors import AuthlibBaseError

        metadata = await self._known_metadata()
        try:
            async with self._client() as client:
                found: Mapping[str, Any] = await client.fetch_token(
                    metadata["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=verifier
                )
        except AuthlibBaseError as error:
            logger.warning("oidc_refused", error=error.error)
            raise Unauthorized("认证的服务不认这次登录；请从登录页再来一次", code="oidc_refused") from error
        except (httpx.HTTPError, ValueError) as error:
            raise _unreachable(error) from error
        return found

    async def verified(self, id_token: str, nonce: str, access_token: str | None = None) -> Mapping[str, Any]:
        """核对过的声明：签名、签发者、受众是我们、没有过期、nonce 是这一次的；不对抛 Unauthorized。"""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt as signed
        from joserfc.errors import InvalidKeyIdError, JoseError
        from joserfc.jwk import KeySet
        from joserfc.jws import JWSRegistry

        registry = JWSRegistry(algorithms=_ALGORITHMS, strict_check_header=False)
        client_id = self._settings.oidc_client_id
        try:
            try:
                token = signed.decode(id_token, KeySet.import_key_set(await self._known_keys()), registry=registry)
            except InvalidKeyIdError:
                # 那边换了密钥。
                keys = await self._known_keys(again=True)
                token = signed.decode(id_token, KeySet.import_key_set(keys), registry=registry)
            options = {
                "iss": {"essential": True, "value": self._own_issuer()},
                "aud": {"essential": True, "value": client_id},
            }
            params = {"nonce": nonce, "client_id": client_id, "access_token": access_token}
            claims = CodeIDToken(token.claims, token.header, options, params)
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            logger.warning("oidc_token_invalid", error=type(error).__name__, why=str(error)[:200])
            raise Unauthorized("认证的服务给的令牌不对；请从登录页再来一次", code="oidc_token_invalid") from error
        return dict(claims)

    async def _user(self, claims: Mapping[str, Any]) -> str:
        name = mapped_user(self._settings, claims)
        account = None if name is None else await asyncio.to_thread(_account, name)
        if account is None or (account.pw_uid == 0 and not self._settings.login_root):
            logger.warning("oidc_user_unknown", subject=str(claims.get("sub"))[:200], user=name)
            raise Forbidden("你的账号在集群上没有对应的用户；请找管理员", code="oidc_user_unknown")
        if self._settings.single_user and account.pw_uid != os.geteuid():
            raise Forbidden("单用户模式只有启动它的用户能登录：作业都以他的身份运行", code="login_refused")
        return account.pw_name

    # ---- 认证的服务 ----

    def _client(self) -> "AsyncOAuth2Client":
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        secret = self._settings.oidc_client_secret
        return AsyncOAuth2Client(
            self._settings.oidc_client_id,
            None if secret is None else secret.get_secret_value(),
            scope=self._settings.oidc_scope,
            redirect_uri=self._redirect,
            code_challenge_method="S256",
            timeout=ASK_S,
        )

    def _own_issuer(self) -> str:
        assert self._metadata is not None
        return str(self._metadata[1]["issuer"])

    async def _known_metadata(self) -> dict[str, Any]:
        async with self._fetching:
            now = time.monotonic()
            if self._metadata is None or now - self._metadata[0] > METADATA_FRESH_S:
                found = await _fetched(f"{self._issuer}/.well-known/openid-configuration")
                places = [found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
                if str(found.get("issuer")).rstrip("/") != self._issuer or not all(map(_protected, places)):
                    raise ServiceUnavailable("认证的服务的说明不对（issuer 或地址）；请找管理员", code="oidc_unusable")
                self._metadata = (now, found)
            return self._metadata[1]

    async def _known_keys(self, *, again: bool = False) -> Any:
        metadata = await self._known_metadata()
        async with self._fetching:
            now = time.monotonic()
            age = None if self._keys is None else now - self._keys[0]
            if age is None or age > METADATA_FRESH_S or (again and age > KEYS_AGAIN_S):
                self._keys = (now, await _fetched(metadata["jwks_uri"]))
            assert self._keys is not None
            return self._keys[1]


def mapped_user(settings: Settings, claims: Mapping[str, Any]) -> str | None:
    """声明 → 系统的用户名；没有对应的是 None。先看 oidc_user_map，再去掉 oidc_domain。"""
    value = claims.get(settings.oidc_user_claim)
    if not isinstance(value, str) or not value:
        return None
    if settings.oidc_user_claim == "email" and claims.get("email_verified") is False:
        return None
    name = settings.oidc_user_map.get(value, value)
    if value not in settings.oidc_user_map and settings.oidc_domain:
        name, _, domain = value.rpartition("@")
        if domain.lower() != settings.oidc_domain.lower():
            return None
    return name if legal_user_name(name) else None


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


async def _fetched(url: str) -> dict[str, Any]:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=ASK_S) as client:
            answer = await client.get(url)
            answer.raise_for_status()
            found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _unreachable(error) from error
    if not isinstance(found, dict):
        raise _unreachable(TypeError("不是 JSON 的对象"))
    return found


def _unreachable(error: Exception) -> ServiceUnavailable:
    logger.warning("oidc_unreachable", error=type(error).__name__, why=str(error)[:200])
    return ServiceUnavailable("现在问不到认证的服务；请稍后再试", code="oidc_unreachable", retry_after_s=5)


def _protected(url: Any) -> bool:
    """https，或本机的 http。"""
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and (
            parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
        )
    except ValueError:
        return False
