"""把浏览器的请求原样转给 API，令牌由会话补上；回答也原样转回去，大文件边收边送。"""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import parse_qs, quote

import anyio
import httpx
from fastapi import Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from scns_conductor.client.problem import ClientError
from scns_conductor.web.session import Visitor
from scns_conductor.web.spoken import spoken
from scns_conductor.web.upstream import Upstream

PREFIX = "/api"
# 别的网站的页面发不出带这个头的请求（浏览器要先问，我们不答应）；它与 SameSite 的 cookie 一起防 CSRF。
GUARD_HEADER = "x-scns-web"
MOST_BODY = 64 * 1024**2
_PASSED_ON = ("content-type", "accept", "idempotency-key", "range")
_PASSED_BACK = ("content-type", "content-length", "retry-after", "x-total-bytes", "content-range", "accept-ranges")
# 可以原样给浏览器的类型；别的一律当文件，免得在我们的源上成了网页。
_PLAIN = ("application/json", "application/problem+json", "text/plain", "application/octet-stream")


async def relay(request: Request, upstream: Upstream, visitor: Visitor, language: str) -> Response:
    """转发一个请求。改动的请求要带 GUARD_HEADER；查询串里的 download=名字 让浏览器存成文件。"""
    if request.method != "GET" and request.headers.get(GUARD_HEADER) != "1":
        return problem(403, "cross_site", "这个请求不是看板的页面发的", language)
    body = await bounded_body(request)
    if body is None:
        return problem(413, "body_too_large", "请求太大", language)
    # 用没有解过码的路径：作业名、节点名里的斜线与百分号不能变样。
    raw = request.scope["raw_path"].decode("ascii").removeprefix(PREFIX)
    query = request.scope["query_string"].decode("ascii")
    target = raw + (f"?{query}" if query else "")
    download = parse_qs(query).get("download", [None])[0]
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    headers["accept-language"] = language
    wanted = _without_download(target)
    context = upstream.stream(request.method, wanted, visitor.token, headers=headers, body=body or None)
    try:
        answer = await context.__aenter__()
    except ClientError as error:
        return problem(503, "unreachable", f"{error}；请稍后再试，填好的都还在", language)

    return _Relayed(answer, context, _passed_back(answer, download))


class _Relayed(StreamingResponse):
    """送回去的回答。浏览器什么时候走（第一段之前也算）、送的时候出什么错，与 API 的连接都还回去。"""

    def __init__(
        self, answer: httpx.Response, opened: AbstractAsyncContextManager[httpx.Response], headers: Mapping[str, str]
    ) -> None:
        super().__init__(answer.aiter_raw(), answer.status_code, headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # 多半是因为被取消才到这里：还连接的几步不能也被取消。
            with anyio.CancelScope(shield=True):
                await self._opened.__aexit__(None, None, None)


def _passed_back(answer: httpx.Response, download: str | None) -> dict[str, str]:
    passed = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    if "content-encoding" in answer.headers:
        passed["content-encoding"] = answer.headers["content-encoding"]
    kind = passed.get("content-type", "").split(";")[0].strip()
    if kind and kind not in _PLAIN:
        passed["content-type"] = "application/octet-stream"
    if download and answer.status_code < 400:
        passed["content-disposition"] = f"attachment; filename*=UTF-8''{quote(download[:200], safe='')}"
    passed["cache-control"] = "no-store"
    return passed


async def bounded_body(request: Request) -> bytes | None:
    """请求体；一超过 MOST_BODY 就不再收，是 None。"""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            return None
    return bytes(body)


def _without_download(target: str) -> str:
    path, _, query = target.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith("download=")]
    return path + ("?" + "&".join(kept) if kept else "")


def problem(status: int, code: str, detail: str, language: str = "zh") -> Response:
    """与 API 同样的 problem JSON。"""
    said = spoken(detail, language)
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": said, "errors": []}
    return Response(json.dumps(body, ensure_ascii=False), status, media_type="application/problem+json; charset=utf-8")
