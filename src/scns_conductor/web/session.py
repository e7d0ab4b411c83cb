"""登录的会话：浏览器里一个签名的 cookie，内容是来访者自己的令牌；服务器上什么也不存。"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

COOKIE = "scns_session"
KEY_FILE = "web.key"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Visitor:
    """登录的人。expires_at 是令牌的到期（Unix 秒）；session_id 一次登录一个。"""

    token: str
    user_name: str
    admin: bool
    operator: bool
    expires_at: int
    session_id: str
    auditor: bool = False

    def __repr__(self) -> str:
        return f"Visitor({self.user_name!r})"


class KeyUnusable(Exception):
    """签名的密钥读不了、或别人也能读。"""


def ensure_session_key(path: Path) -> bytes:
    """读出签名会话的密钥，没有就生成（0600）；它不是签发令牌的那个。读不了抛 KeyUnusable。"""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(secrets.token_hex(_KEY_BYTES))
        mode, key = path.stat().st_mode, path.read_bytes().strip()
    except OSError as error:
        raise KeyUnusable(f"读不了网页会话的密钥 {path}：{error.strerror}") from error
    if mode & 0o077:
        raise KeyUnusable(f"网页会话的密钥 {path} 别人也能读写；请执行 chmod 600 {path}")
    if len(key) < _KEY_BYTES:
        raise KeyUnusable(f"网页会话的密钥 {path} 太短；可删除它，下次启动会重新生成")
    return key


class Sessions:
    """签发与核对会话的 cookie。"""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, visitor: Visitor) -> str:
        """cookie 的值。"""
        facts = [
            visitor.token,
            visitor.user_name,
            visitor.admin,
            visitor.operator,
            visitor.expires_at,
            visitor.session_id,
            visitor.auditor,
        ]
        body = base64.urlsafe_b64encode(json.dumps(facts).encode())
        return f"{body.decode()}.{self._digest(body)}"

    def read(self, cookie: str | None) -> Visitor | None:
        """cookie 里的人；没有、改过、过期了是 None。"""
        body, dot, digest = (cookie or "").rpartition(".")
        if not dot or not hmac.compare_digest(digest.encode(), self._digest(body.encode()).encode()):
            return None
        try:
            visitor = Visitor(*json.loads(base64.urlsafe_b64decode(body)))
        except (ValueError, TypeError, binascii.Error):
            return None
        return visitor if visitor.expires_at > time.time() else None

    def _digest(self, body: bytes) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._key, body, hashlib.sha256)).decode()


def new_session_id() -> str:
    """新的一次登录的号。"""
    return secrets.token_urlsafe(16)
