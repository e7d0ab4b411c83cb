"""登录：不带令牌的人证明自己是谁，换一个令牌。"""

import time
from datetime import datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import Path, Request
from pydantic import BaseModel, Field, SecretStr, field_validator

from scns_conductor.api.client_address import client_address
from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import Forbidden, NotFound, Unauthorized
from scns_conductor.core.text import is_text
from scns_conductor.core.tokens import Identity
from scns_conductor.services.device_login import (
    INTERVAL_S,
    LIFETIME_S,
    approved_user,
    begin_device,
    decide_device,
    waiting_device,
)
from scns_conductor.services.oidc_login import OidcLogin
from scns_conductor.services.user_tokens import issue_user_token

router = SegmentRouter(prefix="/auth", tags=["登录"])
logger = structlog.get_logger(__name__)


class LoginMethods(BaseModel):
    """这个系统能怎样登录。"""

    password: bool = Field(description="系统的用户与口令（PAM）")
    oidc: str | None = Field(description="单点登录（OIDC）的按钮上的字；没有开是 null")
    device: bool = Field(description="终端里登录，在看板里批准（scns login）")


class PasswordRequest(BaseModel, extra="forbid"):
    """用户与口令。"""

    user_name: Annotated[str, Field(min_length=1, max_length=254, description="系统的用户名")]
    password: Annotated[SecretStr, Field(min_length=1, max_length=1024, description="口令；不留、不记日志")]
    lifetime_s: int | None = Field(
        None, ge=60, le=366 * 86400, description="令牌要用多久（秒），至多 SCNS_LOGIN_LIFETIME_S，缺省就是它"
    )

    @field_validator("user_name", "password", mode="before")
    @classmethod
    def _c_string(cls, value: Any) -> Any:
        if isinstance(value, str) and ("\0" in value or not is_text(value)):
            raise ValueError("不能有 NUL，要是 UTF-8 的文字")
        return value


class LoggedIn(BaseModel):
    """登录得到的。"""

    token: str = Field(description="令牌；之后的请求写在 Authorization: Bearer 之后")
    user_name: str = Field(description="系统的用户名")
    expires_at: int = Field(description="令牌的到期（Unix 秒）")


class OidcBegun(BaseModel):
    """去认证。"""

    authorization_url: str = Field(description="浏览器去这里")
    flow: str = Field(description="回来时要的；留在浏览器的 cookie 里，10 分钟有效")


class OidcReturn(BaseModel, extra="forbid"):
    """从认证的服务回来。"""

    flow: str = Field(min_length=1, max_length=4096, description="开始时给的")
    state: str = Field(min_length=1, max_length=512, description="回来的地址里的 state")
    code: str = Field(min_length=1, max_length=4096, description="回来的地址里的 code")


class DeviceRequest(BaseModel, extra="forbid"):
    """一个要登录的终端。"""

    host: str = Field("", max_length=253, pattern=r"^[A-Za-z0-9._-]*$", description="在哪台机器上，给批准的人看")


class DeviceBegun(BaseModel):
    """终端拿着的。"""

    device_code: str = Field(description="只给终端，来问有没有结果")
    user_code: str = Field(description="给人看，在批准的页上对")
    verification_url: str = Field(description="批准的页")
    verification_url_complete: str = Field(description="批准的页，码已填好")
    expires_in: int = Field(description="多久之后过期（秒）")
    interval: int = Field(description="至少隔多久问一次（秒）")


class DeviceToken(BaseModel, extra="forbid"):
    """终端来问。"""

    device_code: str = Field(min_length=1, max_length=128, description="开始时给的")


class DeviceAnswer(BaseModel):
    """有没有结果；还在等时别的是 null。"""

    status: Literal["pending", "approved"] = Field(description="还在等、批准了")
    token: str | None = Field(None, description="令牌")
    user_name: str | None = Field(None, description="谁批准的")
    expires_at: int | None = Field(None, description="令牌的到期（Unix 秒）")


class DeviceShown(BaseModel):
    """等着批准的终端。"""

    host: str = Field(description="它说自己在哪台机器上")
    address: str = Field(description="它的地址")
    created_at: datetime = Field(description="何时开始")
    expires_at: datetime = Field(description="何时过期")


class DeviceDecision(BaseModel, extra="forbid"):
    """批准，还是拒绝。"""

    allow: bool = Field(description="批准：终端得到你的令牌")


UserCode = Annotated[str, Path(max_length=32, description="终端里显示的码")]


@router.get("/methods", summary="能怎样登录")
async def login_methods(parts: PartsDep) -> LoginMethods:
    """不要令牌。"""
    oidc = None if parts.oidc is None else parts.settings.oidc_name
    return LoginMethods(password=parts.passwords is not None, oidc=oidc, device=parts.settings.web_url is not None)


