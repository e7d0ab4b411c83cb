"""HTTP/1.1 的一来一回（RFC 9112）：请求的字节，回答的头，正文有多长。两种收发（同步、异步）共用，只管字节。

不用 http.client：它装载整个 email 包与 ssl，一条命令的四分之一时间就花在那里。
"""

from collections.abc import Mapping
from typing import NamedTuple

# 头（连同状态行）至多这么长（字节）。
MOST_HEAD = 1 << 20
# 正文一次至多读这么多（字节）。
MOST_PART = 1 << 20


class Head(NamedTuple):
    """回答的状态行与头；头的名字是小写。"""

    version: str
    status: int
    reason: str
    headers: dict[str, str]

    @property
    def keeps(self) -> bool:
        """收完之后连接还能再用；HTTP/1.0 的要说了 keep-alive。"""
        words = {word.strip() for word in self.headers.get("connection", "").lower().split(",")}
        return "keep-alive" in words if self.version == "HTTP/1.0" else "close" not in words

    @property
    def empty(self) -> bool:
        """没有正文。"""
        return self.status in (204, 304)

    @property
    def chunked(self) -> bool:
        """正文是分块的。"""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        """正文有多少字节；到断开为止的是 None。写坏了抛 ValueError。"""
        found = self.headers.get("content-length")
        return None if found is None else _size(found, 10)


def request_bytes(method: str, authority: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """一个请求，连同正文。头里有换行抛 ValueError。"""
    lines = {"Host": authority, "Accept-Encoding": "identity", **headers}
    if body is not None or method in ("POST", "PUT", "PATCH"):
        lines["Content-Length"] = str(len(body or b""))
    if any("\r" in value or "\n" in value for value in lines.values()):
        raise ValueError("请求的头里有换行")
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode("latin-1") + (body or b"")


def parse_head(data: bytes) -> Head | None:
    """到空行为止的头；还只是 1xx（100 Continue）返回 None。不是 HTTP 抛 ValueError。"""
    first, *lines = data.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise ValueError("对面说的不是 HTTP")
    if int(status) < 200:
        return None
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            headers[name.strip().lower()] = value.strip()
    return Head(version, int(status), reason, headers)


def chunk_size(line: bytes) -> int:
    """分块的那一行 -> 这一块多少字节；写坏了抛 ValueError。"""
    return _size(line.split(b";")[0].decode("latin-1").strip(), 16)


def _size(text: str, base: int) -> int:
    # int 还认得正负号、下划线。
    if not text.isalnum():
        raise ValueError("回答的长度写坏了")
    return int(text, base)
