"""替用户往外送的一个请求：先解析、核对地址，再连核对过的那个地址；不跟重定向；到时候就断。"""

import http.client
import socket
import ssl
import threading
import time
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from scns_conductor.core.outbound import Networks, refusal

# 那边的回答至多看这么多（字节）：群消息的错误写在里面。
ANSWER_MOST = 4096
_LONGEST_WAIT_S = 3600.0


class Answer(NamedTuple):
    """那边答的；retry_after_s 是它要求等的秒数。"""

    status: int
    body: bytes
    retry_after_s: float | None


class AddressRefused(Exception):
    """主机的地址不许连。"""


def post(url: str, headers: dict[str, str], body: bytes, allowed: Networks, limit_s: float) -> Answer:
    """送一次。地址都不许连抛 AddressRefused；连不上、断了、limit_s 秒里没有答完抛 OSError 或 HTTPException。"""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    connection = _Checked(parts.hostname or "", parts.port or (443 if tls else 80), allowed, limit_s, tls=tls)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    watch = threading.Timer(limit_s, connection.abort)
    watch.daemon = True
    watch.start()
    try:
        connection.request("POST", path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(ANSWER_MOST), _retry_after(answer.getheader("Retry-After")))
    except (OSError, http.client.HTTPException):
        # 插口自己的时限与看着的那个同时到，谁先醒都是一回事。
        if connection.late:
            raise TimeoutError(f"{limit_s:g} 秒里没有答完") from None
        raise
    finally:
        watch.cancel()
        connection.close()


class _Checked(http.client.HTTPConnection):
    """连核对过的地址；名字只解析一次，之后它改指别处也没有用。"""

    def __init__(self, host: str, port: int, allowed: Networks, limit_s: float, *, tls: bool) -> None:
        super().__init__(host, port)
        self.default_port = 443 if tls else 80
        self._allowed = allowed
        self._deadline = time.monotonic() + limit_s
        self._tls = tls

    def connect(self) -> None:
        """连上（与加密）。"""
        problem: OSError | None = None
        for family, address in self._permitted():
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                self._wait()
                self.sock.connect(address)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls:
                    self.sock = _tls_context().wrap_socket(
                        self.sock, server_hostname=self.host, do_handshake_on_connect=False
                    )
                    self._wait()
                    self.sock.do_handshake()
            except OSError as error:
                problem = error
                self.sock.close()
                self.sock = None
            else:
                return
        raise problem or OSError(f"{self.host} 没有地址")

    def _permitted(self) -> list[tuple[int, tuple[object, ...]]]:
        found, refused = [], []
        for family, _, _, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            why = refusal(ip_address(str(address[0]).partition("%")[0]), self._allowed)
            if why is None:
                found.append((int(family), tuple(address)))
            else:
                refused.append(why)
        if refused and not found:
            raise AddressRefused(refused[0])
        return found

    def _wait(self) -> None:
        assert self.sock is not None
        self.sock.settimeout(max(0.001, self._deadline - time.monotonic()))

    @property
    def late(self) -> bool:
        """到时候了。"""
        return time.monotonic() >= self._deadline

    def abort(self) -> None:
        """在另一个线程里断开，正等着的立即醒来。"""
        found = self.sock
        if found is not None:
            try:
                # 加密的也只断底下的连接：不等那边告别。
                socket.socket.shutdown(found, socket.SHUT_RDWR)
            except OSError:
                return


@lru_cache(maxsize=1)
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _retry_after(text: str | None) -> float | None:
    return min(_LONGEST_WAIT_S, float(text)) if text is not None and text.isascii() and text.isdigit() else None
