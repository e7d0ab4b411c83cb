"""一个真的 X 服务器（Xvfb），有口令；它的根窗口的属性是 X 客户来过的证据。"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = all(map(shutil.which, ("Xvfb", "xauth", "xprop")))


class XServer:
    """environment 是用它的人要的变量。"""

    def __init__(self, display: str, authority: Path) -> None:
        self.display = display
        self.environment = {"DISPLAY": display, "XAUTHORITY": str(authority)}

    def property(self, name: str) -> str | None:
        """根窗口的属性；没有是 None。"""
        done = subprocess.run(
            ["xprop", "-root", "-notype", name],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        _, equals, value = done.stdout.strip().partition(" = ")
        return value.strip('"') if equals else None


@contextmanager
def x_server(folder: Path) -> Iterator[XServer]:
    """启动，等它说出显示号；离开时停掉。只在 Unix 套接字上听；最后一个客户走了也不清掉属性。"""
    authority, cookie = folder / "Xauthority", secrets.token_hex(16)
    authority.touch(mode=0o600)
    _add(authority, ":0", cookie)
    read_fd, write_fd = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(write_fd),
            "-auth",
            str(authority),
            "-noreset",
            "-nolisten",
            "tcp",
            "-screen",
            "0",
            "320x200x24",
        ],
        pass_fds=(write_fd,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_fd)
    try:
        with open(read_fd, encoding="ascii") as file:
            display = f":{file.readline().strip()}"
        _add(authority, display, cookie)
        yield XServer(display, authority)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _add(authority: Path, display: str, cookie: str) -> None:
    words = ["xauth", "-q", "-f", str(authority), "add", display, "MIT-MAGIC-COOKIE-1", cookie]
    subprocess.run(words, check=True, capture_output=True)
