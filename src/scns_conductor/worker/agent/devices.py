"""本节点有什么：CPU、内存、临时磁盘、GPU（各家的工具在 gpus 里）、开机标识。探测不到就如实为零。"""

import logging
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scns_conductor.core.errors import SettingsError
from scns_conductor.core.units import parse_memory_mb
from scns_conductor.worker.agent.cpu_topology import CpuLayout, CpuUnit, declared_topology, read_topology
from scns_conductor.worker.agent.gpus.card import Accelerator
from scns_conductor.worker.agent.gpus.detection import detect_all, vendors
from scns_conductor.worker.agent.gpus.shares import parse_shares
from scns_conductor.worker.host.process_table import boot_id

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """登记进数据库的节点资源。内存、磁盘单位 MiB；units 是真实可绑定的，声明的比实有的多时为空（不绑核）。

    layout 不写的是一个插槽、CPU 数个核；shares 是合用的卡 -> （怎样合用, 几份）。
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
    shares: dict[int, tuple[str, int]] = field(default_factory=dict)

    @property
    def cpu_threads(self) -> int:
        """一个核占几个 CPU；CPU 按核算、或不整齐的是 1。"""
        if self.layout is None:
            return 1
        total = self.layout.sockets * self.layout.cores_per_socket * self.layout.threads_per_core
        return self.layout.threads_per_core if total == self.cpus else 1


def detect(settings: "Settings") -> NodeInventory:
    """探测，再按设置覆盖；设置写错时抛 SettingsError。"""
    try:
        return _detect(settings)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _detect(settings: "Settings") -> NodeInventory:
    cpus, units, layout = _processors(settings, sorted(os.sched_getaffinity(0)))
    gres, accelerators = _declared_gres(settings, detect_all(vendors(), broken_is_none=True))
    present = {card.index for card in accelerators}
    wanted = parse_shares(settings.node_gpu_shares)
    gres = _shared_gres(gres, accelerators, wanted)
    shares = {index: share for index, share in wanted.items() if index in present}
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
        shares=shares,
    )


def _processors(settings: "Settings", usable: Sequence[int]) -> tuple[int, tuple[CpuUnit, ...], CpuLayout]:
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


def own_folders(settings: "Settings") -> dict[str, Path]:
    """节点自己要写的目录。"""
    return {"spool": settings.spool_path, "scripts": settings.script_path}


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


def _declared_gres(
    settings: "Settings", found: tuple[Accelerator, ...]
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
                replace(real, index=index, model=model or "gpu", visible=real.visible or str(real.index))
                if real
                else Accelerator(index, model or "gpu", "none")
            )
    return gres, tuple(cards)


def inventory_with(inventory: NodeInventory, cards: tuple[Accelerator, ...]) -> NodeInventory:
    """卡换成这些之后的登记（没有声明 GRES 的节点）；不见了的卡上的合用也没有了。"""
    gres: dict[str, int] = {}
    for card in cards:
        gres[f"gpu:{card.model}"] = gres.get(f"gpu:{card.model}", 0) + 1
    present = {card.index for card in cards}
    shares = {index: share for index, share in inventory.shares.items() if index in present}
    return replace(inventory, gres=_shared_gres(gres, cards, shares), accelerators=cards, shares=shares)


def _shared_gres(
    gres: dict[str, int], cards: Sequence[Accelerator], shares: Mapping[int, tuple[str, int]]
) -> dict[str, int]:
    """合用的卡不再整块地给：从 gpu 里去掉，成为 shard（mps）的几份。"""
    models, found = {card.index: card.model for card in cards}, dict(gres)
    for index, (kind, count) in shares.items():
        if index not in models:
            # 写错了，或坏了：别的卡照用。
            logger.warning("shared_gpu_missing", extra={"index": index, "cards": sorted(models)})
            continue
        whole = f"gpu:{models[index]}" if f"gpu:{models[index]}" in found else "gpu"
        found[whole] -= 1
        name = kind if models[index] == "gpu" else f"{kind}:{models[index]}"
        found[name] = found.get(name, 0) + count
    return {name: count for name, count in found.items() if count or name not in gres or gres[name] == count}


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
