"""以另一个用户的身份打开文件：权限与符号链接都按那个用户判断。

用 setfsuid(2)/setfsgid(2)：只影响本线程的文件访问，不会像 seteuid 那样让那个用户能给本进程发信号。
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence

_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159}
_libc: ctypes.CDLL | None = None


def libc() -> ctypes.CDLL:
    """C 库；首次用到才载入 ctypes。"""
    global _libc
    if _libc is None:
        import ctypes

        _libc = ctypes.CDLL(None, use_errno=True)
    return _libc


def _set_thread_groups(groups: Sequence[int]) -> None:
    """只改本线程的附加组；glibc 的 setgroups 会改全部线程，所以直接用系统调用。"""
    import ctypes

    number = _SYS_SETGROUPS[os.uname().machine]
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if libc().syscall(number, len(groups), array) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class FilesystemUser:
    """with 块内，本线程以 uid、gid、groups 的身份访问文件；uid 为 None 或就是自己时什么也不做。"""

    def __init__(self, uid: int | None, gid: int | None, groups: Sequence[int] | None) -> None:
        self._uid = uid
        self._gid = gid
        self._groups = groups or ()
        self._own_groups: list[int] = []
        self._switch = uid is not None and uid != os.geteuid()

    def __enter__(self) -> None:
        if not self._switch:
            return
        self._own_groups = os.getgroups()
        gid = self._gid if self._gid is not None else os.getegid()
        _set_thread_groups(self._groups)
        libc().setfsgid(gid)
        libc().setfsuid(self._uid)
        # setfsuid 失败时不报错，只能再问一次。
        if libc().setfsuid(-1) != self._uid or libc().setfsgid(-1) != gid:
            self.__exit__()
            raise PermissionError(1, "没有权限切换文件访问的用户")

    def __exit__(self, *_: object) -> None:
        if self._switch:
            libc().setfsuid(os.geteuid())
            libc().setfsgid(os.getegid())
            _set_thread_groups(self._own_groups)


def read_range(
    path: str, offset: int, length: int, *, uid: int | None, gid: int | None, groups: Sequence[int] | None
) -> tuple[bytes, int, float]:
    """以该用户的身份读文件的一段，返回（内容，文件总长，修改时刻的 Unix 秒）。offset 为负表示从末尾倒数。

    不是普通文件（设备、管道、/proc 里的）时抛 OSError：读它们可能没有尽头，或读到的是本进程自己的。
    """
    with FilesystemUser(uid, gid, groups):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        # /proc/self 在这里是本进程，不是作业：它的内存映射、命令行不是作业的输出。
        if not is_regular(status.st_mode) or status.st_dev == os.stat("/proc").st_dev:
            raise OSError(22, "不是普通文件", path)
        start = max(0, status.st_size + offset) if offset < 0 else offset
        return b"".join(_read_all(fd, start, length)), status.st_size, status.st_mtime
    finally:
        os.close(fd)


def _read_all(fd: int, start: int, length: int) -> Iterator[bytes]:
    while length > 0:
        chunk = os.pread(fd, min(length, 1024**2), start)
        if not chunk:
            return
        yield chunk
        start += len(chunk)
        length -= len(chunk)


def is_regular(mode: int) -> bool:
    """st_mode 是否普通文件。"""
    return mode & 0o170000 == 0o100000
