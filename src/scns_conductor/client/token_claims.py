"""系统当这个客户端是谁。客户端没有密钥，令牌只读不核对；核对是服务器的事。"""

import base64
import json
import os
import pwd
from typing import Any, Protocol

from scns_conductor.client.problem import EndpointUnknown
from scns_conductor.client.wire import SOCKET_SCHEME


class Connected(Protocol):
    """Endpoint、各种 Client。"""

    @property
    def url(self) -> str:
        """API 的地址。"""

    @property
    def token(self) -> str | None:
        """在用的令牌。"""


def user_name_of(connected: Connected) -> str:
    """令牌（JWT）的 sun；作业令牌、没有令牌的本机套接字是正在运行的用户。认不出抛 EndpointUnknown。"""
    token = connected.token
    over_socket = token is None and connected.url.startswith(SOCKET_SCHEME)
    if over_socket or (token or "").startswith("scnsjob."):
        return _own_user()
    try:
        return str(_claims(token)["sun"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise EndpointUnknown("令牌里没有用户名；请检查 SCNS_TOKEN，或用 scns token 重新签发") from error


def token_id_of(token: str) -> str | None:
    """登记过的令牌的号（jti）；没有登记、认不出是 None。"""
    try:
        found: str | None = _claims(token).get("jti")
        return found
    except (IndexError, ValueError, TypeError, AttributeError):
        return None


def _claims(token: str | None) -> Any:
    payload = (token or "").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def _own_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise EndpointUnknown(f"本机没有 uid {os.geteuid()} 对应的用户名；请先建这个用户") from error
