"""cgroup v1：每个控制器一棵树；许多鲲鹏系统仍在用。freezer 是必需的，它圈住作业的全部后代。"""

from __future__ import annotations

import contextlib
import os
import signal

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
from scns_conductor.worker.host.cgroup_v1_spares import REUSED_CONTROLLERS, SPARE_PREFIX, Shell, Spares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from scns_conductor.worker.host.cgroup import Entrance

USED_CONTROLLERS = ("freezer", "pids", "memory", "cpuset", "devices")


class JobCgroupV1:
    """一个作业在若干控制器里的目录；freezer 总在其中。shell 是其中下一个作业还可以用的那几个。"""

    def __init__(
        self,
        name: str,
        directories: dict[str, str],
        exits: dict[str, Entrance],
        spares: Spares,
        shell: Shell | None = None,
    ) -> None:
        self.name = name
        self._directories = directories
        self._freezer = directories["freezer"]
        self._spares = spares
        self._shell = shell
        # 单线程的进程把 0 写进 tasks 就是把自己移进去，比 cgroup.procs 便宜。
        self.entrances: list[Entrance] = self._entrances(directories)
        self.exits = [exits[kind] for kind in directories]
        self.binds_cores = "cpuset" in directories

    def _entrances(self, kinds: Iterable[str]) -> list[Entrance]:
        opened = self._shell.entrances if self._shell is not None else {}
        return [opened.get(kind) or f"{self._directories[kind]}/tasks" for kind in kinds]

    def limit_memory(self, memory_bytes: int) -> None:
        """memory.limit_in_bytes，连同交换的。"""
        if "memory" in self._directories:
            _limit_memory(self._directories["memory"], memory_bytes)

    def pids(self) -> list[int]:
        """里面的全部进程。"""
        return read_pids(f"{self._freezer}/cgroup.procs") if self._shell is None else self._shell.pids()

    def freeze(self, frozen: bool) -> bool:
        """冻结是异步的（FREEZING -> FROZEN），返回是否已经完成。"""
        path = f"{self._freezer}/freezer.state"
        if self._shell is not None:
            self._shell.worn = True
        try:
            write_text(path, "FROZEN" if frozen else "THAWED")
            return not frozen or read_text(path).strip() == "FROZEN"
        except FileNotFoundError:
            return True

    def kill(self) -> None:
        """先冻结再逐个发 SIGKILL：冻住的进程不能再 fork；解冻后信号生效。"""
        for _ in range(3):
            if self.freeze(True):
                break
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.freeze(False)

    def place_step(self, step: str, memory_bytes: int | None) -> tuple[list[Entrance], str] | None:
        """主人留在牧守进程的内存目录里，别的控制器用作业的；任务进作业的，另有上限的进下面再建的一个。"""
        directory = self._directories.get("memory")
        if directory is None:
            return None
        if memory_bytes is not None:
            directory = f"{directory}/step_{step}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o755)
            _limit_memory(directory, memory_bytes)
        return self._entrances(kind for kind in self._directories if kind != "memory"), f"{directory}/tasks"

    def drop_step(self, step: str) -> None:
        """还有进程时留着，作业结束时一起收。"""
        if "memory" in self._directories:
            remove_directory(f"{self._directories['memory']}/step_{step}")

    def oom_kills(self, step: str | None = None) -> int:
        """memory.oom_control 的 oom_kill（内核 4.13 起）；只数自己的，不数下级的。"""
        directory = self._directories.get("memory")
        if directory and step is not None:
            directory = f"{directory}/step_{step}"
            if not os.path.isdir(directory):
                return 0
        return keyed_value(read_text(f"{directory}/memory.oom_control"), "oom_kill") if directory else 0

    def remove(self) -> bool:
        """全部控制器里都删掉（或留给下一个作业）才算成功；内存的里面可能还有作业步自己的目录。"""
        own = [path for kind, path in self._directories.items() if kind not in REUSED_CONTROLLERS]
        left = [path for path in own if not remove_directory(path)]
        memory = self._directories.get("memory")
        if memory in left:
            for entry in os.scandir(memory):
                if entry.is_dir():
                    remove_directory(entry.path)
            left = [path for path in left if not remove_directory(path)]
        # 换得了的最后：别的删不掉时它们还在，再试一次时照样认得出。
        if not left and self._shell is not None and self._spares.keep(self._shell):
            return True
        gone = [remove_directory(path) for path in self._directories.values()]
        return all(gone)


