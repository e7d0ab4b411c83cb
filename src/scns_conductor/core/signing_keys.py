"""签名的密钥：现行的一把在密钥文件里；换下来的在旁边的 .old 里，还认到写明的时刻。几个 API 进程各看各的文件。"""

import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from scns_conductor.core.errors import SettingsError

KEY_BYTES = 32
# 多久看一眼文件换了没有（秒）。
LOOK_S = 1.0


def ensure_key(path: Path) -> bytes:
    """读出签名密钥；没有就生成（0600）。别人能读、或太短的密钥抛 SettingsError。"""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_key(path)
    _fill(handle, path, secrets.token_hex(KEY_BYTES))
    return read_key(path)


def _fill(handle: int, path: Path, text: str) -> None:
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        if os.geteuid() == 0:
            # root 签发第一个令牌时建的，也要 API 的用户读得到：跟着目录的主人。
            owner = path.parent.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def read_key(path: Path) -> bytes:
    """读出已有的签名密钥；不存在、别人能读、或太短都抛 SettingsError。"""
    key = _read_private(path).strip()
    if len(key) < KEY_BYTES:
        raise SettingsError(f"令牌签名密钥 {path} 太短，至少 {KEY_BYTES} 字节；可删除它让系统重新生成")
    return key


def _read_private(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"读不到令牌签名密钥 {path}：{error.strerror}") from error
    if mode & 0o077:
        raise SettingsError(f"令牌签名密钥 {path} 别人也能读写；请执行 chmod 600 {path}")
    return text


def key_id(key: bytes) -> str:
    """密钥的号（JWT 的 kid）：认得出是哪一把，推不出密钥。"""
    return hashlib.sha256(b"kid:" + key).hexdigest()[:16]


def old_keys_path(path: Path) -> Path:
    """换下来的密钥在哪里。"""
    return path.with_name(f"{path.name}.old")


def read_keys(path: Path) -> dict[str, bytes]:
    """号 -> 此刻还认的密钥，现行的在前。读不了抛 SettingsError。"""
    found = {key_id(current := read_key(path)): current}
    for key, until in _old_keys(path):
        if until > time.time():
            found.setdefault(key_id(key), key)
    return found


def _old_keys(path: Path) -> list[tuple[bytes, float]]:
    old = old_keys_path(path)
    if not old.exists():
        return []
    lines = [line.split() for line in _read_private(old).splitlines() if line.strip()]
    try:
        return [(key, float(until)) for key, until in lines]
    except ValueError as error:
        raise SettingsError(f"{old} 的每一行应是：密钥 到何时为止（Unix 秒）") from error


def rotate_key(path: Path, grace_s: float) -> str:
    """换一把新的，返回它的号；旧的再认 grace_s 秒，0 是立即不认（密钥泄露了）。读写不了抛 SettingsError、OSError。"""
    now = time.time()
    kept = [(key, until) for key, until in _old_keys(path) if until > now]
    # 密钥可以是自己写的文字：分隔用的空白它不能有。
    current = read_key(path)
    if len(current.split()) != 1 or not current.isascii():
        raise SettingsError(f"令牌签名密钥 {path} 里有空白或不是 ASCII，换不了；请换成一行 ASCII 文字")
    if grace_s > 0:
        kept.insert(0, (current, now + grace_s))
    else:
        kept = []
    lines = "".join(f"{key.decode('ascii')} {until:.0f}\n" for key, until in kept)
    # 先留下旧的再换新的：停在中间也没有令牌忽然不认了。
    _replace(old_keys_path(path), lines)
    _replace(path, secrets.token_hex(KEY_BYTES))
    return key_id(read_key(path))


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    _fill(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), path, text)
    fresh.rename(path)


class KeyRing:
    """此刻认的密钥；文件换了，至多晚 LOOK_S 秒看到。"""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at = time.monotonic()
        self._stamp = self._look()
        self._keys = read_keys(path)
        # 换过几次：别处由旧的密钥得来的，照它作废。
        self.generation = 0

    def keys(self) -> Mapping[str, bytes]:
        """号 -> 密钥。文件一时读不了的，照旧。"""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            stamp = self._look()
            if stamp != self._stamp:
                self._keys, self._stamp = read_keys(self._path), stamp
                self.generation += 1
        return self._keys

    def _look(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in (self._path, old_keys_path(self._path)))


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
