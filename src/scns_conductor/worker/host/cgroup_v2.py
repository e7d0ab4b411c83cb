"""cgroup v2：一棵统一的树。设备限制在 v2 靠 eBPF 程序（device_program），要 root；做不到的由 capabilities 说明。"""

from __future__ import annotations

import contextlib
import os
import signal

from scns_conductor.worker.host import device_program
from scns_conductor.worker.host.cgroup import (
    CgroupLimits,
    format_cpu_list,
    keyed_value,
    mounts,
    open_entrance,
    read_pids,
    read_text,
    remove_directory,
    write_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.host.cgroup import Entrance

USED_CONTROLLERS = ("pids", "memory", "cpuset")


class JobCgroupV2:
    """一个作业的目录。"""

    def __init__(self, name: str, path: str, exits: list[Entrance], *, binds_cores: bool = False) -> None:
        self.name = name
        self._path = path
        self.entrances: list[Entrance] = [f"{path}/cgroup.procs"]
        self.exits = exits
        self.binds_cores = binds_cores

    def limit_memory(self, memory_bytes: int) -> None:
        """memory.max，不许交换；没有内存控制器时没有这个文件。"""
        with contextlib.suppress(FileNotFoundError):
            write_text(f"{self._path}/memory.max", str(memory_bytes))
            write_text(f"{self._path}/memory.swap.max", "0")

    def pids(self) -> list[int]:
        """里面的全部进程。"""
        return read_pids(f"{self._path}/cgroup.procs")

    def freeze(self, frozen: bool) -> bool:
        """cgroup.freeze 是异步的，cgroup.events 的 frozen 说明是否完成。"""
        try:
            write_text(f"{self._path}/cgroup.freeze", "1" if frozen else "0")
            return not frozen or keyed_value(read_text(f"{self._path}/cgroup.events"), "frozen") == 1
        except FileNotFoundError:
            return True

    def kill(self) -> None:
        """cgroup.kill（内核 5.14 起）一次杀尽；更老的内核先冻结再逐个杀。"""
        try:
            write_text(f"{self._path}/cgroup.kill", "1")
            return
        except FileNotFoundError:
            pass
        self.freeze(True)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.freeze(False)

    def place_step(self, step: str, memory_bytes: int | None) -> tuple[list[Entrance], str] | None:
        """作业的目录里已有进程，v2 不许再在下级开内存控制器：靠采样，主人也算在作业里。"""
        return None

    def drop_step(self, step: str) -> None:
        """没有自己的目录。"""

    def oom_kills(self, step: str | None = None) -> int:
        """memory.events 的 oom_kill；作业步没有自己的。"""
        if step is not None:
            return 0
        with contextlib.suppress(FileNotFoundError):
            return keyed_value(read_text(f"{self._path}/memory.events"), "oom_kill")
        return 0

    def remove(self) -> bool:
        """删除目录。"""
        return remove_directory(self._path)


class CgroupTreeV2:
    """节点的子树。home 是牧守进程自己所在的目录。"""

    version = 2

    def __init__(self, point: str, home: str, controllers: frozenset[str]) -> None:
        self._point = point
        self._exits: list[Entrance] = [open_entrance(f"{home}/cgroup.procs")]
        self.controllers = controllers | {"freezer"}

    def create(self, name: str, limits: CgroupLimits) -> JobCgroupV2:
        """建目录并写限制。"""
        path = f"{self._point}/{name}"
        os.mkdir(path, 0o755)
        try:
            if limits.pids_max is not None and "pids" in self.controllers:
                write_text(f"{path}/pids.max", str(limits.pids_max))
            if limits.cpu_ids and "cpuset" in self.controllers:
                write_text(f"{path}/cpuset.cpus", format_cpu_list(limits.cpu_ids))
            if limits.device_deny and "devices" in self.controllers:
                device_program.attach(path, limits.device_deny)
        except OSError:
            remove_directory(path)
            raise
        return JobCgroupV2(name, path, self._exits, binds_cores=bool(limits.cpu_ids) and "cpuset" in self.controllers)

    def attach(self, name: str) -> JobCgroupV2:
        """重新接管。"""
        return JobCgroupV2(name, f"{self._point}/{name}", self._exits)

    def leftovers(self) -> list[str]:
        """还有的作业目录。"""
        return sorted(
            entry.name for entry in os.scandir(self._point) if entry.is_dir() and entry.name.startswith("job_")
        )

    def remove(self) -> None:
        """删除节点目录，以及空了的 scns 目录。"""
        if remove_directory(self._point):
            remove_directory(os.path.dirname(self._point))


def detect(node_path: str) -> CgroupTreeV2 | None:
    """root 用整棵树的根；普通用户用委托给自己的目录（Delegate=yes）。没有挂载返回 None，没有权限抛 OSError。"""
    point = next((point for kind, point, _ in mounts() if kind == "cgroup2"), None)
    if point is None:
        return None
    return open_tree(point, point + _current_path().rstrip("/"), node_path, own_root=os.geteuid() == 0)


def open_tree(mount_point: str, home: str, node_path: str, *, own_root: bool) -> CgroupTreeV2:
    """在根（own_root）或自己的目录下建立节点子树。

    v2 规定开启控制器的目录里不能有进程，所以普通用户时先把自己移进叶子 scns-shepherd。
    """
    if own_root:
        base = mount_point
    else:
        base = home
        leaf = f"{home}/scns-shepherd"
        with contextlib.suppress(FileExistsError):
            os.mkdir(leaf, 0o755)
        write_text(f"{leaf}/cgroup.procs", "0")
        home = leaf
    path = base
    _enable_controllers(path)
    for part in node_path.split("/"):
        path = f"{path}/{part}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)
        _enable_controllers(path)
    enabled = frozenset(read_text(f"{path}/cgroup.subtree_control").split()) & frozenset(USED_CONTROLLERS)
    if own_root and device_program.works():
        enabled |= {"devices"}
    return CgroupTreeV2(path, home if os.path.isdir(home) else mount_point, enabled)


def _enable_controllers(path: str) -> None:
    """能开几个开几个：上级没有委托的控制器写不进去，最后以 subtree_control 的内容为准。"""
    for name in read_text(f"{path}/cgroup.controllers").split():
        if name in USED_CONTROLLERS:
            with contextlib.suppress(OSError):
                write_text(f"{path}/cgroup.subtree_control", f"+{name}")


def _current_path() -> str:
    """本进程在统一树里的位置。"""
    for line in read_text("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    return ""
