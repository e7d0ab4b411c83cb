"""X11 的转发：两头各有一组本地的套接字，字节分路（一个 X 客户一路）经作业步的连接走。

srun 与作业步的主人共用，只用标准库。一路至多有 WINDOW 字节还没有写进对面的套接字（对面用 X11_TAKEN 说写了多少）：
慢的一路不拖住别的，也不占许多内存。
"""

from __future__ import annotations

import selectors
import socket

from scns_conductor.core import step_wire as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 1024**2
CHUNK = 64 * 1024


class Channel:
    """一个 X 客户的一路：待写给本地的套接字的，与送出去还没有写进对面的字节数。

    own 是 out 开头不是对面送来的字节数，写了不用告诉它；ended 是对面断了，写完就关。
    """

    def __init__(self, number: int, connection: socket.socket, first: bytes) -> None:
        self.number = number
        self.socket = connection
        self.out = bytearray(first)
        self.own = len(first)
        self.unwritten = 0
        self.ended = False
        self.watching = 0


class Tunnel:
    """一个连接上的各路；send 把帧发给对面，tag 是一路在 selector 里的 data。"""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        *,
        send: Callable[[bytes], None],
        tag: Callable[[Channel], object],
    ) -> None:
        self._selector = selector
        self._send = send
        self._tag = tag
        self._channels: dict[int, Channel] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, number: int) -> bool:
        return number in self._channels

    def add(self, number: int, connection: socket.socket, first: bytes = b"") -> None:
        """新的一路；connection 从此归这里管，first 是先写给它的。"""
        connection.setblocking(False)
        channel = self._channels[number] = Channel(number, connection, first)
        self._push(channel)

    def take(self, kind: int, number: int, payload: bytes) -> None:
        """对面来的一帧；已经没有了的那一路不理。"""
        channel = self._channels.get(number)
        if channel is None:
            return
        if kind == wire.X11_DATA:
            channel.out += payload
            self._push(channel)
        elif kind == wire.X11_TAKEN:
            channel.unwritten -= wire.read_count(payload)
            self._watch(channel)
        elif kind == wire.X11_END:
            channel.ended = True
            self._push(channel)

    def serve(self, channel: Channel, events: int) -> None:
        """本地的套接字有动静；同一批里刚断开的不理。"""
        if self._channels.get(channel.number) is not channel:
            return
        if events & selectors.EVENT_WRITE:
            self._push(channel)
        if not events & selectors.EVENT_READ or channel.number not in self._channels:
            return
        try:
            data = channel.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(channel, tell=True)
            return
        channel.unwritten += len(data)
        self._watch(channel)
        self._send(wire.frame(wire.X11_DATA, channel.number, data))

    def close(self) -> None:
        """各路都断开。"""
        for channel in list(self._channels.values()):
            self._drop(channel, tell=False)

    def _push(self, channel: Channel) -> None:
        """写得动多少写多少，写了的告诉对面。"""
        before = len(channel.out)
        try:
            while channel.out:
                del channel.out[: channel.socket.send(memoryview(channel.out)[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(channel, tell=True)
            return
        written = before - len(channel.out)
        own = min(written, channel.own)
        channel.own -= own
        if channel.ended and not channel.out:
            self._drop(channel, tell=False)
            return
        self._watch(channel)
        if written > own:
            self._send(wire.count_frame(wire.X11_TAKEN, channel.number, written - own))

    def _watch(self, channel: Channel) -> None:
        reads = not channel.ended and channel.unwritten < WINDOW
        wanted = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if channel.out else 0)
        if wanted == channel.watching:
            return
        if not channel.watching:
            self._selector.register(channel.socket, wanted, self._tag(channel))
        elif wanted:
            self._selector.modify(channel.socket, wanted, self._tag(channel))
        else:
            self._selector.unregister(channel.socket)
        channel.watching = wanted

    def _drop(self, channel: Channel, *, tell: bool) -> None:
        del self._channels[channel.number]
        if channel.watching:
            self._selector.unregister(channel.socket)
        channel.socket.close()
        if tell and not channel.ended:
            self._send(wire.frame(wire.X11_END, channel.number))
