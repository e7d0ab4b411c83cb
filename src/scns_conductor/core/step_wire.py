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
# 两个方向：X11 的一路（数是第几路）的字节、没有了、写进了几个字节；节点上有新的 X 客户就是新的一路。
X11 = X11_DATA, X11_END, X11_TAKEN = range(66, 69)

ALL_TASKS = -1
MOST_PAYLOAD = 4 * 1024**2
PART = 1024**2
# 发出去的字节这么久没有人确认，就当对面不在了。
SILENCE_MS = 60_000
_HEADER = struct.Struct("!BiI")


def place_name(node: str, component: int) -> str:
    """异构作业的一步里，第 component 个部分在这个节点上的那一份叫什么：两个部分可以在同一个节点上。"""
    return f"{node}+{component}" if component else node


def node_of_place(place: str) -> str:
    """place_name 里的节点名。"""
    return place.partition("+")[0]


def component_of_place(place: str) -> int:
    """place_name 里的第几个部分。"""
    return int(place.partition("+")[2] or 0)


class FrameError(ValueError):
    """对面说的不是这个协议。"""


def frame(kind: int, number: int = 0, payload: bytes = b"") -> bytes:
    """一帧的字节。"""
    return _HEADER.pack(kind, number, len(payload)) + payload


def frames(kind: int, number: int, payload: bytes) -> Iterator[bytes]:
    """内容太长时分成几帧；空的没有帧。"""
    for begin in range(0, len(payload), PART):
        yield frame(kind, number, payload[begin : begin + PART])


def hello_frame(key: str, node: str, ranks: list[int], pid: int) -> bytes:
    """节点连过来的第一帧：口令、自己是谁、有哪些任务。"""
    return _json_frame(HELLO, 0, {"key": key, "node": node, "ranks": ranks, "pid": pid})


def read_hello(payload: bytes) -> tuple[str, str]:
    """（口令，节点名）；不成样子抛 FrameError。"""
    hello = _read_json(payload)
    return str(hello.get("key")), str(hello.get("node"))


def started_frame(pids: dict[int, int]) -> bytes:
    """任务都启动了；pids 是各任务的进程号。"""
    return _json_frame(STARTED, 0, {"pids": {str(rank): pid for rank, pid in pids.items()}})


def exited_frame(rank: int, status: int) -> bytes:
    """一个任务结束了；status 是 wait 的状态。"""
    return _json_frame(EXITED, rank, {"status": status})


def read_status(payload: bytes) -> int:
    """exited_frame 里的 status；不成样子抛 FrameError。"""
    return _read_number(_read_json(payload), "status")


def window_frame(rows: int, columns: int) -> bytes:
    """终端的大小。"""
    return _json_frame(WINDOW, 0, {"rows": rows, "columns": columns})


def read_window(payload: bytes) -> tuple[int, int]:
    """（行，列）；不成样子抛 FrameError。"""
    size = _read_json(payload)
    return _read_number(size, "rows"), _read_number(size, "columns")


def count_frame(kind: int, number: int, count: int) -> bytes:
    """第 number 路的 count 个字节。"""
    return _json_frame(kind, number, {"count": count})


def read_count(payload: bytes) -> int:
    """count_frame 里的 count；不成样子抛 FrameError。"""
    return _read_number(_read_json(payload), "count")


def _json_frame(kind: int, number: int, value: dict[str, Any]) -> bytes:
    return frame(kind, number, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape"))


def _read_json(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise FrameError(f"内容不是 JSON：{error}") from error
    if not isinstance(value, dict):
        raise FrameError("内容不是映射")
    return value


def _read_number(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if not isinstance(number, int):
        raise FrameError(f"{name} 不是整数")
    return number


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
