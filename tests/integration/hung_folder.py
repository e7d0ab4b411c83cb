"""不答话的文件系统：挂一个 FUSE，服务它的人一句也不回。碰它的系统调用都停在内核里，和挂住的 NFS 一样。"""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MNT_FORCE, MNT_DETACH = 1, 2


@contextmanager
def hung_folder(path: Path) -> Iterator[None]:
    """path 之下的一切都不答话；离开时放开，等着的都得到 ENOTCONN。需要 root。"""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("需要 root 与 /dev/fuse")
    path.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    target = os.fsencode(path)
    if libc.mount(b"hung", target, b"fuse", 0, options) != 0:
        os.close(server)
        pytest.skip(f"挂不上 FUSE：{os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.umount2(target, MNT_FORCE | MNT_DETACH)
        os.close(server)


class StallingFolder:
    """真的文件系统（fuse-overlayfs）：stall() 之后什么都不答，开着的文件也写不动；release() 之后接着做。要 root。"""

    def __init__(self, path: Path, backing: Path) -> None:
        program = shutil.which("fuse-overlayfs")
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or program is None:
            pytest.skip("需要 root、/dev/fuse 与 fuse-overlayfs")
        self._path = path
        layers = {f"{name}dir": backing / name for name in ("lower", "upper", "work")}
        for folder in (path, *layers.values()):
            folder.mkdir(parents=True, exist_ok=True)
        options = ",".join(f"{name}={folder}" for name, folder in layers.items())
        self._server = subprocess.Popen([program, "-f", "-o", options, str(path)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not os.path.ismount(path):
            assert self._server.poll() is None, "fuse-overlayfs 没有挂上"
            assert time.monotonic() < deadline, "fuse-overlayfs 挂得太久"
            time.sleep(0.02)

    def stall(self) -> None:
        """从此不答话。"""
        self._server.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        """接着答话。"""
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """卸掉；还开着它的，之后得到错误。"""
        self.release()
        ctypes.CDLL(None).umount2(os.fsencode(self._path), MNT_FORCE | MNT_DETACH)
        self._server.kill()
        self._server.wait()
