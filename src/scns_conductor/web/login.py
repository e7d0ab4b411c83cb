"""登录：令牌、用户与口令、单点登录、一次性的链接；都换成浏览器里的会话。"""

import json
from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from scns_conductor.client.problem import ClientError, Problem
from scns_conductor.web.login_page import Methods
from scns_conductor.web.session import COOKIE, Sessions, Visitor, new_session_id
from scns_conductor.web.upstream import Upstream

LANGUAGE_COOKIE = "scns_lang"
_MOST_TOKEN = 8192
# 令牌的三种不行，登录页一句话就够。
_TOKEN_CODES = ("token_invalid", "token_expired", "token_missing")


async def visitor_of(upstream: Upstream, token: str) -> Visitor:
    """令牌是谁的，问 API；不认的抛 Problem，连不上抛 Unreachable。"""
    token = token.strip().removeprefix("Bearer ").strip()
    if not token or not token.isascii() or not token.isprintable() or len(token) > _MOST_TOKEN:
        raise Problem(401, "token_invalid", "这不是令牌；请整段粘贴 scns token 打印的那一行")
    found = json.loads(await upstream.get("/whoami", token))
    if found["expires_at"] is None:
        raise Problem(401, "token_invalid", "作业的令牌不能登录；请用 scns token 签发自己的")
    return Visitor(
        token, found["user_name"], found["admin"], found["operator"], found["expires_at"], new_session_id(),
        found["role"] == "auditor",
    )  # fmt: skip


def english(request: Request) -> bool:
    """看的人要英文；没有选过的看浏览器的首选语言，中文为主。"""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in ("zh", "en"):
        return chosen == "en"
    wanted = request.headers.get("accept-language", "zh").lower()
    return "zh" not in wanted and wanted.startswith("en")


def language_of(request: Request) -> str:
    """看的人的语言：zh 或 en。"""
    return "en" if english(request) else "zh"


def safe_next(text: str | None) -> str:
    """登录之后去哪里：只能是本站的路径。"""
    parts = urlsplit(text or "/")
    inside = not parts.scheme and not parts.netloc and (text or "/").startswith("/") and "\\" not in (text or "")
    return text if text and inside and not text.startswith("//") else "/"


def signed_in(request: Request, sessions: Sessions, visitor: Visitor, next_path: str) -> Response:
    """写下会话，去要去的页。"""
    answer = RedirectResponse(safe_next(next_path), 303)
    answer.set_cookie(
        COOKIE,
        sessions.sign(visitor),
        expires=_http_date(visitor.expires_at),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


def signed_out() -> Response:
    """删掉会话，回到登录页。"""
    answer = RedirectResponse("/login?out=1", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def from_here(request: Request) -> bool:
    """表单是本站的页面发的，不是别的网站。"""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def error_text(error: ClientError, *, in_english: bool) -> str:
    """登录没有成功的原因，给人看。"""
    if isinstance(error, Problem) and error.status < 500 and error.code not in _TOKEN_CODES:
        # 服务器已经用看的人的语言说了。
        return error.detail
    if isinstance(error, Problem) and error.status == 401:
        return "This token is not valid, or has expired" if in_english else error.detail
    return "The API cannot be reached; try again shortly" if in_english else f"现在问不到 API：{error}；请稍后再试"


async def password_token(upstream: Upstream, request: Request, user_name: str, password: str) -> str:
    """用户与口令换令牌；不对抛 Problem，连不上抛 Unreachable。"""
    language = language_of(request)
    body = {"user_name": user_name.strip(), "password": password}
    return str((await upstream.post("/auth/login", body, address=address_of(request), language=language))["token"])


async def methods_of(upstream: Upstream) -> Methods:
    """API 能怎样登录；问不到就只有令牌。"""
    try:
        found = json.loads(await upstream.get("/auth/methods", ""))
        return Methods(bool(found["password"]), found["oidc"])
    except (ClientError, ValueError, KeyError):
        return Methods(False, None)


def address_of(request: Request) -> str:
    """浏览器的地址。"""
    return request.client.host if request.client else ""


def _http_date(seconds: int) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