class CgroupTreeV1:
    """节点在各控制器里的子树；points 是控制器 -> 节点目录。"""

    version = 1

    def __init__(self, points: dict[str, str], homes: dict[str, str]) -> None:
        self._points = points
        self.controllers = frozenset(points)
        self._exits: dict[str, Entrance] = {kind: open_entrance(f"{home}/tasks") for kind, home in homes.items()}
        self._spares = Spares()

    def create(self, name: str, limits: CgroupLimits) -> JobCgroupV1:
        """只建用得上的控制器，每个约 30 微秒；有留着的就换个名字用它。"""
        wanted = ["freezer"]
        if limits.pids_max is not None:
            wanted.append("pids")
        if limits.memory_bytes is not None:
            wanted.append("memory")
        if limits.cpu_ids:
            wanted.append("cpuset")
        if limits.device_deny:
            wanted.append("devices")
        directories = {kind: f"{self._points[kind]}/{name}" for kind in wanted if kind in self._points}
        shell = self._spares.take(name, limits)
        fresh = {kind: path for kind, path in directories.items() if shell is None or kind not in REUSED_CONTROLLERS}
        made = []
        try:
            for path in fresh.values():
                os.mkdir(path, 0o755)
                made.append(path)
            self._write_limits(fresh, limits)
        except OSError:
            for path in made:
                remove_directory(path)
            if shell is not None:
                self._spares.keep(shell)
            raise
        shell = shell or Shell.around(directories, limits)
        return JobCgroupV1(name, directories, self._exits, self._spares, shell)

    def _write_limits(self, directories: dict[str, str], limits: CgroupLimits) -> None:
        if "pids" in directories:
            write_text(f"{directories['pids']}/pids.max", str(limits.pids_max))
        if "cpuset" in directories:
            _fill_cpuset(directories["cpuset"], format_cpu_list(limits.cpu_ids or []))
        for rule in limits.device_deny or ():
            if "devices" in directories:
                write_text(f"{directories['devices']}/devices.deny", rule)

    def attach(self, name: str) -> JobCgroupV1:
        """重新接管：存在哪些控制器的目录就用哪些。"""
        paths = {kind: f"{point}/{name}" for kind, point in self._points.items()}
        present = {kind: path for kind, path in paths.items() if kind == "freezer" or os.path.isdir(path)}
        return JobCgroupV1(name, present, self._exits, self._spares)

    def leftovers(self) -> list[str]:
        """任何一个控制器里还有的作业目录，与留着没有用的。"""
        return sorted(
            {
                entry.name
                for point in self._points.values()
                for entry in os.scandir(point)
                if entry.is_dir() and entry.name.startswith(("job_", SPARE_PREFIX))
            }
        )

    def remove(self) -> None:
        """删除节点目录，以及空了的 scns 目录。"""
        self._spares.close()
        for point in self._points.values():
            if remove_directory(point):
                remove_directory(os.path.dirname(point))


def _limit_memory(directory: str, memory_bytes: int) -> None:
    write_text(f"{directory}/memory.limit_in_bytes", str(memory_bytes))
    # 没有开启交换记账的内核没有这个文件；那时交换不受限，由 capabilities 说明。
    with contextlib.suppress(FileNotFoundError):
        write_text(f"{directory}/memory.memsw.limit_in_bytes", str(memory_bytes))


def _fill_cpuset(path: str, cpus: str | None) -> None:
    """新建的 cpuset 是空的，必须先填 mems 与 cpus 才能放进程；cpus 为 None 时照抄上级。"""
    parent = os.path.dirname(path)
    if cpus is None:
        if read_text(f"{path}/cpuset.cpus").strip():
            return
        cpus = read_text(f"{parent}/cpuset.cpus").strip()
    else:
        # 上级已经均衡负载；关掉它自己的，免得每个作业都让内核重建调度域（每次约 1 毫秒）。
        write_text(f"{path}/cpuset.sched_load_balance", "0")
    write_text(f"{path}/cpuset.cpus", cpus)
    write_text(f"{path}/cpuset.mems", read_text(f"{parent}/cpuset.mems").strip())


def detect(node_path: str) -> CgroupTreeV1 | None:
    """freezer 可写才算可用，其余控制器能用几个用几个；没有挂载 freezer 返回 None，没有权限抛 OSError。"""
    roots = {
        option: point
        for kind, point, options in mounts()
        if kind == "cgroup"
        for option in options
        if option in USED_CONTROLLERS
    }
    if "freezer" not in roots:
        return None
    current = _current_paths()
    points: dict[str, str] = {}
    homes: dict[str, str] = {}
    for name in USED_CONTROLLERS:
        if name not in roots:
            continue
        try:
            points[name] = _make_point(name, roots[name], node_path)
        except OSError:
            if name == "freezer":
                raise
            continue
        home = roots[name] + current.get(name, "").rstrip("/")
        homes[name] = home if os.path.isdir(home) else roots[name]
    return CgroupTreeV1(points, homes)


def _make_point(name: str, root: str, node_path: str) -> str:
    path = root
    for part in node_path.split("/"):
        path = f"{path}/{part}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)
        if name == "cpuset":
            _fill_cpuset(path, None)
    if not os.access(f"{path}/tasks", os.W_OK):
        raise PermissionError(13, "没有写权限", path)
    return path


def _current_paths() -> dict[str, str]:
    """本进程在各控制器里的位置；临时进入作业的 cgroup 之后要回到那里。"""
    found = {}
    for line in read_text("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            found[name] = path
    return found
