"""HTTP 的收发：一条长连接（http.client），断了会重连；不引入重的库，命令才启动得快。"""

import copy
import http.client
import json
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from scns_conductor.client.problem import EndpointUnknown, NotText, Problem, Unreachable
from scns_conductor.language import own_language

# 重送不会多做一次的方法（RFC 9110 §9.2.2）；带 Idempotency-Key 的 POST 也算。
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
# 这些 503 一定什么也没有改：哪个方法都可以再送。
UNCHANGED = frozenset({"database_read_only", "transaction_conflict", "notify_queue_full"})
BROKEN = (ConnectionError, http.client.HTTPException, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """一个成功的回答。"""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """正文的 JSON；不是 JSON 抛 Unreachable（对面不是本系统）。"""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Unreachable("服务器的回答不是 JSON；SCNS_URL 指的可能不是本系统") from error


class Transport:
    """到一个 API 的长连接；不能在线程之间共用。"""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        source: str = "",
        patience_s: float = 0.0,
        on_wait: Callable[[Problem, float], None] | None = None,
    ) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise Unreachable(f"地址 {url!r} 的端口不对") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"地址 {url!r} 不对，应如 http://127.0.0.1:6820")
        self.url = url
        self.timeout_s = timeout_s
        self._patience_s, self._on_wait = patience_s, on_wait
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._prefix = parts.path.rstrip("/")
        self._source = source
        self._headers = {"Accept": "application/json, */*", "Accept-Language": own_language()}
        if token and not (token.isascii() and token.isprintable()):
            raise EndpointUnknown("令牌里有不该有的字符；请检查 SCNS_TOKEN，或用 scns token 重新签发")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    def another(self) -> "Transport":
        """到同一个 API 的另一条连接。"""
        found = copy.copy(self)
        found._connection = None
        return found

    def close(self) -> None:
        """关掉连接；之后还能再用，会重新连。"""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
        """发一个请求。HTTP 错误抛 Problem（accept 里的状态码除外），连不上抛 Unreachable。

        503 而且重送不会多做一次的：照 Retry-After 等一等再送，总共至多等 patience_s 秒。
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self._request(method, path, query, body, headers or {}, accept)
            except Problem as problem:
                wait_s = problem.retry_after_s
                safe = problem.code in UNCHANGED or _repeatable(method, headers or {})
                if problem.status != 503 or wait_s is None or not safe:
                    raise
                if time.monotonic() + wait_s > deadline:
                    raise
                if self._on_wait is not None:
                    self._on_wait(problem, wait_s)
                time.sleep(wait_s)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        accept: frozenset[int],
    ) -> Answer:
        response = self._send(method, path, query, body, headers, self.timeout_s)
        try:
            data = response.read()
        except BROKEN as error:
            self.close()
            raise Unreachable(f"读 {self.url} 的回答时连接断了") from error
        if response.will_close:
            self.close()
        if response.status >= 400 and response.status not in accept:
            raise _problem(response, data)
        return Answer(response.status, dict(response.headers.items()), data)

    def stream(self, path: str, *, query: Mapping[str, Any] | None = None, timeout_s: float = 60.0) -> Iterator[bytes]:
        """逐行收一个不断的 GET 回答（SSE）；断了抛 Unreachable。timeout_s 是两次来数据之间最多等多久。"""
        response = self._send("GET", path, query, None, {"Accept": "text/event-stream"}, timeout_s)
        try:
            if response.status >= 400:
                raise _problem(response, response.read())
            while line := response.readline():
                yield line
        except BROKEN as error:
            raise Unreachable(f"与 {self.url} 的连接断了") from error
        finally:
            # 没有读完的回答占着连接，不能再用。
            self.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> http.client.HTTPResponse:
        pairs = [(name, _text(value)) for name, value in (query or {}).items() if value is not None]
        sent = {**self._headers, **headers}
        data = None
        try:
            target = self._prefix + path + ("?" + urlencode(pairs) if pairs else "")
            if body is not None:
                data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
                sent["Content-Type"] = "application/json"
        except UnicodeEncodeError as error:
            raise NotText(f"要送的 {error.object[:64]!r} 里有不是 UTF-8 的字节；名字、路径与参数请用 UTF-8") from error
        repeatable = _repeatable(method, headers)
        while True:
            connection, fresh = self._connected(timeout_s)
            try:
                connection.request(method, target, data, sent)
                return connection.getresponse()
            except BROKEN as error:
                self.close()
                # 旧连接可能早被对面关了，换新的再送一次；新连接还不行就是真的不行。
                if fresh or not repeatable:
                    raise Unreachable(f"与 {self.url} 的连接断了（{_why(error)}）") from error

    def _connected(self, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        """可用的连接，以及它是不是新建的。"""
        current = self._connection
        if current is not None and current.sock is not None:
            # 空闲的连接上不该有东西可读：可读就是对面已经关了。
            idle = select.poll()
            idle.register(current.sock, select.POLLIN)
            if not idle.poll(0):
                current.sock.settimeout(timeout_s)
                return current, False
            self.close()
        factory = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = factory(self._host, self._port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            taken_from = f"，地址取自 {self._source}" if self._source else ""
            raise Unreachable(
                f"连不上 {self.url}（{_why(error)}{taken_from}）；系统在运行吗？可用 scns up 启动"
            ) from error
        self._connection = connection
        return connection, True


def _repeatable(method: str, headers: Mapping[str, str]) -> bool:
    return method in REPEATABLE or "Idempotency-Key" in headers


def _problem(response: http.client.HTTPResponse, body: bytes) -> Problem:
    found = Problem.from_answer(response.status, response.reason, body, response.getheader("Retry-After"))
    found.request_id = response.getheader("X-Request-Id")
    return found


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "超时"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(str(item) for item in value)
    return str(value)
