"""最外一层（纯 ASGI，不缓冲）：请求号、请求体的类型与大小、计时、访问日志。"""

import logging
import re
import secrets
import time
from typing import Any

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scns_conductor.api.problems import problem_response

# JSON 里一个字节最多写成 6 个（\u0000），再留些余地给别的字段。
BODY_FACTOR = 6
BODY_MARGIN = 1024**2

_JOB_PATH = re.compile(r"^/jobs/(?:query/|cancel/)?(\d[^/]{0,40})")

LATENCY = Histogram(
    "scns_api_request_seconds",
    "API 请求的耗时（秒）",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)

_ACCESS = logging.getLogger("scns_conductor.api.access")
logger = structlog.get_logger(_ACCESS.name)


class BodyTooLarge(Exception):
    """请求体超过上限。"""


class Entrance:
    """每个请求都先经过这里。"""

    def __init__(self, app: ASGIApp, *, script_max_bytes: int, batch_max_bytes: int) -> None:
        self._app = app
        self._single_limit = script_max_bytes * BODY_FACTOR + BODY_MARGIN
        self._batch_limit = max(batch_max_bytes, self._single_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 入口。"""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        structlog.contextvars.clear_contextvars()
        job = _JOB_PATH.match(scope["path"])
        structlog.contextvars.bind_contextvars(request_id=request_id, **({"job_id": job[1]} if job else {}))
        began = time.perf_counter()
        status = 500

        async def tagged_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, tagged_send)
            return
        limit = self._batch_limit if scope["path"].endswith("/batch") else self._single_limit
        read = 0

        async def limited_receive() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise BodyTooLarge
            return message

        try:
            await self._app(scope, limited_receive, tagged_send)
        except BodyTooLarge:
            await _too_large(limit)(scope, receive, tagged_send)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            elapsed = time.perf_counter() - began
            LATENCY.labels(scope["method"], route, status).observe(elapsed)
            # 平时不记：问一声级别，比让它走完处理器再丢掉便宜得多。
            if _ACCESS.isEnabledFor(logging.DEBUG):
                logger.debug(
                    "request", method=scope["method"], path=scope["path"], status=status, ms=round(elapsed * 1e3, 2)
                )

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Any:
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            # PostgreSQL 的文字里不能有 NUL；在这里拦一次，各处不必再想。
            where = "路径" if "\x00" in scope["path"] else "查询参数"
            return problem_response(422, "invalid_field", f"{where}里含有 NUL 字节（%00）；请去掉")
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        length = headers.get(b"content-length", b"")
        if length in (b"", b"0") and b"transfer-encoding" not in headers:
            return None
        limit = self._batch_limit if scope["path"].endswith("/batch") else self._single_limit
        if length.isdigit() and int(length) > limit:
            return _too_large(limit)
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            shown = kind.decode("latin-1") or "（没有写）"
            return problem_response(415, "unsupported_media_type", f"Content-Type 是 {shown}；请用 application/json")
        return None


def _too_large(limit: int) -> Any:
    # 没有读完的请求体不再读，连接随之关闭。
    return problem_response(
        413,
        "payload_too_large",
        f"请求体超过 {limit} 字节；请拆成几次，或把数据放到文件里",
        headers={"Connection": "close"},
    )


def _request_id(given: bytes | None) -> str:
    if given and len(given) <= 64 and given.replace(b"-", b"").replace(b"_", b"").isalnum():
        return given.decode("ascii")
    return secrets.token_hex(8)
