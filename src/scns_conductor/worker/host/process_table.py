"""读 /proc：进程的父子、会话、开始时刻与用量。进程可能随时消失，读不到就当它不存在。"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CAP_SYS_PTRACE = 19
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


class ProcessStat:
    """/proc/PID/stat 的一部分；start_s 是开机以来的秒数，CPU 秒含已回收的子进程，rss_kb 单位 KiB。

    wait_status 只对僵尸有意义，而且没有 ptrace 权限时内核写 0：只经 zombie_status 使用。
    """

    __slots__ = ("parent", "pid", "rss_kb", "session", "start_s", "state", "system_s", "user_s", "wait_status")

    def __init__(self, pid: int, text: str) -> None:
        # 进程名可含空格与括号，从最后一个右括号之后切。
        fields = text[text.rindex(")") + 2 :].split()
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.user_s = (int(fields[11]) + int(fields[13])) / TICKS_PER_S
        self.system_s = (int(fields[12]) + int(fields[14])) / TICKS_PER_S
        self.start_s = int(fields[19]) / TICKS_PER_S
        self.rss_kb = int(fields[21]) * PAGE_KB
        self.wait_status = int(fields[49])


def read_small(path: str) -> bytes:
    """读一个内核的小文件（/proc、cgroup）；open() 为它多做六个系统调用。"""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        # 内核一次给一页以内的整行，短了不等于完了：读到空为止。
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def read_stat(pid: int) -> ProcessStat | None:
    """一个进程；不存在返回 None。"""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return ProcessStat(pid, file.read())
    except (OSError, ValueError):
        return None


def zombie_status(stat: ProcessStat, uid: int | None) -> int | None:
    """已退出、还没有人回收的进程的 wait 状态；uid 是它的用户（None 与本进程相同）。看不到（没有权限）返回 None。"""
    if stat.state != "Z" or not (uid is None or uid == os.geteuid() or _may_trace()):
        return None
    return stat.wait_status


def _may_trace() -> bool:
    """有没有 CAP_SYS_PTRACE；容器里的 root 往往没有。"""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> CAP_SYS_PTRACE & 1)
    return False


def snapshot() -> dict[int, ProcessStat]:
    """此刻的全部进程。"""
    return stats_of(int(name) for name in os.listdir("/proc") if name.isdigit())


def stats_of(pids: Iterable[int]) -> dict[int, ProcessStat]:
    """这些进程里还在的。"""
    return {stat.pid: stat for stat in map(read_stat, pids) if stat is not None}


def descendants(table: dict[int, ProcessStat], roots: set[int]) -> set[int]:
    """roots 及其全部后代里还活着的（僵尸不算）。"""
    children: dict[int, list[int]] = {}
    for stat in table.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        todo.extend(children.get(pid, ()))
    return {pid for pid in seen if pid in table and table[pid].state not in "ZX"}


def own_children() -> set[int]:
    """本进程的直接子进程（含僵尸），包括过继来的孤儿；各线程的都算。"""
    try:
        lists = [read_small(f"/proc/self/task/{thread}/children") for thread in os.listdir("/proc/self/task")]
    except OSError:
        # 没有 CONFIG_PROC_CHILDREN 的内核；或者恰好有线程结束了。
        pid = os.getpid()
        return {stat.pid for stat in snapshot().values() if stat.parent == pid}
    return {int(word) for data in lists for word in data.split()}


def environment_value(pid: int, name: str) -> str | None:
    """进程开始时环境里的一个变量；读不到返回 None。"""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            data = file.read()
    except OSError:
        return None
    prefix = name.encode() + b"="
    for item in data.split(b"\0"):
        if item.startswith(prefix):
            return item[len(prefix) :].decode("utf-8", "surrogateescape")
    return None


def arguments(pid: int) -> list[str]:
    """命令行；读不到是空的。"""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return []


def read_io_bytes(pid: int) -> tuple[int, int] | None:
    """进程（含已回收的子进程）读写的字节数；没有权限或不存在返回 None。"""
    try:
        return _parse_io(read_small(f"/proc/{pid}/io"))
    except (OSError, ValueError, KeyError):
        return None


def _parse_io(data: bytes) -> tuple[int, int]:
    words = data.split()
    return int(words[words.index(b"rchar:") + 1]), int(words[words.index(b"wchar:") + 1])


class OwnIoMeter:
    """普通用户读不了僵尸的 io；但回收子进程时它的字节数会并入自己的，前后之差就是。没有 io 记账的内核给出 None。"""

    def __init__(self) -> None:
        self._before = self._read()

    def _read(self) -> tuple[int, int, int] | None:
        try:
            with open("/proc/self/io", "rb") as file:
                data = file.read()
            return (*_parse_io(data), len(data))
        except (OSError, ValueError, KeyError):
            return None

    def difference(self) -> tuple[int, int] | None:
        """从建立到现在；扣掉建立时那次读自己的字节。"""
        after = self._read()
        if self._before is None or after is None:
            return None
        read = after[0] - self._before[0] - self._before[2]
        return max(0, read), max(0, after[1] - self._before[1])


def boot_id() -> str:
    """内核这次启动的标识。"""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def machine_stops() -> bool:
    """systemd 正在关机：1 号进程已经换成 systemd-shutdown，它给余下的每个进程发 SIGTERM。"""
    try:
        with open("/proc/1/comm") as file:
            return file.read().strip() == "systemd-shutdow"
    except OSError:
        return False


def boot_now() -> float:
    """开机以来的秒数（含睡眠），不受校时影响，重启牧守进程后仍可比较。"""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
