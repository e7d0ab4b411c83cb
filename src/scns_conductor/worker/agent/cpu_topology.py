"""本机的插槽、核、线程、NUMA 节点：从 /sys/devices/system 读出来，或照设置里声明的。只读，不改任何东西。"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM_TREE = Path("/sys/devices/system")
_DECLARED = re.compile(r"(\d{1,4}):(\d{1,5})(?::(\d{1,2}))?(?::(\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class CpuUnit:
    """分给作业的最小一份：ids 是它的 CPU 号（一个线程，或一个核的全部线程），与它在哪个核、插槽、NUMA 节点。"""

    ids: tuple[int, ...]
    core: int
    socket: int = 0
    numa: int = 0


@dataclass(frozen=True, slots=True)
class CpuLayout:
    """slurm.conf(5) 的 Sockets、CoresPerSocket、ThreadsPerCore。"""

    sockets: int
    cores_per_socket: int
    threads_per_core: int


@dataclass(frozen=True, slots=True)
class CpuTopology:
    """各个 CPU（线程），一个一份，按（插槽、NUMA、核、号）排。"""

    threads: tuple[CpuUnit, ...]

    @property
    def layout(self) -> CpuLayout:
        """不整齐的（有的核两个线程、有的一个）取多的。"""
        sockets = {unit.socket for unit in self.threads}
        cores = {unit.core: unit.socket for unit in self.threads}
        return CpuLayout(
            max(1, len(sockets)),
            max(Counter(cores.values()).values(), default=1),
            max(Counter(unit.core for unit in self.threads).values(), default=1),
        )

    @property
    def cores(self) -> tuple[CpuUnit, ...]:
        """一个核一份，带着它的全部线程。"""
        found: dict[int, list[CpuUnit]] = {}
        for unit in self.threads:
            found.setdefault(unit.core, []).append(unit)
        return tuple(
            CpuUnit(tuple(sorted(each.ids[0] for each in units)), core, units[0].socket, units[0].numa)
            for core, units in found.items()
        )


def plain_units(cpu_ids: Iterable[int]) -> tuple[CpuUnit, ...]:
    """不知道拓扑的：各是一个核，同在一个插槽。"""
    return tuple(CpuUnit((cpu,), cpu) for cpu in cpu_ids)


def read_topology(usable: Sequence[int], tree: Path = SYSTEM_TREE) -> CpuTopology:
    """usable 里的各个 CPU；没有拓扑文件的（一些容器）各是一个核。

    插槽与核的编号各平台不同（鲲鹏的 physical_package_id 是 36、3602），只看相同与否，另编成 0 起的。
    """
    numa_of = _numa_nodes(tree)
    raw = []
    for cpu in sorted(usable):
        directory = tree / "cpu" / f"cpu{cpu}" / "topology"
        package = _text(directory / "physical_package_id") or "0"
        # 一个核的全部线程写着同一串；core_id 在一个插槽里也可以重复。
        siblings = _text(directory / "thread_siblings_list") or _text(directory / "core_cpus_list") or str(cpu)
        raw.append((cpu, "0" if package == "-1" else package, siblings, numa_of.get(cpu, 0)))
    packages = {name: index for index, name in enumerate(dict.fromkeys(package for _, package, _, _ in raw))}
    cores = {key: index for index, key in enumerate(dict.fromkeys((package, core) for _, package, core, _ in raw))}
    units = [CpuUnit((cpu,), cores[package, core], packages[package], numa) for cpu, package, core, numa in raw]
    return CpuTopology(tuple(sorted(units, key=lambda unit: (unit.socket, unit.numa, unit.core, unit.ids))))


def declared_topology(text: str, cpu_ids: Sequence[int] | None = None) -> CpuTopology:
    """'2:8:2' 是插槽:每插槽的核:每核的线程，后面可以再写 NUMA 节点数（缺省一个插槽一个）。

    写错抛 ValueError（中文原因）。cpu_ids 是依次用的 CPU 号，缺省从 0 数起；一个核的线程挨着。
    """
    match = _DECLARED.fullmatch(text.strip())
    if match is None or "0" in (found := [part for part in match.groups() if part is not None]):
        raise ValueError(f"CPU 拓扑 {text!r} 无法识别；写成 插槽:每插槽的核[:每核的线程[:NUMA 节点数]]，如 2:8:2")
    sockets, cores, threads = int(found[0]), int(found[1]), int(match[3] or 1)
    nodes = int(match[4] or sockets)
    if sockets * cores * threads > 65536:
        raise ValueError(f"CPU 拓扑 {text!r} 的 CPU 太多")
    if sockets * cores % nodes:
        raise ValueError(f"CPU 拓扑 {text!r} 的核不能平分到 {nodes} 个 NUMA 节点")
    numbers = range(sockets * cores * threads) if cpu_ids is None else cpu_ids
    units = (
        CpuUnit((cpu,), index // threads, index // threads // cores, index // threads * nodes // (sockets * cores))
        for index, cpu in enumerate(numbers)
    )
    return CpuTopology(tuple(units))


def parse_cpu_list(text: str) -> list[int]:
    """内核的写法 '0-3,8' -> [0, 1, 2, 3, 8]；空的是空的，认不出的略过。"""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.extend(range(int(first), int(last or first) + 1))
    return found


def _numa_nodes(tree: Path) -> dict[int, int]:
    found = {}
    for directory in sorted((tree / "node").glob("node[0-9]*")):
        for cpu in parse_cpu_list(_text(directory / "cpulist")):
            found[cpu] = int(directory.name.removeprefix("node"))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
