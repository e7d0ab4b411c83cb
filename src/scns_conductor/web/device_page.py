"""批准终端登录（scns login）的页。"""

import html
from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse

from scns_conductor.web.login_page import card_page, told


def code_form(assets: str, cluster: str, *, in_english: bool, error: str = "") -> HTMLResponse:
    """填终端里显示的码。"""
    words = _ENGLISH if in_english else _CHINESE
    body = f"""  <p class="login-lead">{words["lead"]}</p>
  {told(error)}
  <form method="get" action="/device">
    <label for="code">{words["code"]}</label>
    <input id="code" name="code" required autofocus maxlength="32" autocomplete="off" placeholder="XXXX-XXXX">
    <button class="button primary" type="submit">{words["next"]}</button>
  </form>"""
    status = 404 if error else 200
    return card_page(assets, cluster, body, title=words["title"], in_english=in_english, status=status)


def waiting_page(
    assets: str, cluster: str, code: str, waiting: Mapping[str, Any], user_name: str, *, in_english: bool
) -> HTMLResponse:
    """等着批准的终端：在哪台机器、从哪个地址来；对上码再批准。"""
    words = _ENGLISH if in_english else _CHINESE
    safe = html.escape(code, quote=True)
    host = html.escape(str(waiting["host"]) or "?")
    body = f"""  <p class="login-lead">{words["lead"]}</p>
  <p>{words["waiting"].format(host=f"<b>{host}</b>", address=html.escape(str(waiting["address"])))}</p>
  <p class="login-code"><code>{safe}</code></p>
  <p class="hint">{words["check"].format(user=f"<b>{html.escape(user_name)}</b>")}</p>
  <form method="post" action="/device">
    <input type="hidden" name="code" value="{safe}">
    <button class="button primary" type="submit" name="decision" value="allow">{words["allow"]}</button>
    <button class="button" type="submit" name="decision" value="deny">{words["deny"]}</button>
  </form>"""
    return card_page(assets, cluster, body, title=words["title"], in_english=in_english)


def decided_page(assets: str, cluster: str, *, allowed: bool, in_english: bool) -> HTMLResponse:
    """批准了，或拒绝了。"""
    words = _ENGLISH if in_english else _CHINESE
    body = told(notice=words["allowed" if allowed else "denied"])
    return card_page(assets, cluster, body, title=words["title"], in_english=in_english)


_CHINESE = {
    "title": "终端登录",
    "lead": "终端登录（scns login）",
    "code": "终端里显示的码",
    "next": "下一步",
    "waiting": "{host} 上的一个终端（地址 {address}）等着登录，它显示的码应当是：",
    "check": "码不一样，或不是你自己刚刚运行的，就拒绝。批准之后它能以 {user} 的身份做一切。",
    "allow": "批准",
    "deny": "拒绝",
    "allowed": "批准了；可以回终端去。",
    "denied": "拒绝了。",
}
_ENGLISH = {
    "title": "Terminal sign-in",
    "lead": "Terminal sign-in (scns login)",
    "code": "Code shown in the terminal",
    "next": "Continue",
    "waiting": "A terminal on {host} (address {address}) is waiting to sign in. It should show this code:",
    "check": "Deny it if the code differs or you did not just start it. Once approved it can do everything as {user}.",
    "allow": "Approve",
    "deny": "Deny",
    "allowed": "Approved; go back to the terminal.",
    "denied": "Denied.",
}
