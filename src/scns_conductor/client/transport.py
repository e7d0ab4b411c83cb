"""同步的收发：一池长连接上的 HTTP/1.1，断了会重连；不引入重的库，命令才启动得快。"""

import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from typing import Any

from scns_conductor.client.http_message import MOST_HEAD, MOST_PART, Head, chunk_size, parse_head, request_bytes
from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.transport_base import TransportBase
from scns_conductor.client.wire import Answer, Attempts, problem, repeatable

BROKEN = (OSError, ValueError)


class _Connection:
    """一条连接。"""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Transport(TransportBase[_Connection]):
    """到一个 API 的连接；可以在线程之间共用：同时几个请求就有几条连接，用完放回池里。"""

    def close(self) -> None:
        """关掉闲着的连接；之后还能再用，会重新连。"""
        while self._idle:
            self._idle.pop().close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """发一个请求。HTTP 错误抛 Problem（accept 里的状态码除外），连不上抛 Unreachable；再送几次见 Times。"""
        attempts = Attempts(self.times, self.place, method, headers or {}, self._on_wait)
        while True:
            try:
                return self._exchange(method, path, query, body, headers or {}, accept, attempts)
            except (Problem, Unreachable) as error:
                time.sleep(attempts.again_after(error))

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        accept: frozenset[int],
        attempts: Attempts,
    ) -> Answer:
        connection, head = self._send(method, path, query, body, headers, attempts.timeout_s)
        try:
            data = b"".join(_body(connection, head, lambda: attempts.timeout_s))
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
        if head.status >= 400 and head.status not in accept:
            raise problem(head.status, head.reason, head.headers, data)
        return Answer(head.status, head.headers, data)

    def stream(self, path: str, *, query: Mapping[str, Any] | None = None, timeout_s: float = 60.0) -> Iterator[bytes]:
        """逐行收一个不断的 GET 回答（SSE）；断了抛 Unreachable。timeout_s 是两次来数据之间最多等多久。"""
        token = self.place.token
        connection, head = self._send("GET", path, query, None, {"Accept": "text/event-stream"}, timeout_s)
        left = b""
        try:
            if head.status == 401 and self.place.renewed(token):
                yield from self.stream(path, query=query, timeout_s=timeout_s)
                return
            parts = _body(connection, head, lambda: timeout_s)
            if head.status >= 400:
                raise problem(head.status, head.reason, head.headers, b"".join(parts))
            for part in parts:
                *lines, left = (left + part).split(b"\n")
                for line in lines:
                    yield line + b"\n"
        except BROKEN as error:
            raise self.place.broken(error) from error
        finally:
            # 没有读完的回答占着连接，不能再用。
            connection.close()

    def _send(
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
            connection, fresh = self._connected(timeout_s)
            try:
                connection.sock.sendall(raw)
                return connection, _head(connection.file)
            except BROKEN as error:
                connection.close()
                # 旧连接可能早被对面关了，换新的再送一次；新连接还不行就是真的不行。
                if fresh or not repeatable(method, headers):
                    raise self.place.broken(error) from error
            except BaseException:
                connection.close()
                raise

    def _connected(self, timeout_s: float) -> tuple[_Connection, bool]:
        """可用的连接，以及它是不是新建的。"""
        while self._idle:
            try:
                current = self._idle.pop()
            except IndexError:
                break
            # 空闲的连接上不该有东西可读：可读就是对面已经关了。
            idle = select.poll()
            idle.register(current.sock, select.POLLIN)
            if not idle.poll(0):
                current.sock.settimeout(timeout_s)
                return current, False
            current.close()
        try:
            return _Connection(self._new_socket(timeout_s)), True
        except OSError as error:
            raise self.place.nobody(error) from error

    def _new_socket(self, timeout_s: float) -> socket.socket:
        place = self.place
        if place.socket is not None:
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.settimeout(timeout_s)
            local.connect(place.socket)
            return local
        # 文字的名字要先过一遍 IDNA，装载它就要几毫秒。
        host: Any = place.host.encode() if place.host.isascii() else place.host
        made = socket.create_connection((host, place.port), timeout_s)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not place.https:
            return made
        import ssl

        try:
            return ssl.create_default_context().wrap_socket(made, server_hostname=place.host)
        except BaseException:
            made.close()
            raise


def _head(file: BufferedReader) -> Head:
    head = None
    while head is None:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            line = file.readline(MOST_HEAD - len(data))
            if not line:
                raise ValueError("对面的头太长") if data else ConnectionResetError("对面没有回答就断了")
            data += line
            if len(data) == len(line) and not line.startswith(b"HTTP/"):
                raise ValueError("对面说的不是 HTTP")
        head = parse_head(data)
    return head


def _body(connection: _Connection, head: Head, timeout_s: Callable[[], float]) -> Iterator[bytes]:
    """正文，一块一块；写明长度的、分块的、到断开为止的。"""
    if head.empty:
        return
    file, left = connection.file, head.length
    if head.chunked:
        while True:
            connection.sock.settimeout(timeout_s())
            size = chunk_size(file.readline(MOST_HEAD))
            if size == 0:
                # 末尾也许还有头。
                while file.readline(MOST_HEAD).strip():
                    pass
                return
            data = file.read(size + 2)
            if len(data) < size + 2:
                raise ConnectionResetError("回答没有收完")
            yield data[:-2]
    while left is None or left > 0:
        connection.sock.settimeout(timeout_s())
        part = file.read1(MOST_PART) if left is None else file.read(min(left, MOST_PART))
        if not part:
            if left is not None:
                raise ConnectionResetError("回答没有收完")
            return
        if left is not None:
            left -= len(part)
        yield part
