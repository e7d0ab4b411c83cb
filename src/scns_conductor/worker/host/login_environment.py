"""用户登录之后的环境：以他的身份运行登录 shell，看它的环境（sbatch --get-user-env）。只用标准库。"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

# 前面的是启动文件打印的，不是环境。
_MARK = b"\0scns-environment\0"
_COMMAND = r"printf '\0scns-environment\0'; exec /usr/bin/env -0"
_CHUNK = 65536
_MOST_BYTES = 4 * 1024**2


def login_environment(shell: str, environment: dict[str, str], wait_s: float, *, login: bool = True) -> dict[str, str]:
    """shell 的启动文件设的变量；wait_s 秒之内没有说完、说得不对抛 OSError（文字是英文的原因）。

    调用者已经是那个用户；environment 是登录之前的（HOME、USER、SHELL……）。
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_RDWR)
            for target, fd in enumerate((null, write_fd, null)):
                os.dup2(fd, target)
            name = os.path.basename(shell)
            os.execve(shell, [f"-{name}" if login else name, "-c", _COMMAND], environment)
        finally:
            os._exit(127)
    os.close(write_fd)
    try:
        text = _read(read_fd, time.monotonic() + wait_s)
    finally:
        os.close(read_fd)
        # 没有说完的、留下了后代的，都不再要。
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _, mark, listed = text.rpartition(_MARK)
    if not mark:
        raise OSError(f"{shell} did not tell its environment")
    pairs = (item.decode("utf-8", "surrogateescape").partition("=") for item in listed.split(b"\0") if item)
    return {name: value for name, equals, value in pairs if equals}


def _read(fd: int, deadline: float) -> bytes:
    text = bytearray()
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise OSError("timed out")
        chunk = os.read(fd, _CHUNK)
        text += chunk
        if len(text) > _MOST_BYTES:
            raise OSError("too much output")
        if not chunk:
            return bytes(text)
