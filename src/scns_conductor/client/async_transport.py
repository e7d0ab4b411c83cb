"""异步的收发：asyncio 的流上的 HTTP/1.1，一池长连接。取消了的请求关掉它的连接，不放回池里。"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.transport_base import TransportBase
from scns_conductor.client.wire import Answer, Attempts, problem, repeatable

BROKEN = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError, ValueError)
_MOST_LINE = 1 << 20


@dataclass(slots=True)
class _Connection:
    """一条连接。"""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class _Head:
    """回答的状态行与头；头的名字是小写。"""

    status: int
    reason: str
    headers: dict[str, str]

    @property
    def keeps(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class AsyncTransport(TransportBase[_Connection]):
    """到一个 API 的连接；同时几个请求就有几条，用完放回池里。只在一个事件循环里用。"""

    async def close(self) -> None:
        """关掉闲着的连接。"""
        while self._idle:
            connection = self._idle.pop()
            connection.close()
            try:
                await connection.writer.wait_closed()
            except OSError:
                continue

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """同 Transport.request。"""
        attempts = Attempts(self.times, self.place, method, headers or {}, self._on_wait)
        while True:
            try:
                return await self._exchange(method, path, query, body, headers or {}, accept, attempts)
            except (Problem, Unreachable) as error:
                await asyncio.sleep(attempts.again_after(error))

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        accept: frozenset[int],
        attempts: Attempts,
    ) -> Answer:
        connection, head = await self._send(method, path, query, body, headers, attempts.timeout_s)
        try:
            parts = []
            async for part in _body(connection.reader, head, lambda: attempts.timeout_s):
                parts.append(part)
        except BROKEN as error:
            connection.close()
            raise self.place.broken(error) from error
        except BaseException:
            connection.close()
            raise
        if head.keeps:
            self._idle.append(connection)
        else:
            connection.close()
        data = b"".join(parts)
        if head.status >= 400 and head.status not in accept:
            raise problem(head.status, head.reason, head.headers, data)
        return Answer(head.status, head.headers, data)

    async def stream(
        self, path: str, *, query: Mapping[str, Any] | None = None, timeout_s: float = 60.0
    ) -> AsyncIterator[bytes]:
        """同 Transport.stream。"""
        token = self.place.token
        connection, head = await self._send("GET", path, query, None, {"Accept": "text/event-stream"}, timeout_s)
        left = b""
        try:
            if head.status == 401 and self.place.renewed(token):
                async for line in self.stream(path, query=query, timeout_s=timeout_s):
                    yield line
                return
            if head.status >= 400:
                data = b"".join([part async for part in _body(connection.reader, head, lambda: timeout_s)])
                raise problem(head.status, head.reason, head.headers, data)
            async for part in _body(connection.reader, head, lambda: timeout_s):
                *lines, left = (left + part).split(b"\n")
                for line in lines:
                    yield line + b"\n"
        except BROKEN as error:
            raise self.place.broken(error) from error
        finally:
            connection.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[_Connection, _Head]:
        target, data, sent = self.place.encode(path, query, body, headers)
        sent = {"Host": f"{self.place.host}:{self.place.port}", **sent}
        if data is not None or method in ("POST", "PUT", "PATCH"):
            sent["Content-Length"] = str(len(data or b""))
        text = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        raw = f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode("latin-1") + (data or b"")
        while True:
            connection, fresh = await self._connected(timeout_s)
            try:
                connection.writer.write(raw)
                async with asyncio.timeout(timeout_s):
                    await connection.writer.drain()
                    return connection, await _head(connection.reader)
            except BROKEN as error:
                connection.close()
                if fresh or not repeatable(method, headers):
                    raise self.place.broken(error) from error
            except BaseException:
                connection.close()
                raise

    async def _connected(self, timeout_s: float) -> tuple[_Connection, bool]:
        while self._idle:
            current = self._idle.pop()
            if not current.reader.at_eof() and not current.writer.is_closing():
                return current, False
            current.close()
        context = ssl.create_default_context() if self.place.https else None
        try:
            async with asyncio.timeout(timeout_s):
                if self.place.socket is not None:
                    made = await asyncio.open_unix_connection(self.place.socket, limit=_MOST_LINE)
                else:
                    made = await asyncio.open_connection(
                        self.place.host, self.place.port, ssl=context, limit=_MOST_LINE
                    )
        except (OSError, TimeoutError) as error:
            raise self.place.nobody(error) from error
        return _Connection(*made), True


async def _head(reader: asyncio.StreamReader) -> _Head:
    while True:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, status, *reason = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name:
                headers[name.strip().lower()] = value.strip()
        # 100 Continue 之类之后还有真的回答。
        if int(status) >= 200:
            return _Head(int(status), "".join(reason), headers)


async def _body(reader: asyncio.StreamReader, head: _Head, timeout_s: Callable[[], float]) -> AsyncIterator[bytes]:
    """正文，一块一块；写明长度的、分块的、到断开为止的。"""
    if head.status in (204, 304):
        return
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        while True:
            async with asyncio.timeout(timeout_s()):
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                data = await reader.readexactly(size + 2)
            if size == 0:
                return
            yield data[:-2]
    left = int(head.headers["content-length"]) if "content-length" in head.headers else None
    while left is None or left > 0:
        async with asyncio.timeout(timeout_s()):
            part = await reader.read(min(left, 1 << 20) if left is not None else 1 << 20)
        if not part:
            if left is not None:
                raise ConnectionResetError("回答没有收完")
            return
        if left is not None:
            left -= len(part)
        yield part
