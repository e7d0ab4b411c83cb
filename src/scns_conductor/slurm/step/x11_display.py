"""--x11 在提交的机器上的一头：节点上的 X 客户经作业步的连接到这里，核对、换上真的口令再转给自己的显示。

节点上的是现造的口令：那台机器上别人连得到那个端口，连不进这个显示；真的口令不离开这台机器（同 ssh -Y）。
"""

import contextlib
import hmac
import secrets
import selectors
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scns_conductor.core import step_wire as wire
from scns_conductor.core.x11_tunnel import Tunnel
from scns_conductor.slurm.session import Fatal, say

WHERE = ("all", "batch", "first", "last")
# salloc --x11 告诉里面的 srun；没有显示、没有口令时不算错。
VARIABLE = "SRUN_X11"
_COOKIE_KIND = b"MIT-MAGIC-COOKIE-1"
_BASE_PORT = 6000
_WAIT_S = 10.0
# 连接的开头：字节次序、版本、口令的种类与内容有多长。
_GREETING = 12
_MOST_GREETING = 8192


@dataclass(slots=True)
class X11Display:
    """display 是这里的 DISPLAY，cookie 是它真的口令，where 是哪些节点；fake 是节点上用的。"""

    display: str
    cookie: bytes
    where: str
    fake: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def description(self) -> dict[str, str]:
        """给 API 的 x11。"""
        return {"nodes": self.where, "cookie": self.fake.hex()}

    def connect(self) -> socket.socket:
        """连到显示；连不上抛 OSError。"""
        host, _, rest = self.display.rpartition(":")
        number = int(rest.partition(".")[0])
        if host.startswith("/"):
            return _unix(f"{host}:{rest}")
        if host in ("", "unix") or host.endswith("/unix"):
            return _unix(f"/tmp/.X11-unix/X{number}")
        return socket.create_connection((host.strip("[]"), _BASE_PORT + number), timeout=_WAIT_S)


def display_of(given: Mapping[str, str], environment: Mapping[str, str], command: str) -> X11Display | None:
    """--x11（没有写的看 SRUN_X11）要的；没有要是 None。没有显示、取不到口令抛 Fatal，只是变量说的就说一句。"""
    where = given.get("x11") if "x11" in given else environment.get(VARIABLE)
    if where is None:
        return None
    where = where or "all"
    try:
        if where not in WHERE:
            raise Fatal("Invalid --x11 specification")
        display = environment.get("DISPLAY", "")
        if not display.rpartition(":")[2].partition(".")[0].isdecimal():
            raise Fatal("No DISPLAY variable set, cannot setup x11 forwarding.")
        return X11Display(display, _cookie(display), where)
    except Fatal as fault:
        if "x11" in given:
            raise
        say(command, f"warning: {'; '.join(fault.lines)}")
        return None


def _unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _cookie(display: str) -> bytes:
    """xauth 说的；localhost 的记在本机的名字下（同 ssh）。"""
    name = display.replace("localhost:", "unix:", 1) if display.startswith("localhost:") else display
    try:
        listed = subprocess.run(
            ["xauth", "list", name], capture_output=True, text=True, timeout=_WAIT_S, check=False
        ).stdout
    except FileNotFoundError:
        raise Fatal("xauth not found, cannot use X11 forwarding.") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Fatal(f"xauth: {error}") from None
    for line in listed.splitlines():
        words = line.split()
        if len(words) == 3 and words[1].encode() == _COOKIE_KIND:
            with contextlib.suppress(ValueError):
                return bytes.fromhex(words[2])
    raise Fatal("Could not retrieve magic cookie. Cannot use X11 forwarding.")


class X11Link:
    """一个节点来的各路 X 客户；send 把帧发给那个节点。"""

    def __init__(self, display: X11Display, selector: selectors.BaseSelector, send: Callable[[bytes], None]) -> None:
        self._display = display
        self._send = send
        self._greetings: dict[int, bytearray] = {}
        self._tunnel = Tunnel(selector, send=send, tag=lambda channel: (self, channel))
        self.serve = self._tunnel.serve

    def take(self, kind: int, number: int, payload: bytes) -> None:
        """节点来的一帧。"""
        if number in self._tunnel:
            self._tunnel.take(kind, number, payload)
        elif kind == wire.X11_END:
            self._greetings.pop(number, None)
        elif kind == wire.X11_DATA:
            greeting = self._greetings.setdefault(number, bytearray())
            greeting += payload
            self._send(wire.count_frame(wire.X11_TAKEN, number, len(payload)))
            self._greet(number, bytes(greeting))

    def close(self) -> None:
        """节点没有了。"""
        self._tunnel.close()

    def _greet(self, number: int, greeting: bytes) -> None:
        try:
            first = with_cookie(greeting, self._display.fake, self._display.cookie)
            if first is None:
                return
            connection = self._display.connect()
        except (OSError, ValueError) as error:
            del self._greetings[number]
            say("srun", f"error: X11 connection rejected: {error}")
            self._send(wire.frame(wire.X11_END, number))
            return
        del self._greetings[number]
        self._tunnel.add(number, connection, first)


def with_cookie(greeting: bytes, fake: bytes, cookie: bytes) -> bytes | None:
    """X 连接的开头（X Window System Protocol 的 Connection Setup）里 fake 换成 cookie。

    还没有到齐是 None，口令不对、不是 X 客户抛 ValueError。
    """
    if len(greeting) < _GREETING:
        return None
    order = {b"B": ">", b"l": "<"}.get(greeting[:1])
    if order is None:
        raise ValueError("not an X11 client")
    kind_length, data_length = struct.unpack_from(f"{order}HH", greeting, 6)
    kind_end = _GREETING + _padded(kind_length)
    whole = kind_end + _padded(data_length)
    if whole > _MOST_GREETING:
        raise ValueError("not an X11 client")
    if len(greeting) < whole:
        return None
    kind = greeting[_GREETING : _GREETING + kind_length]
    data = greeting[kind_end : kind_end + data_length]
    if kind != _COOKIE_KIND or not hmac.compare_digest(data, fake):
        raise ValueError("wrong authentication")
    head = bytearray(greeting[:kind_end])
    struct.pack_into(f"{order}H", head, 8, len(cookie))
    return bytes(head) + cookie.ljust(_padded(len(cookie)), b"\0") + greeting[whole:]


def _padded(length: int) -> int:
    return (length + 3) // 4 * 4
