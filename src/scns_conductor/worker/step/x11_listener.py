"""srun --x11 在节点上的一头：像 sshd 那样听一个回环的 X 显示号，一个 X 客户是经 srun 的连接回去的一路。

任务的 DISPLAY 指着它，XAUTHORITY 是这一步自己的文件，里面是 srun 造的口令：口令由 srun 核对，真的从不离开提交的机器。
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import struct

from scns_conductor.core import step_wire as wire
from scns_conductor.core.x11_tunnel import Tunnel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scns_conductor.core.x11_tunnel import Channel
    from scns_conductor.worker.wire.step_spec import StepSpec

# 从哪个显示号找起（同 sshd），找到哪里为止；一步里一个节点至多这么多个 X 客户。
FIRST_DISPLAY, LAST_DISPLAY = 10, 999
BASE_PORT = 6000
MOST_CLIENTS = 256
_FAMILY_LOCAL, _FAMILY_WILD = 256, 65535


class X11Listener:
    """send 把帧发给 srun。口令文件在要建的目录（x11_folder）里面：xauth 要在旁边建它的锁，所以目录也归用户。"""

    def __init__(self, spec: StepSpec, selector: selectors.BaseSelector, *, send: Callable[[bytes], None]) -> None:
        self._spec = spec
        self._folder = str(spec.x11_folder)
        self._selector = selector
        self._send = send
        self._listener: socket.socket | None = None
        self._clients = 0
        self.tunnel = Tunnel(selector, send=send, tag=lambda channel: ("x11", channel))

    def open(self) -> dict[str, str]:
        """开始听；返回任务要的变量。没有要的、听不了的（说一句）是空的。"""
        if self._spec.x11_cookie is None:
            return {}
        listener = None
        try:
            listener, display = _free_display()
            self._write_cookie(display, bytes.fromhex(self._spec.x11_cookie))
        except OSError as error:
            if listener is not None:
                listener.close()
            text = f"slurmstepd: error: X11 forwarding: {error}\n"
            self._send(wire.frame(wire.STDERR, self._spec.ranks[0], text.encode("utf-8", "replace")))
            return {}
        self._listener = listener
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, ("x11", None))
        return {"DISPLAY": f"localhost:{display}.0", "XAUTHORITY": f"{self._folder}/Xauthority"}

    def serve(self, channel: Channel | None, events: int) -> None:
        """一路有动静；None 是有新的 X 客户。"""
        if channel is None:
            self._accept()
        else:
            self.tunnel.serve(channel, events)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self.tunnel) >= MOST_CLIENTS:
                connection.close()
                return
            self._clients += 1
            self.tunnel.add(self._clients, connection)

    def close(self) -> None:
        """收场：口令文件连同目录也没有了。"""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            self.tunnel.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_cookie(self, display: int, cookie: bytes) -> None:
        """Xauthority 的一项一项（Xau(3)）：本机的名字与不论哪里的，都是这个显示号。"""
        fields = (str(display).encode(), b"MIT-MAGIC-COOKIE-1", cookie)
        entries = [(_FAMILY_LOCAL, os.fsencode(os.uname().nodename)), (_FAMILY_WILD, b"")]
        os.mkdir(self._folder, 0o700)
        fd = os.open(f"{self._folder}/Xauthority", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            for family, address in entries:
                file.write(struct.pack(">H", family))
                for field in (address, *fields):
                    file.write(struct.pack(">H", len(field)) + field)
            if self._spec.uid is not None and self._spec.uid != os.geteuid():
                for owned in (fd, self._folder):
                    os.chown(owned, self._spec.uid, -1 if self._spec.gid is None else self._spec.gid)


def _free_display() -> tuple[socket.socket, int]:
    """（听着的，显示号）；都有人用了抛 OSError。"""
    for display in range(FIRST_DISPLAY, LAST_DISPLAY + 1):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", BASE_PORT + display)), display
    raise OSError(f"displays {FIRST_DISPLAY} to {LAST_DISPLAY} are all in use")
