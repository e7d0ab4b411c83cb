"""作业步的主人到一个客户（srun，或后来的 sattach）的连接：待发的字节、收到的帧、还欠着的输入。"""

from __future__ import annotations

import os
import selectors
import socket
import sys

from scns_conductor.core import step_wire as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from scns_conductor.worker.wire.step_spec import ClientAddress

CHUNK = 256 * 1024
CONNECT_WAIT_S = 5.0


class Link:
    """primary 的是启动这一步的 srun：它断了任务就没有人要了；后来接上的断了不要紧。"""

    def __init__(self, connection: socket.socket, *, primary: bool) -> None:
        self.primary = primary
        self.out = bytearray()
        self.said_goodbye = False
        self._socket = connection
        self._reader = wire.FrameReader()
        self._selector: selectors.BaseSelector | None = None

    def watch(self, selector: selectors.BaseSelector) -> None:
        """开始收发。"""
        self._selector = selector
        selector.register(self._socket, selectors.EVENT_READ, ("link", self))

    def send(self, data: bytes) -> bool:
        """排进待发的并尽量发；断了返回 False。"""
        self.out += data
        return self.push()

    def push(self) -> bool:
        """发掉发得动的；断了返回 False。"""
        try:
            while self.out:
                sent = self._socket.send(memoryview(self.out)[:CHUNK])
                del self.out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            return False
        if self._selector is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
            self._selector.modify(self._socket, events, ("link", self))
        return True

    def receive(self) -> Iterator[tuple[int, int, bytes]]:
        """收到的帧；断了抛 OSError，说的不是这个协议抛 wire.FrameError。"""
        try:
            chunk = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            raise ConnectionResetError("对面关了")
        yield from self._reader.feed(chunk)

    def close(self) -> None:
        """不再收发。"""
        if self._selector is not None:
            self._selector.unregister(self._socket)
        self._socket.close()
        self.out.clear()


def connect(wanted: ClientAddress, node: str, ranks: list[int], *, primary: bool) -> Link | None:
    """逐个地址试着连过去并报上口令；都连不上返回 None，原因写进标准错误。"""
    for address in wanted.addresses:
        try:
            connection = socket.create_connection((address, wanted.port), timeout=CONNECT_WAIT_S)
        except OSError as error:
            print(f"连不上 {address}:{wanted.port}：{error}", file=sys.stderr)
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.probe_silence(connection)
        connection.setblocking(False)
        link = Link(connection, primary=primary)
        link.send(wire.hello_frame(wanted.key, node, ranks, os.getpid()))
        return link
    return None
