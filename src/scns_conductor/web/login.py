"""登录页：粘贴令牌，或用一次性的链接。没有脚本，断了网也能用。"""

import html
import json
from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scns_conductor.client.problem import ClientError, Problem
from scns_conductor.web.session import COOKIE, Sessions, Visitor, new_session_id
from scns_conductor.web.upstream import Upstream

LANGUAGE_COOKIE = "scns_lang"
_MOST_TOKEN = 8192


async def visitor_of(upstream: Upstream, token: str) -> Visitor:
    """令牌是谁的，问 API；不认的抛 Problem，连不上抛 Unreachable。"""
    token = token.strip().removeprefix("Bearer ").strip()
    if not token or not token.isascii() or not token.isprintable() or len(token) > _MOST_TOKEN:
        raise Problem(401, "token_invalid", "这不是令牌；请整段粘贴 scns token 打印的那一行")
    found = json.loads(await upstream.get("/whoami", token))
    if found["expires_at"] is None:
        raise Problem(401, "token_invalid", "作业的令牌不能登录；请用 scns token 签发自己的")
    return Visitor(token, found["user_name"], found["admin"], found["operator"], found["expires_at"], new_session_id())


def english(request: Request) -> bool:
    """看的人要英文；没有选过的看浏览器的首选语言，中文为主。"""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in ("zh", "en"):
        return chosen == "en"
    wanted = request.headers.get("accept-language", "zh").lower()
    return "zh" not in wanted and wanted.startswith("en")


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
    if isinstance(error, Problem) and error.status == 401:
        return "This token is not valid, or has expired" if in_english else error.detail
    return "The API cannot be reached; try again shortly" if in_english else f"现在问不到 API：{error}；请稍后再试"


def login_page(
    assets: str, cluster: str, *, in_english: bool, next_path: str, error: str = "", notice: str = "", status: int = 200
) -> HTMLResponse:
    """登录页；assets 是样式所在的路径。"""
    words = _ENGLISH if in_english else _CHINESE
    other = ("zh", "中文") if in_english else ("en", "English")
    safe = html.escape(safe_next(next_path), quote=True)
    told = f'<p class="login-error" role="alert">{html.escape(error)}</p>' if error else ""
    told += f'<p class="login-notice" role="status">{html.escape(notice)}</p>' if notice else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="{"en" if in_english else "zh-CN"}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{words["title"]} · {html.escape(cluster)}</title>
<link rel="icon" href="{assets}/icon.svg">
<link rel="stylesheet" href="{assets}/scns.css">
<script>{THEME_SCRIPT}</script>
</head>
<body class="login-body">
<main class="login-card">
  <img src="{assets}/icon.svg" alt="" width="40" height="40">
  <h1>{html.escape(cluster)}</h1>
  <p class="login-lead">{words["lead"]}</p>
  {told}
  <form method="post" action="/login?next={safe}">
    <label for="token">{words["token"]}</label>
    <textarea id="token" name="token" rows="4" required autofocus spellcheck="false" autocomplete="off"
      aria-describedby="token-hint"></textarea>
    <p class="hint" id="token-hint">{words["hint"]} <code>scns token</code></p>
    <button class="button primary" type="submit">{words["enter"]}</button>
  </form>
  <p class="hint">{words["link"]} <code>scns web --link</code></p>
  <p class="login-language"><a href="/language/{other[0]}?next=/login">{other[1]}</a></p>
</main>
</body>
</html>""",
        status,
    )


# 画出第一帧之前定下明暗，免得闪一下。
THEME_SCRIPT = (
    "(()=>{const m=/(?:^|; )scns_theme=(dark|light)/.exec(document.cookie);"
    "const d=m?m[1]:matchMedia('(prefers-color-scheme: dark)').matches?'dark':'light';"
    "document.documentElement.dataset.theme=d})()"
)

_CHINESE = {
    "title": "登录",
    "lead": "作业调度看板",
    "token": "访问令牌",
    "hint": "粘贴这条命令打印的一行：",
    "enter": "登录",
    "link": "在集群上有终端？要一个一次性的登录链接：",
}
_ENGLISH = {
    "title": "Sign in",
    "lead": "Job scheduling dashboard",
    "token": "Access token",
    "hint": "Paste the line printed by",
    "enter": "Sign in",
    "link": "Got a terminal on the cluster? Ask for a one-time link:",
}


def _http_date(seconds: int) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
