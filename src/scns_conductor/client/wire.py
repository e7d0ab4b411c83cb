"""一次 HTTP 往来里与怎样收发无关的部分：地址、请求的字节、回答、错误、等多久再送。两种收发（同步、异步）共用。"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from scns_conductor.client.problem import EndpointUnknown, NotText, Problem, Unreachable
from scns_conductor.language import own_language

# 重送不会多做一次的方法（RFC 9110 §9.2.2）；带 Idempotency-Key 的 POST 也算。
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
# 这些 503 一定什么也没有改：哪个方法都可以再送。
UNCHANGED = frozenset({"database_read_only", "transaction_conflict", "notify_queue_full"})
# 连不上时隔多久再试（秒），一次比一次久。
RECONNECT_FIRST_S = 0.1
RECONNECT_MOST_S = 2.0
# 本机的套接字：unix:///run/scns-conductor/api.sock。
SOCKET_SCHEME = "unix:"


class Answer(NamedTuple):
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


class Times(NamedTuple):
    """一个客户端等多久，都是秒。

    timeout_s：一次收发里，两次来数据之间。
    patience_s：服务器暂时不行（503、429）时，读与提交照 Retry-After 再送，总共等这么久。
    reconnect_s：连不上、断了，重送不会多做一次的请求接着试这么久。deadline_s：一个请求连同重送至多这么久，None 不限。
    """

    timeout_s: float = 60.0
    patience_s: float = 0.0
    reconnect_s: float = 0.0
    deadline_s: float | None = None


def _bad_address(url: str) -> Unreachable:
    return Unreachable(f"地址 {url!r} 不对，应如 http://127.0.0.1:6820、unix:///run/scns-conductor/api.sock")


class Place:
    """一个 API 的地址与每个请求都带的头。"""

    def __init__(
        self, url: str, token: str | None, source: str = "", renew: Callable[[], str | None] | None = None
    ) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
        except ValueError as error:
            raise _bad_address(url) from error
        try:
            port = parts.port
        except ValueError as error:
            raise Unreachable(f"地址 {url!r} 的端口不对") from error
        # 本机的套接字，也是 HTTP；不是它时是 None。
        self.socket = unquote(parts.path) if parts.scheme == "unix" and not parts.netloc and parts.path else None
        if self.socket is None and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise _bad_address(url)
        # 要原样写进请求行的。
        if not (parts.path.isascii() and parts.path.isprintable()) or " " in parts.path:
            raise _bad_address(url)
        if token and not (token.isascii() and token.isprintable()):
            raise EndpointUnknown("令牌里有不该有的字符；请检查 SCNS_TOKEN，或用 scns token 重新签发")
        self.url = url
        self.https = parts.scheme == "https"
        self.host = parts.hostname or "localhost"
        usual = 443 if self.https else 80
        self.port = port or usual
        shown = f"[{self.host}]" if ":" in self.host else self.host
        # 请求的 Host。
        self.authority = shown if self.port == usual else f"{shown}:{self.port}"
        self._prefix = "" if self.socket else parts.path.rstrip("/")
        self._source = source
        self._headers = {"Accept": "application/json, */*", "Accept-Language": own_language()}
        self.token = token
        self._renew = renew

    def renewed(self, refused: str | None) -> bool:
        """refused 这个令牌不行了：已经换过，或现在换得到新的，就可以再来；没有新的是假。"""
        if self.token == refused and self._renew is not None:
            token = self._renew()
            if token and token.isascii() and token.isprintable():
                self.token = token
        return self.token != refused

    def encode(
        self, path: str, query: Mapping[str, Any] | None, body: Any, headers: Mapping[str, str]
    ) -> tuple[str, bytes | None, dict[str, str]]:
        """(目标, 正文, 头)；有不是 UTF-8 的字节抛 NotText。"""
        pairs = [(name, _text(value)) for name, value in (query or {}).items() if value is not None]
        sent = {**self._headers, **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        data = None
        try:
            target = self._prefix + path + ("?" + urlencode(pairs) if pairs else "")
            if body is not None:
                data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
                sent["Content-Type"] = "application/json"
        except UnicodeEncodeError as error:
            raise NotText(f"要送的 {error.object[:64]!r} 里有不是 UTF-8 的字节；名字、路径与参数请用 UTF-8") from error
        return target, data, sent

    def nobody(self, error: BaseException) -> Unreachable:
        """连不上。"""
        why = f"{_why(error)}，地址取自 {self._source}" if self._source else _why(error)
        return Unreachable(f"连不上 {self.url}（{why}）；系统在运行吗？可用 scns up 启动")

    def broken(self, error: BaseException) -> Unreachable:
        """连着的断了。"""
        return Unreachable(f"与 {self.url} 的连接断了（{_why(error)}）")


class Attempts:
    """一个请求的各次尝试：失败了还能不能再送，隔多久。"""

    def __init__(
        self,
        times: Times,
        place: Place,
        method: str,
        headers: Mapping[str, str],
        on_wait: Callable[[Problem, float], None] | None = None,
    ) -> None:
        now = time.monotonic()
        self._times = times
        self._place, self._token = place, place.token
        self._repeatable = repeatable(method, headers)
        self._on_wait = on_wait
        self._patient_until = now + times.patience_s
        self._deadline = None if times.deadline_s is None else now + times.deadline_s
        self._away_since: float | None = None
        self._pause_s = RECONNECT_FIRST_S

    @property
    def timeout_s(self) -> float:
        """这一次至多等多久；期限到了抛 Unreachable。"""
        if self._deadline is None:
            return self._times.timeout_s
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Unreachable(f"{self._times.deadline_s:g} 秒里没有得到回答")
        return min(self._times.timeout_s, left)

    def again_after(self, error: Problem | Unreachable) -> float:
        """隔几秒再送；不该再送的把 error 抛出。"""
        now = time.monotonic()
        if isinstance(error, Problem):
            # 没有认出是谁，就什么也没有做：换了令牌哪个方法都可以再送。
            if error.status == 401 and self._place.renewed(self._token):
                self._token = self._place.token
                return 0.0
            wait_s = error.retry_after_s
            safe = error.code in UNCHANGED or self._repeatable
            if error.status not in (429, 503) or wait_s is None or not safe or now + wait_s > self._patient_until:
                raise error
            if self._on_wait is not None:
                self._on_wait(error, wait_s)
        else:
            self._away_since = self._away_since or now
            wait_s, self._pause_s = self._pause_s, min(self._pause_s * 2, RECONNECT_MOST_S)
            if not self._repeatable or now + wait_s > self._away_since + self._times.reconnect_s:
                raise error
        if self._deadline is not None and now + wait_s > self._deadline:
            raise error
        return wait_s


def repeatable(method: str, headers: Mapping[str, str]) -> bool:
    """重送不会多做一次。"""
    return method in REPEATABLE or "Idempotency-Key" in headers


def problem(status: int, reason: str, headers: Mapping[str, str], body: bytes) -> Problem:
    """HTTP 的错误回答；headers 的名字是小写。"""
    found = Problem.from_answer(status, reason, body, headers.get("retry-after"))
    found.request_id = headers.get("x-request-id")
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
