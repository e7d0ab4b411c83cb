"""请求从哪个地址来。"""

from functools import lru_cache
from ipaddress import ip_address

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
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded = value.decode("latin-1").rpartition(",")[2].strip()
                return forwarded if _address(forwarded) else host
    return host


@lru_cache(maxsize=1024)
def _loopback(text: str) -> bool:
    return _address(text) and ip_address(text).is_loopback


@lru_cache(maxsize=1024)
def _address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
