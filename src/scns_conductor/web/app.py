"""看板的进程：登录、转发、页面、静态文件，装成一个应用。"""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request
from nicegui import ui
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scns_conductor.owned_tasks import owned_task
from scns_conductor.web import login
from scns_conductor.web.dashboard import add_pages
from scns_conductor.web.feed import Feed
from scns_conductor.web.login_routes import LoginRoutes
from scns_conductor.web.metrics import serve as serve_metrics
from scns_conductor.web.relay import PREFIX, bounded_body, problem, relay
from scns_conductor.web.script_header import header_fields
from scns_conductor.web.session import COOKIE, KEY_FILE, Sessions, ensure_session_key
from scns_conductor.web.upstream import Upstream

BROWSER = Path(__file__).with_name("browser")
# 没有登录也能取的：登录页、它的样式、框架自己的静态文件。
OPEN_PREFIXES = ("/login", "/assets/", "/language/", "/_nicegui/", "/health")
RECONNECT_S = 5.0
EXPIRED = "登录已过期；请重新登录，填好的都还在"
SECURITY_HEADERS = {
    # 全部东西都由自己送出；框架在浏览器里编译模板，所以要 unsafe-eval。
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class WebOptions:
    """api_url 是 API 的地址；data_dir 下放会话的密钥与一次性的登录链接；metrics 是指标在哪里答，空的是不开。"""

    api_url: str
    data_dir: Path
    cluster: str
    metrics: str = ""


def build_web(options: WebOptions) -> FastAPI:
    """造应用；密钥用不了抛 KeyUnusable。"""
    sessions = Sessions(ensure_session_key(options.data_dir / KEY_FILE))
    upstream = Upstream(options.api_url)
    feed = Feed(upstream)
    assets = f"/assets/{_digest(BROWSER)}"

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serve_metrics(options.metrics, options.data_dir, feed)
        # 它死了，页面还在，却永远停在那一刻：整个进程退出，由监督者重启。
        polling = owned_task(feed.run(), "feed")
        yield
        polling.cancel()
        await upstream.close()

    app = FastAPI(title="scns web", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.mount(assets, _Immutable(directory=BROWSER))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    LoginRoutes(sessions, upstream, assets, options.cluster, options.data_dir).add_to(app)

    @app.get("/language/{language}")
    async def choose_language(language: str, request: Request) -> Response:
        answer = RedirectResponse(login.safe_next(request.query_params.get("next")), 303)
        if language in ("zh", "en"):
            answer.set_cookie(login.LANGUAGE_COOKIE, language, max_age=365 * 86400, samesite="strict")
        return answer

    @app.post("/header")
    async def read_header(request: Request) -> Response:
        if sessions.read(request.cookies.get(COOKIE)) is None:
            return problem(401, "session_expired", EXPIRED, login.language_of(request))
        body = await bounded_body(request)
        if body is None:
            return problem(413, "body_too_large", "脚本太大", login.language_of(request))
        return JSONResponse(header_fields(body.decode("utf-8", "replace"), login.language_of(request)))

    @app.api_route(PREFIX + "/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def pass_on(path: str, request: Request) -> Response:
        visitor = sessions.read(request.cookies.get(COOKIE))
        if visitor is None:
            return problem(401, "session_expired", EXPIRED, login.language_of(request))
        answer = await relay(request, upstream, visitor, login.language_of(request))
        if request.method != "GET":
            feed.ask_now(visitor.token)
        return answer

    add_pages(assets, options.cluster, sessions, feed, upstream)
    ui.run_with(
        app,
        title=options.cluster,
        favicon=BROWSER / "icon.svg",
        tailwind=False,
        reconnect_timeout=RECONNECT_S,
        message_history_length=20,
        binding_refresh_interval=None,
        show_welcome_message=False,
    )
    app.add_middleware(_Door, sessions=sessions)
    return app


class _Immutable(StaticFiles):
    """路径里有内容的摘要，可以永远缓存。"""

    def file_response(self, *args: object, **values: object) -> Response:
        answer: Response = super().file_response(*args, **values)  # type: ignore[arg-type]
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer


class _Door:
    """门口：没有登录的去登录（websocket 直接拒绝），每个回答都带上安全的头。"""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path, headers = scope["path"], Headers(scope=scope)
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        is_socket = scope["type"] == "websocket" or path.startswith("/_nicegui_ws")
        is_open = not is_socket and path.startswith((*OPEN_PREFIXES, PREFIX + "/"))
        if not is_open and self._sessions.read(cookie) is None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await _to_login(scope, headers)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    found.setdefault(name, value)
                if not path.startswith(("/assets/", "/_nicegui/")):
                    found.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except RuntimeError as error:
            # 浏览器没等回答就走了：框架的中间件这样抱怨，不是谁的错。
            if str(error) != "No response returned.":
                raise


def _to_login(scope: Scope, headers: Headers) -> Response:
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate":
        # 从别的网站点过来：SameSite=Strict 的 cookie 这一次没有带，从自己这里再走一遍就有了。
        return HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0"><title>…</title>')
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    return RedirectResponse("/login" + ("" if wanted == "/" else f"?next={quote(wanted, safe='')}"), 303)


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]
