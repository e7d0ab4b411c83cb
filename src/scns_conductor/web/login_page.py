"""登录页与批准页的 HTML。没有脚本，断了网也能用。"""

import html
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import HTMLResponse


@dataclass(frozen=True, slots=True)
class Methods:
    """令牌之外还能怎样登录；oidc 是那个按钮的字。"""

    password: bool
    oidc: str | None


def card_page(assets: str, cluster: str, body: str, *, title: str, in_english: bool, status: int = 200) -> HTMLResponse:
    """中间一张卡片的一页；assets 是样式所在的路径，body 是 HTML。"""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="{"en" if in_english else "zh-CN"}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · {html.escape(cluster)}</title>
<link rel="icon" href="{assets}/icon.svg">
<link rel="stylesheet" href="{assets}/scns.css">
<script>{THEME_SCRIPT}</script>
</head>
<body class="login-body">
<main class="login-card">
  <img src="{assets}/icon.svg" alt="" width="40" height="40">
  <h1>{html.escape(cluster)}</h1>
{body}
</main>
</body>
</html>""",
        status,
    )


def login_page(
    assets: str,
    cluster: str,
    methods: Methods,
    *,
    in_english: bool,
    next_path: str,
    error: str = "",
    notice: str = "",
    status: int = 200,
) -> HTMLResponse:
    """登录页；next_path 是登录之后去的本站的路径。"""
    words = _ENGLISH if in_english else _CHINESE
    other = ("zh", "中文", "zh-CN") if in_english else ("en", "English", "en")
    action = html.escape(f"/login?next={quote(next_path, safe='/')}", quote=True)
    token = _token_form(words, action, alone=not methods.password and methods.oidc is None)
    body = f"""  <p class="login-lead">{words["lead"]}</p>
  {told(error, notice)}
{_password_form(words, action) if methods.password else ""}
{_oidc_link(methods.oidc, next_path) if methods.oidc is not None else ""}
{token}
  <p class="hint">{words["link"]} <code>scns web --link</code></p>
  <p class="login-language"><a href="/language/{other[0]}?next=/login" lang="{other[2]}">{other[1]}</a></p>"""
    return card_page(assets, cluster, body, title=words["title"], in_english=in_english, status=status)


def told(error: str = "", notice: str = "") -> str:
    """出错的一句、告知的一句。"""
    lines = f'<p class="login-error" role="alert">{html.escape(error)}</p>' if error else ""
    return lines + (f'<p class="login-notice" role="status">{html.escape(notice)}</p>' if notice else "")


def _password_form(words: dict[str, str], action: str) -> str:
    return f"""  <form method="post" action="{action}">
    <label for="user">{words["user"]}</label>
    <input id="user" name="user" required autofocus maxlength="254" spellcheck="false" autocapitalize="none"
      autocomplete="username">
    <label for="password">{words["password"]}</label>
    <input id="password" name="password" type="password" required maxlength="1024" autocomplete="current-password">
    <button class="button primary" type="submit">{words["enter"]}</button>
  </form>"""


def _oidc_link(name: str, next_path: str) -> str:
    there = html.escape(f"/login/oidc?next={quote(next_path, safe='/')}", quote=True)
    return f'  <a class="button login-oidc" href="{there}">{html.escape(name)}</a>'


def _token_form(words: dict[str, str], action: str, *, alone: bool) -> str:
    form = f"""  <form method="post" action="{action}">
    <label for="token">{words["token"]}</label>
    <textarea id="token" name="token" rows="4" required {"autofocus " if alone else ""}spellcheck="false"
      autocomplete="off" aria-describedby="token-hint"></textarea>
    <p class="hint" id="token-hint">{words["hint"]} <code>scns token</code></p>
    <button class="button{" primary" if alone else ""}" type="submit">{words["enter_token"]}</button>
  </form>"""
    return form if alone else f"  <details><summary>{words['by_token']}</summary>\n{form}\n  </details>"


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
    "enter_token": "登录",
    "by_token": "用令牌登录",
    "user": "用户名",
    "password": "口令",
    "link": "在集群上有终端？要一个一次性的登录链接：",
}
_ENGLISH = {
    "title": "Sign in",
    "lead": "Job scheduling dashboard",
    "token": "Access token",
    "hint": "Paste the line printed by",
    "enter": "Sign in",
    "enter_token": "Sign in",
    "by_token": "Use a token",
    "user": "User name",
    "password": "Password",
    "link": "Got a terminal on the cluster? Ask for a one-time link:",
}
