"""作业脚本的文件：启动前写下，结束后收走。

归自己所有的（单用户模式）收走时抹去内容、移到牧守进程的目录里，下一个脚本写进同一个文件：没有日志的 ext4
刚删过许多文件时，新建一个要找上半毫秒，移来移去只要二十微秒。换了用户的一律删掉：旧主人可能还开着它。
抹到只剩一个字节而不是一个不剩：ext4 把「截成空的再写」当作替换文件，关闭时当场把它写到盘上。
目录也许不答话的（opens_aside）这里不碰：由作业自己的进程写下（write_script），另一个子进程删掉（script_sweeper.py）。
"""

from __future__ import annotations

import contextlib
import errno
import os

from scns_conductor.worker.shepherd.launch_fault import LaunchFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.wire.launch_spec import LaunchSpec

SPARES_MOST = 128
_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScriptFiles:
    """spool 是牧守进程自己的目录；与脚本目录不在同一个文件系统时不留备用的。"""

    def __init__(self, spool: str) -> None:
        self._spool = spool
        self._uid = os.geteuid()
        self._spares: list[str] = []
        self._free_names = list(range(SPARES_MOST))

    def write(self, spec: LaunchSpec) -> int:
        """把脚本写成 0700 的文件，归作业的用户所有；目录不属于用户，没有链接可乘之机。失败抛 LaunchFault。

        返回 inode：同机的节点共用脚本目录，作业在别处重来时写的是同一个名字，收走时要认得出是不是自己那一个。
        """
        path = str(spec.script_path)
        own = spec.uid in (None, self._uid)
        try:
            fd = self._reuse(path) if own else None
            return _fill(_create(path) if fd is None else fd, spec, own=own)
        except OSError as error:
            raise _unwritable(path, error) from error

    def discard(self, path: str, inode: int | None, *, reusable: bool) -> None:
        """作业结束了；reusable 表示确知没有进程还在读它。失败抛 OSError，没有了、或已是别人的则什么也不做。

        inode 为 None 是没有来得及记下（牧守进程死在启动的途中）：只删不留。
        """
        try:
            found = os.lstat(path)
            plain = found.st_uid == self._uid and found.st_nlink == 1 and found.st_mode == 0o100700
            # 不是自己的、用户给它建了硬链接、改了权限的都不留。
            if not (reusable and found.st_ino == inode and self._free_names and plain and self._keep(path)):
                unlink_script(path, inode)
        except FileNotFoundError:
            return

    def close(self) -> None:
        """删掉备用的文件。"""
        for spare in self._spares:
            try:
                os.unlink(spare)
            except FileNotFoundError:
                continue
        self._spares.clear()

    def _keep(self, path: str) -> bool:
        spare = f"{self._spool}/spare_script_{self._free_names[-1]}"
        try:
            os.rename(path, spare)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._free_names.clear()
            return False
        os.truncate(spare, 1)
        self._free_names.pop()
        self._spares.append(spare)
        return True

    def _reuse(self, path: str) -> int | None:
        if not self._spares:
            return None
        spare = self._spares.pop()
        self._free_names.append(int(spare.rpartition("_")[2]))
        try:
            os.rename(spare, path)
            return os.open(path, _FLAGS)
        except FileNotFoundError:
            # 有人清理了脚本目录。
            return None


def write_script(spec: LaunchSpec) -> int:
    """同 ScriptFiles.write，总是新的文件：给作业自己的进程（换用户之前）。"""
    path = str(spec.script_path)
    try:
        return _fill(_create(path), spec, own=spec.uid in (None, os.geteuid()))
    except OSError as error:
        raise _unwritable(path, error) from error


def unlink_script(path: str, inode: int | None) -> None:
    """删掉这个脚本；没有了、或已是别人的（inode 不同）则什么也不做。失败抛 OSError。"""
    try:
        if inode is None or os.lstat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        return


def _fill(fd: int, spec: LaunchSpec, *, own: bool) -> int:
    try:
        data = str(spec.script).encode("utf-8", "surrogateescape")
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), spec.script_path)
        if spec.uid is not None and not own:
            os.fchown(fd, spec.uid, -1 if spec.gid is None else spec.gid)
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def _unwritable(path: str, error: OSError) -> LaunchFault:
    return LaunchFault(f"节点不能写作业脚本 {path}：{error.strerror}", on_node=True)


def _create(path: str) -> int:
    """新的文件；已经有一个的换下它。先建新的再换：先删的话，新的常恰好得到旧的 inode，旧作业收走时认错。"""
    try:
        return _exclusive(path)
    except FileExistsError:
        fresh = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        fd = _exclusive(fresh)
        os.rename(fresh, path)
        return fd


def _exclusive(path: str) -> int:
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o700)
