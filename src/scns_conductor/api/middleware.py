"""最外一层（纯 ASGI，不缓冲）：请求号、身份、请求体的类型与大小、计时、访问日志。"""

import contextlib
import logging
import re
import secrets
import time
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scns_conductor.api.body_budget import WHOLE, BodyBudget, BodyReader, BodyRefused, most_body_bytes
from scns_conductor.api.client_address import client_address
from scns_conductor.api.dependencies import identity_of, known_identity
from scns_conductor.api.problems import conductor_problem, problem_response, unexpected_problem
from scns_conductor.core.errors import ConductorError, TooManyRequests
from scns_conductor.core.settings import Settings
from scns_conductor.services.audit import ORIGIN, Origin

# 没有令牌的人也能送请求体的地方：登录。
OPEN_PREFIX = "/auth/"
OPEN_BODY_BYTES = 16 * 1024

_JOB_PATH = re.compile(r"^/jobs/(?:query/|cancel/)?(\d[^/]{0,40})")

LATENCY = Histogram(
    "scns_api_request_seconds",
    "API 请求的耗时（秒）",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)

# 一个请求一次：标签的种类有限，记着比每次都拼、都上锁便宜。
_latency_of = lru_cache(maxsize=4096)(LATENCY.labels)

_ACCESS = logging.getLogger("scns_conductor.api.access")
logger = structlog.get_logger(_ACCESS.name)


class Entrance:
    """每个请求都先经过这里。有请求体的先认出是谁，再收。"""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._single_limit = most_body_bytes(settings)
        self._batch_limit = max(settings.batch_max_bytes, self._single_limit)
        self._grace_s = settings.api_header_timeout_s
        self._budget = BodyBudget(settings.api_bodies_max_bytes)
        self._access_log = settings.api_access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 入口。"""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        structlog.contextvars.clear_contextvars()
        job = _JOB_PATH.match(scope["path"])
        ORIGIN.set(Origin(client_address(scope) or None, request_id))
        structlog.contextvars.bind_contextvars(request_id=request_id, **({"job_id": job[1]} if job else {}))
        began = time.perf_counter()
        status = 500

        async def tagged_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            length = _body_length(headers)
            refusal = self._refusal(scope, headers, length) or _too_many(scope)
            if refusal is not None:
                await refusal(scope, receive, tagged_send)
            elif length == 0:
                await self._app(scope, receive, tagged_send)
            else:
                await self._with_body(scope, receive, tagged_send, length)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            elapsed = time.perf_counter() - began
            _latency_of(scope["method"], route, status).observe(elapsed)
            if self._access_log or _ACCESS.isEnabledFor(logging.DEBUG):
                identity = known_identity(scope)
                logger.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(elapsed * 1e3, 2),
                    user=identity.user_name if identity else None,
                    client=client_address(scope),
                )

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, length: int | None) -> None:
        """先认出是谁，再收请求体：没有令牌的占不了内存。"""
        try:
            if scope["path"].startswith(OPEN_PREFIX):
                # 登录的请求体都小，每个地址的连接数也有限。
                owner, limit = client_address(scope), OPEN_BODY_BYTES
            else:
                owner = (await identity_of(scope, scope["app"].state.parts)).user_name
                limit = self._limit(scope)
        except ConductorError as error:
            await conductor_problem(error)(scope, receive, send)
            return
        except Exception as error:  # 与 FastAPI 的最外一层相同：什么错都要有回答
            engine = scope["app"].state.parts.engine
            await (await unexpected_problem(scope["path"], error, engine))(scope, receive, send)
            return
        reader = BodyReader(receive, self._budget, owner, limit, self._grace_s, scope.get(WHOLE))
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            # 收不到请求体，应用会说成别的错；那一句由下面说。
            if started or reader.refusal is None:
                started = True
                await send(message)

        try:
            if reader.reserve(length or 0):
                with contextlib.suppress(BodyRefused):
                    await self._app(scope, reader.receive, guarded_send)
            if reader.refusal is not None and not started:
                await reader.refusal(scope, receive, send)
        finally:
            reader.release()

    def _limit(self, scope: Scope) -> int:
        return self._batch_limit if scope["path"].endswith("/batch") else self._single_limit

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes], length: int | None) -> Any:
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            # PostgreSQL 的文字里不能有 NUL；在这里拦一次，各处不必再想。
            where = "路径" if "\x00" in scope["path"] else "查询参数"
            return problem_response(422, "invalid_field", f"{where}里含有 NUL 字节（%00）；请去掉")
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        if length == 0:
            return None
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            shown = kind.decode("latin-1") or "（没有写）"
            return problem_response(415, "unsupported_media_type", f"Content-Type 是 {shown}；请用 application/json")
        return None


def _too_many(scope: Scope) -> Any:
    """这个地址的请求太多的回答；健康检查不限。"""
    if scope["path"].startswith("/health/"):
        return None
    try:
        scope["app"].state.parts.rates.address(ORIGIN.get().address)
    except TooManyRequests as error:
        return conductor_problem(error)
    return None


def _body_length(headers: dict[bytes, bytes]) -> int | None:
    """请求体多长；没有是 0，分块送来的不知道（None）。"""
    if b"transfer-encoding" in headers:
        return None
    length = headers.get(b"content-length", b"0")
    # HTTP 的解析器已经核对过是数。
    return int(length) if length.isdigit() else 0


def _request_id(given: bytes | None) -> str:
    if given and len(given) <= 64 and given.replace(b"-", b"").replace(b"_", b"").isalnum():
        return given.decode("ascii")
    return secrets.token_hex(8)
