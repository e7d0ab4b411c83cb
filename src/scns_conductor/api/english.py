"""要英文的请求（Accept-Language）得到英文的说明：回答里给人看的那几项译出来，别的一个字节也不变。

说明在各处是中文写成的，有的还存在数据库里；这里是它们出门的地方。要中文的请求原样经过，什么也不做。
"""

import json
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scns_conductor.api.request_headers import headers_of
from scns_conductor.language import accepted_language
from scns_conductor.language.catalogue import english

# 给人看的话；名字、脚本、环境这些是用户自己的，不译。
SPOKEN = frozenset(
    {
        "title", "detail", "message", "text", "summary", "description", "error_msg", "remedy", "shortfalls", "reason",
        "hint", "note", "label", "explanation", "warnings", "shortages", "not_enforced",
    }
)  # fmt: skip
# 更大的在别的线程里译，不耽误别的请求。
LARGE_BYTES = 64 * 1024


class English:
    """套在应用外面的一层（ASGI）。"""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = headers_of(scope).get("accept-language") if scope["type"] == "http" else None
        if wanted is None or accepted_language(wanted) != "en":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Answer(send).send)


class _Answer:
    """收齐一个 JSON 的回答，译好再送出；不是 JSON 的（输出、事件流）照常一段段送。"""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """应用送出的一条。"""
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "").split(";")[0]
            if kind.endswith("json"):
                self._start = message
                return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = bytes(self._body)
        if not body.isascii():
            body = await to_thread.run_sync(in_english, body) if len(body) > LARGE_BYTES else in_english(body)
        headers = MutableHeaders(raw=self._start["headers"])
        headers["content-length"] = str(len(body))
        headers["content-language"] = "en"
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def in_english(body: bytes) -> bytes:
    """一个 JSON，给人看的那几项是英文。"""
    return json.dumps(_spoken(json.loads(body)), ensure_ascii=False, separators=(",", ":")).encode()


def _rows(value: Any, fields: list[Any]) -> list[Any] | None:
    """一行一个数组的列表（layout=rows 的 jobs、节点的简表）：每一列的名字在 fields 里；不是这样的 None。"""
    if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == len(fields) for row in value):
        return None
    return [[_spoken(*cell) for cell in zip(row, fields, strict=True)] for row in value]


def _spoken(value: Any, key: str = "") -> Any:
    if isinstance(value, str):
        return english(value) if key in SPOKEN else value
    if isinstance(value, list):
        return [_spoken(item, key) for item in value]
    if isinstance(value, dict):
        if "operationId" in value:
            # 接口的说明里，一类端点的名字。
            value = {**value, "tags": list(map(english, value.get("tags", ())))}
        fields = value.get("fields")
        if isinstance(fields, list):
            return {name: _rows(item, fields) or _spoken(item, name) for name, item in value.items()}
        return {name: _spoken(item, name) for name, item in value.items()}
    return value
