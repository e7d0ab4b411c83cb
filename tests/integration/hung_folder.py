"""不答话的文件系统：挂一个 FUSE，服务它的人一句也不回。碰它的系统调用都停在内核里，和挂住的 NFS 一样。"""

import ctypes
import os
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
