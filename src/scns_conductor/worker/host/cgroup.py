"""cgroup 的共同接口：节点一棵子树 scns/<节点>-<摘要>，作业一个目录 job_<作业号>_<尝试>。

v1 与 v2 的差别只在 cgroup_v1、cgroup_v2 里；牧守进程只认这里的两个接口。
"""

from __future__ import annotations

import os
import zlib

from scns_conductor.worker.host.process_table import read_small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    # tasks、cgroup.procs 的路径，或一直开着的它（省去每次打开）。
    Entrance = str | int

    class JobCgroup(Protocol):
        """一个作业的 cgroup。

        进程把 0 写进 entrances 就进来了，写进 exits 就出去了（move_to）；binds_cores 表示 cpuset 在起作用。
        """

        name: str
        entrances: list[Entrance]
        exits: list[Entrance]
        binds_cores: bool

        def limit_memory(self, memory_bytes: int) -> None:
            """设内存上限；没有内存控制器则什么也不做。已经用得更多、又收不回来的抛 OSError（v1）。"""
            ...

        def pids(self) -> list[int]:
            """里面的全部进程。"""
            ...

        def freeze(self, frozen: bool) -> bool:
            """冻结或解冻；返回是否已经全部冻结（解冻总为真）。"""
            ...

        def kill(self) -> None:
            """向每个进程发 SIGKILL；可能需要多次，直到 pids() 为空。"""
            ...

        def oom_kills(self, step: str | None = None) -> int:
            """因内存超限被杀的次数；给出作业步时是它自己的。"""
            ...

        def place_step(self, step: str, memory_bytes: int | None) -> tuple[list[Entrance], str] | None:
            """作业步的主人不占作业的内存：返回它的 entrances，与它的任务要写进去的 tasks 文件；做不到返回 None。

            memory_bytes 是这一步另设的上限。
            """
            ...

        def drop_step(self, step: str) -> None:
            """作业步结束了：收走它自己的目录。"""
            ...

        def remove(self) -> bool:
            """删除；还有进程时返回 False。"""
            ...

    class CgroupTree(Protocol):
        """一个节点的子树。"""

        version: int
        controllers: frozenset[str]

        def create(self, name: str, limits: CgroupLimits) -> JobCgroup:
            """建立作业的 cgroup，写好内存之外的限制（内存的由 limit_memory 写）；失败抛 OSError。"""
            ...

        def attach(self, name: str) -> JobCgroup:
            """重新接管已有的 cgroup。"""
            ...

        def leftovers(self) -> list[str]:
            """已有的作业目录名。"""
            ...

        def remove(self) -> None:
            """删除节点自己的目录；里面还有作业时什么也不做。"""
            ...


class CgroupLimits:
    """一个作业的限制；None 表示不限。内存单位字节。"""

    __slots__ = ("cpu_ids", "device_deny", "memory_bytes", "pids_max")

    def __init__(
        self,
        *,
        memory_bytes: int | None = None,
        pids_max: int | None = None,
        cpu_ids: list[int] | None = None,
        device_deny: list[str] | None = None,
    ) -> None:
        self.memory_bytes = memory_bytes
        self.pids_max = pids_max
        self.cpu_ids = cpu_ids
        self.device_deny = device_deny


def job_cgroup_name(job_id: int, attempt: int, launch_id: int | None = None) -> str:
    """作业的目录名。"""
    name = f"job_{job_id}_{attempt}"
    return name if launch_id is None else f"{name}_{launch_id}"


def node_cgroup_path(node_name: str, spool_dir: str) -> str:
    """节点子树相对于控制器根的路径；摘要使同一台机器上数据目录不同的同名节点互不相干。"""
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in node_name)
    return f"scns/{safe}-{zlib.crc32(os.path.realpath(spool_dir).encode()):08x}"


def format_cpu_list(cpu_ids: list[int]) -> str:
    """[0,1,2,5] -> '0-2,5'。"""
    parts: list[str] = []
    ordered = sorted(set(cpu_ids))
    index = 0
    while index < len(ordered):
        last = index
        while last + 1 < len(ordered) and ordered[last + 1] == ordered[last] + 1:
            last += 1
        parts.append(str(ordered[index]) if last == index else f"{ordered[index]}-{ordered[last]}")
        index = last + 1
    return ",".join(parts)


def read_text(path: str) -> str:
    """读一个 cgroup 文件。"""
    return read_small(path).decode()


def read_open(fd: int) -> bytes:
    """从头读一个一直开着的 cgroup 文件。"""
    found = b""
    while chunk := os.pread(fd, 65536, len(found)):
        found += chunk
    return found


def read_pids(path: str) -> list[int]:
    """读 cgroup.procs；目录已不在则为空。"""
    try:
        return [int(word) for word in read_small(path).split()]
    except OSError:
        return []


def write_text(path: str, text: str) -> None:
    """一次 write 写一个 cgroup 文件；内核拒绝时抛 OSError。"""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def move_to(entrances: Iterable[Entrance]) -> None:
    """本进程（单线程）进到那里；进不去抛 OSError。"""
    for entrance in entrances:
        if isinstance(entrance, int):
            os.write(entrance, b"0")
        else:
            write_text(entrance, "0")


def open_entrance(path: str) -> int:
    """一直开着的入口。"""
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def keyed_value(text: str, key: str) -> int:
    """在「键 值」行里找一个数；没有返回 0。"""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def remove_directory(path: str) -> bool:
    """删除一个 cgroup 目录；不存在也算成功，仍有进程返回 False。"""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def mounts() -> list[tuple[str, str, frozenset[str]]]:
    """cgroup 的挂载：(类型, 挂载点, 选项)。"""
    found = []
    for line in read_text("/proc/self/mounts").splitlines():
        _, point, kind, options, *_ = line.split(" ")
        if kind in ("cgroup", "cgroup2"):
            found.append((kind, point.replace("\\040", " "), frozenset(options.split(","))))
    return found
