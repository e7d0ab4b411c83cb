"""一块加速卡与它此刻的读数，以及各家的工具要会做的两件事。"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Accelerator:
    """一块加速卡，或一个 MIG 实例。index 是它在本节点上的序号；devices 是 cgroup 的设备写法，不知道是空的。

    visible 是可见性变量里怎样写，空的就是序号；是数的，圈住了设备的作业里换成第几块。MIG 实例只认 UUID。
    parent 是 MIG 实例所在的卡的 UUID；local_cpus 是挨着它的 CPU（/sys 的 local_cpulist），不知道是空的。
    """

    index: int
    model: str
    vendor: str
    devices: tuple[str, ...] = ()
    local_cpus: tuple[int, ...] = ()
    uuid: str = ""
    parent: str = ""
    visible: str = ""

    @property
    def identity(self) -> str:
        """认得出是不是同一块：重新编号也一样。"""
        return self.uuid or f"{self.vendor}:{self.index}:{self.model}"


@dataclass(frozen=True, slots=True)
class Reading:
    """此刻：busy 忙几成（0–1），memory_mb 显存（MiB）；不知道是 None 的：energy_j 至今的能耗（焦耳），power_w 功率。"""

    busy: float
    memory_mb: int
    energy_j: float | None = None
    power_w: float | None = None


class Vendor(Protocol):
    """一家的工具。"""

    name: str

    def detect(self) -> list[Accelerator]:
        """有哪些卡，序号从 0 起；没有工具、没有卡是空的，工具坏了抛 ProbeError。"""
        ...

    def read(self) -> Mapping[str, Reading]:
        """各块（identity）此刻的读数；说不出的不在其中，工具坏了抛 ProbeError。"""
        ...


class ProbeError(Exception):
    """工具坏了、不答话；说明给管理员看。"""


def model_word(name: str) -> str:
    """把型号全名变成 GRES 的类型词：'NVIDIA A100-SXM4-80GB' -> 'a100'、'AMD Instinct MI300X' -> 'mi300x'。"""
    words = [word for word in re.split(r"[\s_]+", name.strip().lower()) if word]
    words = [word for word in words if word not in _MAKERS]
    if not words:
        return "gpu"
    head = words[0].split("-")[0].removeprefix("ascend")
    if head in ("rtx", "gtx", "titan", "hgx", "rx", "pro") and len(words) > 1:
        head = f"{head}{words[1].split('-')[0]}"
    return re.sub(r"[^a-z0-9]", "", head) or "gpu"


_MAKERS = frozenset(
    {"nvidia", "tesla", "geforce", "quadro", "ascend", "graphics", "amd", "instinct", "radeon", "advanced", "micro",
     "devices,", "inc.", "[amd/ati]", "huawei"}
)  # fmt: skip
