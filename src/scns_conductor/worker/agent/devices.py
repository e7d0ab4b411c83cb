"""本节点有什么：CPU、内存、临时磁盘、GPU（nvidia-smi、昇腾 npu-smi）、开机标识。探测不到就如实为零。"""

import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scns_conductor.core.settings import Settings
from scns_conductor.core.units import parse_memory_mb
from scns_conductor.worker.agent.cpu_topology import CpuLayout, CpuUnit, declared_topology, read_topology
from scns_conductor.worker.host.process_table import boot_id

PROBE_WAIT_S = 20
_NPU_ROW = re.compile(r"^\|\s*(\d+)\s+(\S+)\s*\|\s*(OK|Warning|Alarm|Critical|UNKNOWN)\b", re.MULTILINE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """一块加速卡。index 是它在设备可见性变量里的序号；device 是 cgroup 的设备写法，不知道则为 None。"""

    index: int
    model: str
    vendor: str
    device: str | None = None
    # 挨着它的 CPU（/sys 的 local_cpulist）；不知道是空的。
    local_cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """登记进数据库的节点资源。内存、磁盘单位 MiB；units 是真实可绑定的，声明的比实有的多时为空（不绑核）。

    layout 不写的是一个插槽、CPU 数个核。
    """

    cpus: int
    memory_mb: int
    temporary_disk_mb: int
    gres: dict[str, int]
    accelerators: tuple[Accelerator, ...]
    units: tuple[CpuUnit, ...]
    boot_id: str
    boot_time: float
    architecture: str
    operating_system: str
    layout: CpuLayout | None = None

    @property
    def cpu_threads(self) -> int:
        """一个核占几个 CPU；CPU 按核算、或不整齐的是 1。"""
        if self.layout is None:
            return 1
        total = self.layout.sockets * self.layout.cores_per_socket * self.layout.threads_per_core
        return self.layout.threads_per_core if total == self.cpus else 1


def detect(settings: Settings) -> NodeInventory:
    """探测，再按设置覆盖；设置写错时抛 ValueError（中文原因）。"""
    cpus, units, layout = _processors(settings, sorted(os.sched_getaffinity(0)))
    accelerators = detect_accelerators()
    gres, accelerators = _declared_gres(settings, accelerators)
    return NodeInventory(
        cpus=cpus,
        memory_mb=parse_memory_mb(settings.node_memory) if settings.node_memory else total_memory_mb(),
        temporary_disk_mb=shutil.disk_usage("/tmp").total // 1024**2,
        gres=gres,
        accelerators=accelerators,
        units=units,
        boot_id=boot_id(),
        boot_time=boot_time(),
        architecture=platform.machine(),
        operating_system=f"{_system_name()} {platform.release()}",
        layout=layout,
    )


def _processors(settings: Settings, usable: Sequence[int]) -> tuple[int, tuple[CpuUnit, ...], CpuLayout]:
    """(登记几个 CPU, 能绑的各份, 布局)。一份是一个线程，node_cpu_unit 是 core 的是一个核的全部线程。"""
    whole = settings.node_cpu_unit == "core"
    if settings.node_cpu_topology is not None:
        declared = declared_topology(settings.node_cpu_topology)
        units = declared.cores if whole else declared.threads
        if settings.node_cpus not in (None, len(units)):
            raise ValueError(f"node_cpu_topology 有 {len(units)} 个 CPU，node_cpus 写的是 {settings.node_cpus}")
        if len(declared.threads) > len(usable):
            return len(units), (), declared.layout
        real = declared_topology(settings.node_cpu_topology, usable[: len(declared.threads)])
        return len(units), real.cores if whole else real.threads, declared.layout
    found = read_topology(usable)
    units = found.cores if whole else found.threads
    cpus = settings.node_cpus or len(units)
    if cpus == len(units):
        return cpus, units, found.layout
    return cpus, units[:cpus] if cpus < len(units) else (), CpuLayout(1, cpus, 1)


def total_memory_mb() -> int:
    """本机的内存（MiB）。"""
    return _memory_info("MemTotal") // 1024


def free_memory_mb() -> int:
    """此刻可用的内存（MiB）。"""
    return _memory_info("MemAvailable") // 1024


def _memory_info(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise ValueError(f"/proc/meminfo 里没有 {name}")


def boot_time() -> float:
    """开机时刻（Unix 秒）。"""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise ValueError("/proc/stat 里没有 btime")


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def detect_accelerators() -> tuple[Accelerator, ...]:
    """先 NVIDIA，再昇腾；都没有则为空。"""
    return parse_nvidia(_run("nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader")) or parse_ascend(
        _run("npu-smi", "info")
    )


def _run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=PROBE_WAIT_S, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("accelerator_probe_failed", extra={"program": program, "error": str(error)})
        return ""
    return done.stdout


def parse_nvidia(text: str) -> tuple[Accelerator, ...]:
    """nvidia-smi --query-gpu=index,name --format=csv,noheader 的输出。"""
    found = []
    for line in text.splitlines():
        index, comma, name = line.partition(",")
        if comma and index.strip().isdigit():
            number = int(index)
            found.append(Accelerator(number, model_word(name), "nvidia", f"c 195:{number} rwm"))
    return tuple(found)


def parse_ascend(text: str) -> tuple[Accelerator, ...]:
    """npu-smi info 的表格：每块卡的第一行是「| 序号 型号 | 健康 |」。"""
    return tuple(Accelerator(int(match[1]), model_word(match[2]), "ascend") for match in _NPU_ROW.finditer(text))


def model_word(name: str) -> str:
    """把型号全名变成 GRES 的类型词：'NVIDIA A100-SXM4-80GB' -> 'a100'、'910B3' -> '910b3'。"""
    words = [word for word in re.split(r"[\s_]+", name.strip().lower()) if word]
    words = [word for word in words if word not in ("nvidia", "tesla", "geforce", "quadro", "ascend", "graphics")]
    if not words:
        return "gpu"
    head = words[0].split("-")[0]
    if head in ("rtx", "gtx", "titan", "hgx") and len(words) > 1:
        head = f"{head}{words[1].split('-')[0]}"
    return re.sub(r"[^a-z0-9]", "", head) or "gpu"


def _declared_gres(
    settings: Settings, found: tuple[Accelerator, ...]
) -> tuple[dict[str, int], tuple[Accelerator, ...]]:
    """设置里的 node_gres 优先，其次 node_gpus，最后是探测到的。声明的比实有的多时，多出来的没有设备。"""
    if settings.node_gres is not None:
        gres = parse_node_gres(settings.node_gres)
    elif settings.node_gpus is not None:
        models = {card.model for card in found}
        kind = f"gpu:{models.pop()}" if len(models) == 1 else "gpu"
        gres = {kind: settings.node_gpus} if settings.node_gpus else {}
    else:
        gres = {}
        for card in found:
            gres[f"gpu:{card.model}"] = gres.get(f"gpu:{card.model}", 0) + 1
        return gres, found
    cards: list[Accelerator] = []
    for name, count in gres.items():
        kind, _, model = name.partition(":")
        if kind != "gpu":
            continue
        for _ in range(count):
            index = len(cards)
            real = found[index] if index < len(found) else None
            cards.append(
                Accelerator(index, model or "gpu", real.vendor if real else "none", real.device if real else None)
            )
    return gres, tuple(cards)


def parse_node_gres(text: str) -> dict[str, int]:
    """节点的 GRES 写法 'gpu:a100:4,nic:2' -> {'gpu:a100': 4, 'nic': 2}；写错抛 ValueError（中文原因）。"""
    found: dict[str, int] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, count = part.rpartition(":")
        if not name or not count.isdigit():
            name, count = part, "1"
        if not re.fullmatch(r"[A-Za-z0-9_.\-]+(:[A-Za-z0-9_.\-]+)?", name):
            raise ValueError(f"通用资源 {part!r} 无法识别；例如 gpu:a100:4")
        found[name] = found.get(name, 0) + int(count)
    return found
