"""API 另外听的 Unix 套接字：本机的用户不用令牌，是谁由内核说（SO_PEERCRED），来访者自己改不了。"""

import contextlib
import os
import socket
import struct
from asyncio import BaseTransport
from pathlib import Path
from typing import Any

from starlette.types import Scope

from scns_conductor.core.errors import SettingsError

# sockaddr_un 的 sun_path，连同末尾的 NUL（unix(7)）。
_MOST_PATH_BYTES = 107
_BACKLOG = 1024
_CREDENTIALS = struct.Struct("iII")
# 那一头的 uid 放在 scope 的 extensions 里：只有协议写得进去，请求头写不到。
_EXTENSION = "scns.peer_uid"


class LocalSocket:
    """监听着的套接字；close 把文件也收走。"""

    def __init__(self, path: Path) -> None:
        """谁都能连；目录不在、别的进程正听着、路径太长都抛 SettingsError。"""
        if len(os.fsencode(path)) > _MOST_PATH_BYTES:
            raise SettingsError(f"api_socket 的路径太长，至多 {_MOST_PATH_BYTES} 字节：{path}")
        if _answered(path):
            raise SettingsError(
                f"已有进程在听 {path}；同一台机器上的另一个 API 请把 SCNS_API_SOCKET 设成空的，或换一个"
            )
        self._path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.unlink(missing_ok=True)
            self.listener.bind(str(fresh))
            # 先开始听再换上：看得见它的，都连得上。
            fresh.chmod(0o666)
            self.listener.listen(_BACKLOG)
            fresh.rename(path)
            self._file = path.stat().st_ino
        except OSError as error:
            self.listener.close()
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise SettingsError(
                f"听不了 api_socket {path}：{error.strerror}；目录要在，API 的用户要能写"
                "（systemd 单元由 RuntimeDirectory 备好）"
            ) from error

    def close(self) -> None:
        """不再听；路径上若已是别的进程的，不动它。"""
        self.listener.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._file:
                self._path.unlink()


def _answered(path: Path) -> bool:
    """有进程在听；死了的进程留下的文件连不上。"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def peer_of(transport: BaseTransport) -> int | None:
    """连过来的进程的 uid（connect 那一刻的）；不是 Unix 套接字的是 None。"""
    connected: Any = transport.get_extra_info("socket")
    if connected is None or connected.family != socket.AF_UNIX:
        return None
    _, uid, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def extensions_for(uid: int) -> dict[str, Any]:
    """写进 scope["extensions"] 的。"""
    return {_EXTENSION: uid}


def peer_uid(scope: Scope) -> int | None:
    """这个请求从本机套接字来时，那一头的 uid。"""
    found: int | None = (scope.get("extensions") or {}).get(_EXTENSION)
    return found
