"""NVIDIA：装了附加组件 nvidia 的用 NVML（快），没有的用 nvidia-smi。MIG 实例各是一块。"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scns_conductor.worker.agent.gpus.card import Accelerator, Reading, model_word
from scns_conductor.worker.agent.gpus.probe import local_cpus, run_tool

MAJOR = 195
PROC_TREE = Path("/proc/driver/nvidia")
_CARD = re.compile(r"GPU (\d+): (.+?) \(UUID: (GPU-[^)]+)\)")
_INSTANCE = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)")
QUERY = "--query-gpu=uuid,utilization.gpu,memory.used,power.draw"
FORMAT = "--format=csv,noheader,nounits"


class Nvidia:
    """nvidia-smi。"""

    name = "nvidia"

    def detect(self) -> list[Accelerator]:
        """nvidia-smi -L 里的卡与 MIG 实例；PCI 地址另问。"""
        listed = run_tool("nvidia-smi", "-L")
        if not listed:
            return []
        return parse_list(listed, run_tool("nvidia-smi", "--query-gpu=uuid,pci.bus_id", "--format=csv,noheader") or "")

    def read(self) -> Mapping[str, Reading]:
        """nvidia-smi 的 CSV；MIG 打开的卡说不出忙几成。"""
        return parse_readings(run_tool("nvidia-smi", QUERY, FORMAT) or "")


def parse_list(text: str, bus_ids: str = "", proc: Path = PROC_TREE) -> list[Accelerator]:
    """nvidia-smi -L，与 uuid,pci.bus_id 的 CSV。切成 MIG 的卡只算实例。"""
    buses = dict(_pairs(bus_ids))
    cards: list[Accelerator] = []
    for line in text.splitlines():
        card, instance = _CARD.match(line), _INSTANCE.match(line)
        if card is not None:
            number, bus = int(card[1]), buses.get(card[3], "")
            rule = f"c {MAJOR}:{device_minor(bus, number, proc)} rwm"
            cards.append(Accelerator(number, model_word(card[2]), "nvidia", (rule,), local_cpus(bus), card[3]))
        elif instance is not None and cards:
            whole = next(each for each in reversed(cards) if not each.parent)
            cards.append(instance_of(whole, instance[1], instance[3]))
    return numbered(cards)


def instance_of(whole: Accelerator, profile: str, uuid: str) -> Accelerator:
    """whole 的一个 MIG 实例；profile 如 1g.5gb。"""
    model = f"{whole.model}_{profile.lower()}"
    return replace(whole, model=model, uuid=uuid, parent=whole.uuid, visible=uuid)


def numbered(cards: list[Accelerator]) -> list[Accelerator]:
    """去掉有实例的整块；都没有切开的保留驱动的序号，不然从 0 重新编，整块的也用 UUID 说。"""
    sliced = {card.parent for card in cards if card.parent}
    if not sliced:
        return cards
    usable = [card for card in cards if card.uuid not in sliced]
    return [replace(card, index=index, visible=card.uuid) for index, card in enumerate(usable)]


def device_minor(bus_id: str, index: int, proc: Path = PROC_TREE) -> int:
    """/dev/nvidiaN 的 N：驱动写在 /proc/driver/nvidia/gpus 里，可以与序号不同。"""
    domain, _, rest = bus_id.strip().lower().partition(":")
    try:
        text = (proc / "gpus" / f"{domain[-4:]}:{rest}" / "information").read_text()
    except OSError:
        return index
    match = re.search(r"^Device Minor:\s*(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else index


def parse_readings(text: str) -> dict[str, Reading]:
    """CSV -> UUID：读数；说不出忙几成、显存的（MIG、[N/A]）略过，功率说不出的是 None。"""
    found = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 4 and words[1].isdecimal() and words[2].isdecimal():
            found[words[0]] = Reading(int(words[1]) / 100, int(words[2]), power_w=_float(words[3]))
    return found


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(left.strip(), right.strip()) for left, _, right in (line.partition(",") for line in text.splitlines())]
