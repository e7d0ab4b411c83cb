"""异步的收发：asyncio 的流上的 HTTP/1.1，一池长连接。取消了的请求关掉它的连接，不放回池里。"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scns_conductor.client.http_message import MOST_HEAD, MOST_PART, Head, chunk_size, parse_head, request_bytes
from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.transport_base import TransportBase
from scns_conductor.client.wire import Answer, Attempts, problem, repeatable

BROKEN = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError, ValueError)


@dataclass(slots=True)
class _Connection:
    """一条连接。"""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.close()


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
    ) -> tuple[_Connection, Head]:
        target, data, sent = self.place.encode(path, query, body, headers)
        raw = request_bytes(method, self.place.authority, target, sent, data)
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
                    made = await asyncio.open_unix_connection(self.place.socket, limit=MOST_HEAD)
                else:
                    made = await asyncio.open_connection(self.place.host, self.place.port, ssl=context, limit=MOST_HEAD)
        except (OSError, TimeoutError) as error:
            raise self.place.nobody(error) from error
        return _Connection(*made), True


async def _head(reader: asyncio.StreamReader) -> Head:
    while True:
        head = parse_head(await reader.readuntil(b"\r\n\r\n"))
        if head is not None:
            return head


async def _body(reader: asyncio.StreamReader, head: Head, timeout_s: Callable[[], float]) -> AsyncIterator[bytes]:
    """正文，一块一块；写明长度的、分块的、到断开为止的。"""
    if head.empty:
        return
    if head.chunked:
        while True:
            async with asyncio.timeout(timeout_s()):
                size = chunk_size(await reader.readuntil(b"\r\n"))
                if size == 0:
                    # 末尾也许还有头。
                    while (await reader.readuntil(b"\r\n")).strip():
                        pass
                    return
                data = await reader.readexactly(size + 2)
            yield data[:-2]
    left = head.length
    while left is None or left > 0:
        async with asyncio.timeout(timeout_s()):
            part = await reader.read(MOST_PART if left is None else min(left, MOST_PART))
        if not part:
            if left is not None:
                raise ConnectionResetError("回答没有收完")
            return
        if left is not None:
            left -= len(part)
        yield part
