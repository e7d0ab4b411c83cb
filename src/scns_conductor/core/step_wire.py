"""作业步与 srun 之间的帧：类型、任务序号（或别的数）、长度、内容。两边都只用标准库。"""

from __future__ import annotations

import json
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# 节点 -> srun
HELLO, STDOUT, STDERR, STARTED, EXITED, TAKEN, DONE, ABORT = range(1, 9)
# srun -> 节点
STDIN, STDIN_END, SIGNAL, WINDOW, BYE = range(32, 37)
# 两个方向：各节点交出一份，srun 等齐了把全部的都发给每个节点（PMI 的 fence）。
GATHER, GATHER_END = range(64, 66)

ALL_TASKS = -1
MOST_PAYLOAD = 4 * 1024**2
PART = 1024**2
# 发出去的字节这么久没有人确认，就当对面不在了。
SILENCE_MS = 60_000
_HEADER = struct.Struct("!BiI")


class FrameError(ValueError):
    """对面说的不是这个协议。"""


def frame(kind: int, number: int = 0, payload: bytes = b"") -> bytes:
    """一帧的字节。"""
    return _HEADER.pack(kind, number, len(payload)) + payload


def frames(kind: int, number: int, payload: bytes) -> Iterator[bytes]:
    """内容太长时分成几帧；空的没有帧。"""
    for begin in range(0, len(payload), PART):
        yield frame(kind, number, payload[begin : begin + PART])


def json_frame(kind: int, number: int, value: dict[str, Any]) -> bytes:
    """内容是 JSON 的一帧。"""
    return frame(kind, number, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape"))


class FrameReader:
    """一段段收到的字节 -> 完整的帧。"""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """收下一段，给出其中完整的帧 (类型, 数, 内容)；长度不合理抛 FrameError。"""
        self._data += chunk
        position = 0
        while len(self._data) - position >= _HEADER.size:
            kind, number, length = _HEADER.unpack_from(self._data, position)
            if length > MOST_PAYLOAD:
                raise FrameError(f"一帧有 {length} 字节，多于 {MOST_PAYLOAD}")
            begin = position + _HEADER.size
            if len(self._data) - begin < length:
                break
            position = begin + length
            yield kind, number, bytes(self._data[begin:position])
        del self._data[:position]


def probe_silence(connection: socket.socket) -> None:
    """对面的机器无声地没了（断电、断网）：约一分钟之内断开，而不是系统缺省的两小时。"""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
