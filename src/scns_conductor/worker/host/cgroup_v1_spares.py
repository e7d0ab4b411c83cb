"""cgroup v1：结束了的作业的空目录留给下一个限制相同的，换个名字就是它的，比删了再建省一半以上。

只留不记账的控制器（freezer、pids、cpuset）：空了就同新建的一样。memory 里还记着用过的页，devices 逐个不同，都不留。
一个作业的这几个目录合称一个 Shell；留下之后它的几个文件一直开着，改名之后还是它们。
"""

from __future__ import annotations

import contextlib
import os
import signal

from scns_conductor.worker.host.cgroup import CgroupLimits, open_entrance, read_open, read_pids, remove_directory

REUSED_CONTROLLERS = ("freezer", "pids", "cpuset")
SPARE_PREFIX = "spare_"
# 留着的与又用上的至多这么多个：每个开着六个文件，平常的上限是 1024 个。
OPENED_MOST = 48
# 没有下级的目录的链接数。
BARE_LINKS = 2


class Shell:
    """directories 是控制器 -> 目录；shape 相同的才换着用；worn 表示冻结过，用完就删；entrances 是开着的 tasks。"""

    __slots__ = ("_count", "_marks", "directories", "entrances", "shape", "worn")

    def __init__(self, directories: dict[str, str], shape: tuple[object, ...]) -> None:
        self.directories = directories
        self.shape = shape
        self.worn = False
        self.entrances: dict[str, int] = {}
        # 开着的 pids.current；cpuset 的核与内存节点，各是什么。
        self._count: int | None = None
        self._marks: dict[int, bytes] = {}

    @classmethod
    def around(cls, directories: dict[str, str], limits: CgroupLimits) -> Shell:
        """一个作业刚建好的目录里，换得了的那几个。"""
        return cls({kind: directories[kind] for kind in REUSED_CONTROLLERS if kind in directories}, _shape(limits))

    @property
    def opened(self) -> bool:
        """文件开着没有。"""
        return bool(self.entrances)

    def open(self) -> None:
        """打开，记下核与内存节点；失败抛 OSError。"""
        for kind, path in self.directories.items():
            self.entrances[kind] = open_entrance(f"{path}/tasks")
        if "pids" in self.directories:
            self._count = os.open(f"{self.directories['pids']}/pids.current", os.O_RDONLY | os.O_CLOEXEC)
        if "cpuset" in self.directories:
            for name in ("cpuset.cpus", "cpuset.mems"):
                fd = os.open(f"{self.directories['cpuset']}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                self._marks[fd] = b""
                self._marks[fd] = read_open(fd)

    def pids(self) -> list[int]:
        """里面的全部进程；目录已不在则为空。

        先看数目，它是此刻的：开着的 cgroup.procs 给的却是至多一秒以前的，每次都得另开。
        """
        try:
            if self._counted() == 0:
                return []
        except OSError:
            return []
        return read_pids(f"{self.directories['freezer']}/cgroup.procs")

    def is_empty(self) -> bool:
        """没有进程（在 pids、freezer 里都没有），也没有作业自己建的下级。失败抛 OSError。"""
        return (
            not self._counted()
            and not read_pids(f"{self.directories['freezer']}/cgroup.procs")
            and all(os.stat(path).st_nlink == BARE_LINKS for path in self.directories.values())
        )

    def _counted(self) -> int | None:
        """pids 里有几个进程与线程；没有这个控制器是 None。"""
        return None if self._count is None else int(read_open(self._count))

    def is_intact(self) -> bool:
        """还没有进程；核与内存节点还是原来的：下线过的，内核从 v1 的 cpuset 里抹去，上线了也不还。"""
        return not self.pids() and all(read_open(fd) == text for fd, text in self._marks.items())

    def rename(self, name: str) -> None:
        """各控制器里都改成这个名字；改不成抛 OSError，名字照旧。"""
        renamed: dict[str, str] = {}
        try:
            for kind, path in self.directories.items():
                to = f"{os.path.dirname(path)}/{name}"
                os.rename(path, to)
                renamed[kind] = to
        except OSError:
            for kind, path in renamed.items():
                os.rename(path, self.directories[kind])
            raise
        self.directories = renamed

    def close(self) -> None:
        """放掉开着的文件。"""
        for fd in (*self.entrances.values(), *self._marks, *(() if self._count is None else (self._count,))):
            os.close(fd)
        self.entrances.clear()
        self._marks.clear()
        self._count = None


class Spares:
    """一个节点留着的 Shell，先留的在前；名字是 spare_加编号。"""

    def __init__(self) -> None:
        self._kept: list[Shell] = []
        self._opened = 0
        self._count = 0

    def take(self, name: str, limits: CgroupLimits) -> Shell | None:
        """一个限制相同的，改成这个名字；没有返回 None，已有叫这个名字的抛 FileExistsError。"""
        shape = _shape(limits)
        for shell in reversed(self._kept):
            if shell.shape != shape:
                continue
            try:
                # 留下的那一刻也许正有 ssh 登录进来（ssh_adoption）：再看一眼。
                if shell.is_intact():
                    shell.rename(name)
                    self._kept.remove(shell)
                    return shell
            except FileExistsError:
                raise
            except OSError:
                # 有人动了它的目录：不用它。
                pass
            self._kept.remove(shell)
            self._discard(shell)
        return None

    def keep(self, shell: Shell) -> bool:
        """作业结束了：留下返回 True；动过的、不空的、太多了的不留（由调用者删），返回 False。"""
        try:
            if not shell.opened and (shell.worn or not self._may_open()):
                return False
            if not shell.opened:
                self._opened += 1
                shell.open()
            if not shell.worn and shell.is_empty():
                self._count += 1
                shell.rename(f"{SPARE_PREFIX}{self._count}")
                self._kept.append(shell)
                return True
        except OSError:
            # 有人动了它的目录：当作不能留。
            pass
        self._close(shell)
        return False

    def close(self) -> None:
        """都删掉。"""
        for shell in self._kept:
            self._discard(shell)
        self._kept.clear()

    def _may_open(self) -> bool:
        """满了就删掉最早留下的一个；都在用着的话不行。"""
        if self._opened < OPENED_MOST:
            return True
        if not self._kept:
            return False
        self._discard(self._kept.pop(0))
        return True

    def _discard(self, shell: Shell) -> None:
        for pid in shell.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._close(shell)
        for path in shell.directories.values():
            remove_directory(path)

    def _close(self, shell: Shell) -> None:
        shell.close()
        self._opened -= 1


def _shape(limits: CgroupLimits) -> tuple[object, ...]:
    return limits.pids_max, tuple(limits.cpu_ids or ())
