"""回答的头与正文合成一次写：uvicorn 各写一次，多一个系统调用，收的一方也多醒一次。"""

import asyncio
from typing import Any

_HEAD = b"HTTP/1.1 "


class OneWrite:
    """套在连接上：头留到正文来了一起写；正文没有马上来的（跟着看的输出），这一轮完了就写。"""

    __slots__ = ("_held", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        # 一个请求要问好几遍，不绕一道。
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """次序不变，至多晚到这一轮的末尾。"""
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(_HEAD):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def _flush(self) -> None:
        data, self._held = self._held, b""
        if data and not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """写完再关。"""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
