"""一次性的登录链接：令牌写在数据目录的一个文件里（0600），文件名是链接里的码的摘要；用过即删，过期不认。"""

import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path

FOLDER = "web-login"
LIFETIME_S = 3600.0


def create_login_link(data_dir: Path, web_url: str, token: str) -> str:
    """造一个链接，一小时内可用一次；token 不在链接里。"""
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _drop_old(folder)
    code = secrets.token_urlsafe(24)
    handle = os.open(folder / _name(code), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(token)
    return f"{web_url}/login/once/{code}"


def redeem(data_dir: Path, code: str) -> str | None:
    """用掉一个码，返回令牌；不认识、用过、过期的是 None。两个人同时用，只有一个拿得到。"""
    path = data_dir / FOLDER / _name(code)
    taken = path.with_suffix(f".{secrets.token_hex(8)}")
    try:
        fresh = time.time() - path.stat().st_mtime < LIFETIME_S
        path.rename(taken)
        token = taken.read_text(encoding="ascii")
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            taken.unlink()
    return token if fresh else None


def _name(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _drop_old(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= LIFETIME_S:
                path.unlink()
