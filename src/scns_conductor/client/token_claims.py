"""令牌里写的用户名。客户端没有密钥，只读不核对；核对是服务器的事。"""

import base64
import json
import os
import pwd

from scns_conductor.client.problem import EndpointUnknown


def user_name_of(token: str | None) -> str:
    """令牌（JWT）的 sun；作业令牌属于正在运行它的用户。没有令牌或认不出抛 EndpointUnknown。"""
    if token is not None and token.startswith("scnsjob."):
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        payload = (token or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["sun"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise EndpointUnknown("令牌里没有用户名；请检查 SCNS_TOKEN，或用 scns token 重新签发") from error
