"""API 与看板监听的 TCP 套接字：听不了时说清是哪个地址、为什么、怎么办。"""

import errno
import socket

from scns_conductor.core.errors import SettingsError


def bound_listener(host: str, port: int, settings: str) -> socket.socket:
    """占住 host:port；占不到抛 SettingsError。settings 是地址所在设置的开头：api 是 api_host 与 api_port。"""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"听不了 {host}:{port}：{_remedy(error, port, settings)}") from error
    return listener


def _remedy(error: OSError, port: int, settings: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"端口有别的程序占着；看是谁：ss -ltnp 'sport = :{port}'，停下它，或把 {settings}_port 设成别的"
    if error.errno == errno.EACCES:
        return f"1024 以下的端口要 root；请把 {settings}_port 设成别的，前面放反向代理"
    return f"{error.strerror or error}；{settings}_host 要是本机的地址，或 0.0.0.0（全部）"
