"""作业要用的目录在不在：以作业用户的身份去看（脚本目录以代理自己的），不在控制线程里看，谁的目录不答话只耽误谁的作业。

有些客户端（submitit 的 folder="logs/%j"）先提交，拿到作业号才建输出的目录；真的 Slurm 启动得慢，碰不上：等它至多
FOLDER_WAIT_S 秒，仍没有的由启动去说。不答话（网络文件系统挂住了）的也只等这么久，之后照样启动：由作业自己的进程去
打开，挂住的是它，时限与取消照样管得到它。刚看过的目录 KNOWN_S 秒内不再看，所以平常的作业不必等这一趟；其间也会挂住的
（网络文件系统、FUSE）总是由作业自己的进程去打开。
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from scns_conductor.worker.host.thread_owner import Lanes
from scns_conductor.worker.host.user_files import FilesystemUser
from scns_conductor.worker.wire.launch_spec import LaunchSpec

FOLDER_WAIT_S = 3.0
FOLDER_PAUSE_S = 0.05
# 看的线程到期回来说「没有」，也要给它这么久送到。
ANSWER_S = 0.5
KNOWN_S = 5.0
KNOWN_MOST = 1000
LOOKERS_MOST = 64
# 服务它的在别处、也许不答话的文件系统；fuse 的各种另看名字的开头。
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "beegfs", "gpfs", "glusterfs", "9p", "afs", "autofs"}
)
LOOKERS_OF_USER = 8
# 不必看的：没有它们，节点自己也起不来。
PLAIN = frozenset({"", "/", "/bin", "/usr/bin"})


@dataclass(frozen=True, slots=True)
class Folder:
    """一个目录，与去看它的身份（uid 为 None 是代理自己）。awaited：没有时值得等。"""

    path: str
    awaited: bool
    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None


_NEVER = (0.0, False)


@dataclass(slots=True, eq=False)
class _Waiting:
    """还在等目录的一个作业。"""

    spec: LaunchSpec
    due: float
    left: set[Folder]


def folders_of(spec: LaunchSpec) -> set[Folder]:
    """作业要用的目录。工作目录、解释器与输入的目录提交时就该在，没有也不等；输出的目录可以稍后才有。脚本由节点写下。"""
    who = (spec.uid, spec.gid, None if spec.groups is None else tuple(spec.groups))
    outputs = {os.path.dirname(path) for path in (spec.stdout, spec.stderr) if path} - {spec.cwd, "/dev"}
    at_once = {spec.cwd, os.path.dirname(spec.argv[0])} - outputs - PLAIN
    if spec.stdin:
        at_once |= {os.path.dirname(spec.stdin)} - outputs
    own = {Folder(os.path.dirname(spec.script_path), False, None, None, None)} if spec.script_path else set()
    return own | {Folder(path, True, *who) for path in outputs} | {Folder(path, False, *who) for path in at_once}


class OutputFolders:
    """全在控制线程里用；看的线程只把结果排进控制线程（enqueue）。ready 收到一批可以启动的。"""

    def __init__(
        self, enqueue: Callable[[Callable[[], object]], None], ready: Callable[[list[LaunchSpec]], object]
    ) -> None:
        self._enqueue = enqueue
        self._ready = ready
        self._lanes = Lanes("output-folder", most=LOOKERS_MOST, most_of_group=LOOKERS_OF_USER)
        # 看过的目录 -> 到何时为止不必再看，是不是远的。
        self._known: dict[Folder, tuple[float, bool]] = {}
        self._waiting: list[_Waiting] = []
        # 正在看的目录 -> 还等着它的作业里最晚的期限；看的线程读它，只有控制线程改它。
        self._looking: dict[Folder, float] = {}
        self._silent: set[Folder] = set()

    def close(self) -> None:
        """不再看。"""
        self._lanes.close()

    def known(self, spec: LaunchSpec) -> bool:
        """它要的目录都刚看过，可以立即启动；其中有远的，由它自己的进程去打开。"""
        now = time.monotonic()
        for folder in folders_of(spec):
            until, remote = self._known.get(folder, _NEVER)
            if until <= now:
                return False
            if remote:
                spec.opens_aside = True
        return True

    def look(self, spec: LaunchSpec) -> None:
        """去看；都在、或等够了，就交给 ready。"""
        now = time.monotonic()
        left = {folder for folder in folders_of(spec) if self._known.get(folder, _NEVER)[0] <= now}
        # 已知不答话的不再等。
        due = now if left & self._silent else now + FOLDER_WAIT_S + ANSWER_S
        self._waiting.append(_Waiting(spec, due, left))
        for folder in left:
            fresh = folder not in self._looking
            self._looking[folder] = now + FOLDER_WAIT_S
            if fresh:
                self._submit(folder)

    def due_s(self) -> float | None:
        """还有几秒要看一次 expire；没有在等的返回 None。"""
        return max(0.0, min(each.due for each in self._waiting) - time.monotonic()) if self._waiting else None

    def expire(self) -> None:
        """等够了的不再等。正在看而没有回音的，由子进程自己去打开。"""
        now = time.monotonic()
        late = [each for each in self._waiting if each.due <= now]
        if not late:
            return
        self._waiting = [each for each in self._waiting if each.due > now]
        for each in late:
            # 看的线程到期也会回来说没有；过了期还没有回来的，就是不答话（或者还没有轮到）。
            each.spec.opens_aside = True
            self._silent |= each.left
        self._ready([each.spec for each in late])

    def _submit(self, folder: Folder) -> None:
        self._lanes.submit(folder, lambda: self._see(folder), group=folder.uid)

    def _see(self, folder: Folder) -> None:
        """在看的线程里：看到它在、看不了（没有权限，由启动去说），或等到期限。"""
        absent = remote = False
        with contextlib.suppress(OSError, ValueError), FilesystemUser(folder.uid, folder.gid, folder.groups):
            while (device := _device_of(folder.path)) is None and self._worth_waiting(folder):
                time.sleep(FOLDER_PAUSE_S)
            absent = device is None
            remote = device is not None and _is_remote(device)
        self._enqueue(lambda: self._seen(folder, absent, remote))

    def _worth_waiting(self, folder: Folder) -> bool:
        return folder.awaited and time.monotonic() + FOLDER_PAUSE_S < self._looking.get(folder, 0.0)

    def _seen(self, folder: Folder, absent: bool, remote: bool) -> None:
        if absent and self._worth_waiting(folder):
            # 看的线程回来的路上，又有作业要等它。
            self._submit(folder)
            return
        self._looking.pop(folder, None)
        self._silent.discard(folder)
        if not absent:
            self._remember(folder, remote)
        done = []
        for each in self._waiting:
            if folder in each.left:
                each.left.discard(folder)
                if remote:
                    each.spec.opens_aside = True
                if not each.left:
                    done.append(each)
        if done:
            self._waiting = [each for each in self._waiting if each.left]
            self._ready([each.spec for each in done])

    def _remember(self, folder: Folder, remote: bool) -> None:
        now = time.monotonic()
        if len(self._known) >= KNOWN_MOST:
            self._known = {each: known for each, known in self._known.items() if known[0] > now}
        if len(self._known) < KNOWN_MOST:
            self._known[folder] = (now + KNOWN_S, remote)


def _device_of(path: str) -> int | None:
    """目录在哪个设备上；没有这个目录是 None，看不了抛 OSError 或 ValueError。"""
    try:
        return os.stat(path).st_dev
    except FileNotFoundError:
        return None


def _is_remote(device: int) -> bool:
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            mount, _, filesystem = line.partition(" - ")
            if mount.split(" ", 3)[2] == number:
                kind = filesystem.split(" ", 1)[0]
                return kind in REMOTE or kind.startswith("fuse")
    # 认不出的（btrfs 的子卷）是本地的。
    return False