@router.post("/login", summary="用户与口令换令牌")
async def log_in(body: PasswordRequest, request: Request, parts: PartsDep) -> LoggedIn:
    """不要令牌；口令由系统的 PAM 核对。失败得多了要等（429，Retry-After）。"""
    if parts.passwords is None:
        raise NotFound("这个系统没有开用户与口令的登录（SCNS_PAM_SERVICE）", code="password_login_off")
    address = client_address(request.scope)

    async def failed(user_name: str, reason: str) -> None:
        await parts.refusals.login_failed("password", user_name, reason)

    user_name = await parts.passwords.user(body.user_name, body.password.get_secret_value(), address, failed)
    return await logged_in(parts, user_name, "password", address, body.lifetime_s)


async def logged_in(parts: Parts, user_name: str, method: str, address: str, lifetime_s: int | None = None) -> LoggedIn:
    """认出是谁之后：签发并登记令牌（列得出、收得回，审计里有），记一行日志。"""
    most = parts.settings.login_lifetime_s
    lifetime = most if lifetime_s is None else min(lifetime_s, most)
    expires_at = int(time.time()) + lifetime
    issued = await issue_user_token(
        parts.engine, parts.settings, Identity(user_name, False, method=method), name=f"login: {method}",
        lifetime_s=lifetime,
    )  # fmt: skip
    logger.info("login", method=method, user=user_name, address=address)
    return LoggedIn(token=issued["token"], user_name=user_name, expires_at=expires_at)


@router.post("/oidc", summary="开始单点登录")
async def begin_oidc(parts: PartsDep) -> OidcBegun:
    """不要令牌。"""
    found = await _oidc(parts).begin()
    return OidcBegun(authorization_url=found.url, flow=found.flow)


@router.post("/oidc/finish", summary="单点登录回来换令牌")
async def finish_oidc(body: OidcReturn, request: Request, parts: PartsDep) -> LoggedIn:
    """不要令牌；state、nonce、PKCE、受众都核对。"""
    try:
        user_name = await _oidc(parts).finish(body.flow, body.state, body.code)
    except (Unauthorized, Forbidden) as error:
        # 认证的服务说他是谁，不可信、不认得，才到这里。
        await parts.refusals.login_failed("oidc", "(unknown)", error.code)
        raise
    return await logged_in(parts, user_name, "oidc", client_address(request.scope))


def _oidc(parts: Parts) -> OidcLogin:
    if parts.oidc is None:
        raise NotFound("这个系统没有开单点登录（SCNS_OIDC_ISSUER）", code="oidc_login_off")
    return parts.oidc


@router.post("/device", summary="终端里登录：开始")
async def begin_device_login(body: DeviceRequest, request: Request, parts: PartsDep) -> DeviceBegun:
    """不要令牌；人在看板的批准页上对码、批准。"""
    if parts.settings.web_url is None:
        raise NotFound("这个系统没有设 SCNS_WEB_URL（看板的地址），不能这样登录", code="device_login_off")
    codes = await begin_device(parts.engine, body.host, client_address(request.scope))
    page = parts.settings.web_url.rstrip("/") + "/device"
    return DeviceBegun(
        device_code=codes.device_code,
        user_code=codes.user_code,
        verification_url=page,
        verification_url_complete=f"{page}?code={codes.user_code}",
        expires_in=LIFETIME_S,
        interval=INTERVAL_S,
    )


@router.post("/device/token", summary="终端里登录：有没有批准")
async def device_token(body: DeviceToken, request: Request, parts: PartsDep) -> DeviceAnswer:
    """不要令牌；批准了就给，只给一次。"""
    user_name = await approved_user(parts.engine, body.device_code)
    if user_name is None:
        return DeviceAnswer(status="pending")
    found = await logged_in(parts, user_name, "device", client_address(request.scope))
    return DeviceAnswer(status="approved", **found.model_dump())


@router.get("/device/{user_code}", summary="等着批准的终端")
async def show_device(user_code: UserCode, parts: PartsDep, _identity: IdentityDep) -> DeviceShown:
    """批准之前看清是谁在等。"""
    return DeviceShown.model_validate(await waiting_device(parts.engine, user_code), from_attributes=True)


@router.post("/device/{user_code}", summary="批准或拒绝一个终端")
async def decide(user_code: UserCode, body: DeviceDecision, parts: PartsDep, identity: IdentityDep) -> DeviceShown:
    """批准之后，那个终端得到你的令牌。"""
    return DeviceShown.model_validate(
        await decide_device(parts.engine, identity, user_code, allow=body.allow), from_attributes=True
    )
