"""请求从哪个地址来。"""

from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

from scns_conductor.api.local_socket import peer_uid


def client_address(scope: Scope) -> str:
    """对方的地址；本机套接字是 uid。本机的反向代理、看板转来的，取它写的最后一段 X-Forwarded-For。"""
    uid = peer_uid(scope)
    if uid is not None:
        return f"uid {uid}"
    client = scope.get("client")
    host: str = client[0] if client else ""
    if _loopback(host):
        forwarded = Headers(scope=scope).get("x-forwarded-for", "").rpartition(",")[2].strip()
        if _address(forwarded):
            return forwarded
    return host


def _loopback(text: str) -> bool:
    return _address(text) and ip_address(text).is_loopback


def _address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
