"""登录、退出、批准终端的路由。"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from scns_conductor.client.problem import ClientError, Problem
from scns_conductor.web import login
from scns_conductor.web.device_page import code_form, decided_page, waiting_page
from scns_conductor.web.login_links import redeem
from scns_conductor.web.login_page import login_page
from scns_conductor.web.relay import problem
from scns_conductor.web.session import COOKIE, Sessions
from scns_conductor.web.upstream import Upstream

# 去认证的路上：签了名的 flow 与登录之后去哪里。回来是别的网站转来的，Strict 的 cookie 那时不带。
OIDC_COOKIE = "scns_oidc"
OIDC_PATH = "/login/oidc"
_OIDC_S = 600


@dataclass(frozen=True, slots=True)
class LoginRoutes:
    """assets 是样式所在的路径；data_dir 下放一次性的登录链接。"""

    sessions: Sessions
    upstream: Upstream
    assets: str
    cluster: str
    data_dir: Path

    def add_to(self, app: FastAPI) -> None:
        """装上。"""
        app.get("/login")(self.show)
        app.post("/login")(self.sign_in)
        app.get("/login/once/{code}")(self.sign_in_once)
        app.get(OIDC_PATH)(self.go_to_oidc)
        app.get(OIDC_PATH + "/callback")(self.back_from_oidc)
        app.post("/logout")(self.sign_out)
        app.get("/device")(self.show_device)
        app.post("/device")(self.decide_device)

    async def _page(self, request: Request, next_path: str | None, error: str = "", notice: str = "") -> Response:
        return login_page(
            self.assets, self.cluster, await login.methods_of(self.upstream),
            in_english=login.english(request), next_path=login.safe_next(next_path), error=error, notice=notice,
            status=401 if error else 200,
        )  # fmt: skip

    # ---- 登录页 ----

    async def show(self, request: Request) -> Response:
        """登录页。"""
        notice = ""
        if "out" in request.query_params:
            notice = "You have signed out" if login.english(request) else "已退出登录"
        return await self._page(request, request.query_params.get("next"), notice=notice)

    async def sign_in(self, request: Request) -> Response:
        """令牌，或用户与口令。"""
        if not login.from_here(request):
            return problem(403, "cross_site", "登录的表单不是本站的", login.language_of(request))
        next_path = request.query_params.get("next")
        form = await request.form(max_fields=4)
        try:
            if "user" in form:
                user, password = str(form["user"]), str(form.get("password", ""))
                token = await login.password_token(self.upstream, request, user, password)
            else:
                token = str(form.get("token", ""))
            return await self._signed_in(request, token, next_path)
        except ClientError as error:
            return await self._page(request, next_path, login.error_text(error, in_english=login.english(request)))

    async def sign_in_once(self, code: str, request: Request) -> Response:
        """一次性的链接。"""
        en = login.english(request)
        token = redeem(self.data_dir, code)
        error = (
            "This link has been used or has expired" if en else "这个链接用过了，或已过期；再要一个：scns web --link"
        )
        if token is not None:
            try:
                return await self._signed_in(request, token, "/")
            except ClientError as refused:
                error = login.error_text(refused, in_english=en)
        return await self._page(request, "/", error)

    async def _signed_in(self, request: Request, token: str, next_path: str | None) -> Response:
        visitor = await login.visitor_of(self.upstream, token)
        return login.signed_in(request, self.sessions, visitor, next_path or "/")

    async def sign_out(self, request: Request) -> Response:
        """退出。"""
        if login.from_here(request):
            return login.signed_out()
        return problem(403, "cross_site", "不是本站的请求", login.language_of(request))

    # ---- 单点登录 ----

    async def go_to_oidc(self, request: Request) -> Response:
        """去认证的服务。"""
        next_path = login.safe_next(request.query_params.get("next"))
        try:
            found = await self.upstream.post("/auth/oidc", None, language=login.language_of(request))
        except ClientError as error:
            return await self._page(request, next_path, login.error_text(error, in_english=login.english(request)))
        answer = RedirectResponse(str(found["authorization_url"]), 303)
        answer.set_cookie(
            OIDC_COOKIE, f"{found['flow']}~{quote(next_path, safe='')}",
            max_age=_OIDC_S, path=OIDC_PATH, httponly=True, samesite="lax", secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    async def back_from_oidc(self, request: Request) -> Response:
        """从认证的服务回来。"""
        flow, _, next_path = request.cookies.get(OIDC_COOKIE, "").partition("~")
        en, given = login.english(request), request.query_params
        answer: Response
        try:
            if "error" in given:
                told = "The sign-in was not completed" if en else "没有登录成：认证的服务拒绝了，或你取消了"
                raise Problem(403, "oidc_denied", told)
            body = {"flow": flow or "-", "state": given.get("state") or "-", "code": given.get("code") or "-"}
            found = await self.upstream.post(
                "/auth/oidc/finish", body, address=login.address_of(request), language=login.language_of(request)
            )
            answer = await self._signed_in(request, str(found["token"]), unquote(next_path))
        except ClientError as error:
            answer = await self._page(request, unquote(next_path), login.error_text(error, in_english=en))
        answer.delete_cookie(OIDC_COOKIE, path=OIDC_PATH, httponly=True, samesite="lax")
        return answer

    # ---- 批准终端 ----

    async def show_device(self, request: Request) -> Response:
        """看清是谁在等。"""
        code, en = request.query_params.get("code", ""), login.english(request)
        visitor = self.sessions.read(request.cookies.get(COOKIE))
        if visitor is None:
            return RedirectResponse("/login?next=/device", 303)
        if not code:
            return code_form(self.assets, self.cluster, in_english=en)
        try:
            waiting = await self.upstream.get_json(_device(code), visitor.token, login.language_of(request))
        except ClientError as error:
            told = login.error_text(error, in_english=en)
            return code_form(self.assets, self.cluster, in_english=en, error=told)
        return waiting_page(self.assets, self.cluster, code, waiting, visitor.user_name, in_english=en)

    async def decide_device(self, request: Request) -> Response:
        """批准或拒绝。"""
        visitor, en = self.sessions.read(request.cookies.get(COOKIE)), login.english(request)
        if visitor is None or not login.from_here(request):
            return problem(403, "cross_site", "不是本站的请求", login.language_of(request))
        form = await request.form(max_fields=4)
        allow = form.get("decision") == "allow"
        try:
            await self.upstream.post(
                _device(str(form.get("code", ""))),
                {"allow": allow},
                token=visitor.token,
                language=login.language_of(request),
            )
        except ClientError as error:
            told = login.error_text(error, in_english=en)
            return code_form(self.assets, self.cluster, in_english=en, error=told)
        return decided_page(self.assets, self.cluster, allowed=allow, in_english=en)


def _device(code: str) -> str:
    return f"/auth/device/{quote(code, safe='') or '-'}"
