"""系统的各类进程用了多少 CPU、占多少内存：只读 /proc。CPU 时间比每秒个数稳得多，别的程序同时在跑也不大影响它。"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from system import System

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
JOBS_KIND = "bash（作业本身）"
# 命令行里的字样 -> 表里的名字；按次序看，先合的算。
KINDS = (
    ("worker.shepherd", "牧守进程"),
    ("worker.scheduler", "调度器"),
    ("worker.agent", "代理"),
    ("scns_conductor.api", "API"),
    ("scns_conductor.local", "scns up"),
    ("fake_nodes.py", "假节点"),
    ("postgres", "PostgreSQL"),
    ("valkey", "Valkey"),
)
ORDER = ("API", "PostgreSQL", "调度器", "Valkey", "代理", "牧守进程", "scns up", "假节点", JOBS_KIND)


@dataclass(frozen=True, slots=True)
class Memory:
    """一类进程的内存（KiB）：PSS 把共享的页平摊，RSS 各算各的；processes 是几个进程。"""

    pss_kb: int
    rss_kb: int
    processes: int


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    kind: str
    own_s: float
    children_s: float


def _processes(system: System) -> Iterator[_Process]:
    """scns up 的后代，与命令行里有它的数据目录的（牧守进程已经过继走了）。"""
    parents: dict[int, int] = {}
    facts: dict[int, tuple[str, float, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        own, children = (sum(map(int, fields[at : at + 2])) / TICKS_PER_S for at in (11, 13))
        facts[pid] = (command, own, children)
    marks = (str(system.data), system.url)
    for pid, (command, own, children) in facts.items():
        ancestor = pid
        while ancestor not in (0, 1, system.process.pid):
            ancestor = parents.get(ancestor, 0)
        if ancestor != system.process.pid and not any(mark in command for mark in marks):
            continue
        kind = next((name for word, name in KINDS if word in command), None)
        if kind is not None:
            yield _Process(pid, kind, own, children)


def cpu_s(system: System) -> Counter[str]:
    """各类进程到现在为止的 CPU 秒；牧守进程等到的子进程（作业）单列。"""
    found: Counter[str] = Counter()
    for process in _processes(system):
        found[process.kind] += process.own_s
        if process.kind == "牧守进程":
            found[JOBS_KIND] += process.children_s
        elif process.kind == "PostgreSQL":
            # 已经退出的后端；不算的话，中间走了一条会话，用掉的就少了一截。
            found[process.kind] += process.children_s
    return found


def memory(system: System) -> dict[str, Memory]:
    """各类进程此刻的内存。"""
    found: dict[str, Memory] = {}
    for process in _processes(system):
        sizes = _sizes_kb(process.pid)
        if sizes is None:
            continue
        old = found.get(process.kind, Memory(0, 0, 0))
        found[process.kind] = Memory(
            old.pss_kb + sizes.get("Pss", 0), old.rss_kb + sizes.get("Rss", 0), old.processes + 1
        )
    return found


@dataclass(frozen=True, slots=True)
class Grown:
    """一个进程的内存（KiB）。own_kb：PostgreSQL 的不算共用的缓冲区（谁碰过的页多谁的 RSS 大），别的就是 RSS。"""

    kind: str
    own_kb: int
    rss_kb: int


def each_memory(system: System) -> dict[int, Grown]:
    """各个进程（进程号）此刻的内存。"""
    found: dict[int, Grown] = {}
    for process in _processes(system):
        sizes = _sizes_kb(process.pid)
        if sizes is not None:
            rss = sizes.get("Rss", 0)
            own = sizes.get("Anonymous", rss) if process.kind == "PostgreSQL" else rss
            found[process.pid] = Grown(process.kind, own, rss)
    return found


def _sizes_kb(pid: int) -> dict[str, int] | None:
    """smaps_rollup 里的各项；进程已经没有了是 None。"""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}


def machine_cpu_s() -> tuple[float, float]:
    """整台机器到现在为止（忙的，总共的）CPU 秒，各核合计。"""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S, sum(fields) / TICKS_PER_S
