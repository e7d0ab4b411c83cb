"""同步的收发：一池长连接（http.client），断了会重连；不引入重的库，命令才启动得快。"""

import http.client
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.transport_base import TransportBase
from scns_conductor.client.wire import Answer, Attempts, problem, repeatable

BROKEN = (ConnectionError, http.client.HTTPException, TimeoutError, OSError)


class Transport(TransportBase[http.client.HTTPConnection]):
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
        connection, response = self._send(method, path, query, body, headers, attempts.timeout_s)
        try:
            parts = []
            while part := response.read(1 << 20):
                parts.append(part)
                if connection.sock is not None:
                    connection.sock.settimeout(attempts.timeout_s)
            if response.length:
                # 一块一块地读，少了它不说。
                raise http.client.IncompleteRead(b"", response.length)
        except BROKEN as error:
            connection.close()
            raise self.place.broken(error) from error
        except BaseException:
            connection.close()
            raise
        data = b"".join(parts)
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        if response.status >= 400 and response.status not in accept:
            raise problem(response.status, response.reason, _headers(response), data)
        return Answer(response.status, dict(response.headers.items()), data)

    def stream(self, path: str, *, query: Mapping[str, Any] | None = None, timeout_s: float = 60.0) -> Iterator[bytes]:
        """逐行收一个不断的 GET 回答（SSE）；断了抛 Unreachable。timeout_s 是两次来数据之间最多等多久。"""
        token = self.place.token
        connection, response = self._send("GET", path, query, None, {"Accept": "text/event-stream"}, timeout_s)
        try:
            if response.status == 401 and self.place.renewed(token):
                yield from self.stream(path, query=query, timeout_s=timeout_s)
                return
            if response.status >= 400:
                raise problem(response.status, response.reason, _headers(response), response.read())
            while line := response.readline():
                yield line
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
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        target, data, sent = self.place.encode(path, query, body, headers)
        while True:
            connection, fresh = self._connected(timeout_s)
            try:
                connection.request(method, target, data, sent)
                return connection, connection.getresponse()
            except BROKEN as error:
                connection.close()
                # 旧连接可能早被对面关了，换新的再送一次；新连接还不行就是真的不行。
                if fresh or not repeatable(method, headers):
                    raise self.place.broken(error) from error
            except BaseException:
                connection.close()
                raise

    def _connected(self, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        """可用的连接，以及它是不是新建的。"""
        while self._idle:
            try:
                current = self._idle.pop()
            except IndexError:
                break
            # 空闲的连接上不该有东西可读：可读就是对面已经关了。
            idle = select.poll()
            if current.sock is not None:
                idle.register(current.sock, select.POLLIN)
                if not idle.poll(0):
                    current.sock.settimeout(timeout_s)
                    return current, False
            current.close()
        connection = self._new_connection(timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise self.place.nobody(error) from error
        return connection, True

    def _new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        place = self.place
        if place.socket is not None:
            return _SocketConnection(place.socket, timeout_s)
        factory = http.client.HTTPSConnection if place.https else http.client.HTTPConnection
        return factory(place.host, place.port, timeout=timeout_s)


class _SocketConnection(http.client.HTTPConnection):
    """到本机套接字的连接。"""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
