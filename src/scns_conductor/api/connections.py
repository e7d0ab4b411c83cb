"""连接的上限与时限：只占着不说话的客户端挤不走别人。uvicorn 的 httptools 协议没有这些，在它外面加。

请求行与头要在时限之内收齐，至多 64 KiB、100 行，分块的末尾的头也是；一个地址至多若干连接；满了先断等得最久的空闲连接；
不收回答的客户端也断。等着回答的（包括 SSE）没有时限。
"""

import asyncio
import json
import resource
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scns_conductor.api.body_budget import WHOLE
from scns_conductor.api.local_socket import extensions_for, peer_of
from scns_conductor.api.one_write import OneWrite
from scns_conductor.api.problems import MEDIA_TYPE, problem_body

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
# 客户端这么久一个字节也不收，缓冲区又满了，就断（秒）。
WRITE_STALL_S = 60.0
# 已经回答（拒绝）了，请求体还在来：读掉、不留，至多这么久（秒）；马上断的话客户端收不到回答。
DISCARD_S = 30.0
# 留给数据库、日志等的文件描述符。
_SPARE_FILES = 128


@dataclass(slots=True)
class ConnectionLimits:
    """一个进程的连接：上限与此刻的账。per_address 为 0 是不限。"""

    most: int
    per_address: int
    header_timeout_s: float
    opened: Counter[str] = field(default_factory=Counter)
    # opened 的合计：每来一个连接都要问，地址可以有几千个，不能每次从头加。
    taken: int = 0
    # 没有请求在办的连接，等得最久的在前。
    waiting: "dict[BoundedProtocol, None]" = field(default_factory=dict)

    def fit_open_files(self) -> None:
        """文件描述符的软上限不够就提；硬上限也不够的话少接一些。"""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.most + _SPARE_FILES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self.most = max(1, min(self.most, soft - _SPARE_FILES))


class BoundedProtocol(HttpToolsProtocol):
    """一个连接；limits 由 protocol_for 给。"""

    limits: ConnectionLimits

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._whole = True
        self._beside_body = 0
        self._counted: str | None = None
        self._peer: int | None = None

    # ---- 连接 ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """占一个名额；没有名额的说明原因就断。"""
        limits = self.limits
        self._peer = peer_of(transport)
        # 本机套接字没有地址：一个用户当作一个地址。
        peer = transport.get_extra_info("peername")
        address = f"uid {self._peer}" if self._peer is not None else peer[0] if isinstance(peer, tuple) else ""
        if address and limits.per_address and limits.opened.get(address, 0) >= limits.per_address:
            # 一阵子来几千个的就是这些：在 uvicorn 记账之前就断，别人少等一半。
            self.transport = transport
            self._refuse(
                429, "too_many_connections", f"你的地址已有 {limits.per_address} 个连接；请少开一些，或重用连接"
            )
            return
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        if limits.taken >= limits.most:
            oldest = next(iter(limits.waiting), None)
            if oldest is None:
                self._refuse(503, "too_many_connections", "连接太多；请稍后再试")
                return
            oldest.transport.abort()
            oldest.leave()
        self._counted = address
        limits.opened[address] += 1
        limits.taken += 1
        limits.waiting[self] = None
        self._arm(limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """交还名额。"""
        self.leave()
        self._arm(None)
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def leave(self) -> None:
        """不再占名额。"""
        limits = self.limits
        limits.waiting.pop(self, None)
        if self._counted is not None:
            limits.taken -= 1
            limits.opened[self._counted] -= 1
            if limits.opened[self._counted] <= 0:
                del limits.opened[self._counted]
            self._counted = None

    def _arm(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        self._deadline = None
        if self._in_head and self._head_bytes:
            self._refuse(408, "request_timeout", f"请求头 {self.limits.header_timeout_s:g} 秒还没有收齐；请重新连接")
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """对方收得慢：缓冲区满了。"""
        super().pause_writing()
        self._stalled = self.loop.call_later(WRITE_STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """又收了。"""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    # ---- 一个请求 ----

    def data_received(self, data: bytes) -> None:
        """头没有收齐时数着字节：一行没有尽头的头，解析器要收完才说。"""
        if self._counted is None or self.transport.is_closing():
            return
        began_in_head = self._in_head
        self._beside_body += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._in_head:
            if self._beside_body > MAX_HEAD_BYTES and not self._whole:
                # 分块的末尾的头没有尽头：解析器也要收完才说，越攒越慢。已经在办、答过了，插不上话。
                self.transport.abort()
            return
        if self._head_bytes == 0:
            self._arm(self.limits.header_timeout_s)
        self._head_bytes += len(data) if began_in_head else 1
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """请求的第一个字节到了；头多半就在同一包里，收不齐再设时限。"""
        super().on_message_begin()
        if self._peer is not None:
            self.scope["extensions"] = extensions_for(self._peer)
        self.scope[WHOLE] = self._is_whole  # type: ignore[literal-required]
        self._in_head, self._whole, self._head_bytes = True, False, 0

    def _is_whole(self) -> bool:
        return self._whole

    def on_header(self, name: bytes, value: bytes) -> None:
        """多出来的不留。"""
        if len(self.headers) <= MAX_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """头收齐了：没有时限了。"""
        if self.transport.is_closing():
            return
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + 4
        if len(self.headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            self._refuse_head()
            return
        self._in_head, self._beside_body = False, 0
        self._arm(None)
        self.limits.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """已经拒绝了的不看。"""
        self._beside_body = 0
        if not self._in_head:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """请求收齐了。"""
        if self._in_head:
            return
        self._whole = True
        discarded = self.cycle.response_complete
        super().on_message_complete()
        if discarded and not self.pipeline:
            self._wait(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        """回答完了：等下一个请求；请求体还在来的，读掉。"""
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        if self._whole:
            self._wait(None)
        else:
            self._arm(DISCARD_S)

    def _wait(self, seconds: float | None) -> None:
        self._in_head, self._head_bytes = True, 0
        self._arm(seconds)
        self.limits.waiting[self] = None

    # ---- 拒绝 ----

    def send_400_response(self, msg: str) -> None:
        """不是 HTTP。"""
        if not self.transport.is_closing():
            self._refuse(400, "malformed_request", "不是合法的 HTTP 请求")

    def _refuse_head(self) -> None:
        self._refuse(431, "headers_too_large", f"请求头至多 {MAX_HEADERS} 行、{MAX_HEAD_BYTES // 1024} KiB")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # 上一个请求还在回答：不能插话。
            self.transport.abort()
            return
        self.transport.write(_refusal(status, code, detail))
        self.transport.close()


@lru_cache(maxsize=16)
def _refusal(status: int, code: str, detail: str) -> bytes:
    """拒绝的整个回答。"""
    body = json.dumps(problem_body(status, code, detail), ensure_ascii=False).encode()
    retry = "retry-after: 1\r\n" if status in (429, 503) else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n{retry}"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def protocol_for(limits: ConnectionLimits) -> type[BoundedProtocol]:
    """交给 uvicorn 的 http=：同一个进程的连接共用一份账。"""
    return type("LimitedProtocol", (BoundedProtocol,), {"limits": limits})
