"""本机的 API：写进地址里的主机名、自己连它用的地址、它就绪了没有。"""

import socket
from typing import Any

from scns_conductor.client.conductor import JsonClient


def url_host(host: str) -> str:
    """写进地址里的主机名；监听全部地址时用本机的名字。"""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def connect_url(host: str, port: int) -> str:
    """本机连监听着 host 的 API 用的地址。"""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host) or url_host(host)
    return f"http://{reached}:{port}"


def readiness(host: str, port: int, timeout_s: float) -> tuple[bool, dict[str, Any]]:
    """监听着 host 的 API 就绪没有，各部分的状况；连不上、不是本系统的 API 抛 ClientError。"""
    with JsonClient(connect_url(host, port), timeout_s=timeout_s) as client:
        good, checks = client.ready()
        return good, checks
