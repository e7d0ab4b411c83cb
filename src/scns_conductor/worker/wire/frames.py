"""代理与牧守进程之间的报文：4 字节大端长度 + UTF-8 JSON；每个报文带着它照哪一版写的（v）。

请求 {"v","id","op",…}，回答 {"v","id","ok",…}，推送 {"v","event",…}。
"""

from __future__ import annotations

import json

from scns_conductor.worker.wire.compact_json import compact_encoder
from scns_conductor.worker.wire.record import PROTOCOL_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# 一批启动说明可含许多份 16 MiB 的脚本；再大就不像是代理发来的了。
MAX_FRAME_BYTES = 256 * 1024**2
# 一次至多收这么多。要得多，Python 每次先占下那么大一块再截短，几个线程里就把堆切得七零八落，还不回去。
RECEIVE_BYTES = 64 * 1024
# 牧守进程的目录里：套接字、日志、锁。
SOCKET_NAME = "shepherd.sock"
JOURNAL_NAME = "shepherd.journal"
LOCK_NAME = "shepherd.lock"

_encode = compact_encoder(ensure_ascii=False)


class WireError(Exception):
    """报文不合法；连接应当关闭。"""


def encode(message: Mapping[str, object], version: int = PROTOCOL_VERSION) -> bytes:
    """照 version 这一版写的报文 -> 字节。"""
    body = _encode({"v": version, **message}).encode("utf-8", "surrogateescape")
    return len(body).to_bytes(4, "big") + body


class FrameBuffer:
    """把收到的字节流切成报文。"""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, chunk: bytes) -> list[dict[str, object]]:
        """加入收到的字节，返回其中完整的报文；过大或不是 JSON 映射时抛 WireError。"""
        data = self._data
        data += chunk
        messages: list[dict[str, object]] = []
        start = 0
        while len(data) - start >= 4:
            size = int.from_bytes(data[start : start + 4], "big")
            if size > MAX_FRAME_BYTES:
                raise WireError(f"报文长 {size} 字节，超过上限 {MAX_FRAME_BYTES}")
            if len(data) - start - 4 < size:
                break
            body = bytes(data[start + 4 : start + 4 + size])
            start += 4 + size
            try:
                message = json.loads(body.decode("utf-8", "surrogateescape"))
            except ValueError as error:
                raise WireError(f"报文不是合法的 JSON：{error}") from error
            if not isinstance(message, dict):
                raise WireError("报文必须是 JSON 映射")
            messages.append(message)
        del data[:start]
        return messages
