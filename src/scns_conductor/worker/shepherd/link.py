"""牧守进程与一个客户端的连接：收请求、发回答；代理的连接还会收到结束记录，成批推送。"""

from __future__ import annotations

import socket
from collections import deque

from scns_conductor.worker.wire.frames import RECEIVE_BYTES, FrameBuffer, encode
from scns_conductor.worker.wire.record import OLDEST_VERSION
from scns_conductor.worker.wire.shepherd_messages import EndsPush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scns_conductor.worker.wire.end_record import EndRecord

ENDS_PER_PUSH = 500
# 对方读得慢时先不推：结束记录反正留着，等缓冲排空再说。
PUSH_BELOW_BYTES = 1024**2


class Link:
    """attached 为真的连接接收结束记录；pending 是还没有推给它的；version 是与它说的哪一版（问候时商定）。"""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.attached = False
        self.version = OLDEST_VERSION
        self.pending: deque[EndRecord] = deque()
        self._frames = FrameBuffer()
        self._out = bytearray()

    def receive(self) -> list[dict[str, object]] | None:
        """收一次；对方关闭返回 None，报文不合法抛 WireError。"""
        try:
            chunk = self.connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._frames.feed(chunk) if chunk else None

    def send(self, message: Mapping[str, object]) -> None:
        """排进发送缓冲。"""
        self._out += encode(message, self.version)

    def flush(self) -> bool:
        """尽量发送，并在缓冲不多时推送结束记录；连接已断返回 False。"""
        while True:
            while self.pending and len(self._out) < PUSH_BELOW_BYTES:
                count = min(ENDS_PER_PUSH, len(self.pending))
                batch = [self.pending.popleft().to_wire(self.version) for _ in range(count)]
                self.send(EndsPush(v=self.version, ends=batch).to_wire())
            if not self._out:
                return True
            try:
                sent = self.connection.send(self._out)
            except BlockingIOError:
                return True
            except OSError:
                return False
            del self._out[:sent]

    @property
    def wants_write(self) -> bool:
        """还有没发完的。"""
        return bool(self._out)
