"""AMD：先 amd-smi（ROCm 6 起），没有的用 rocm-smi。"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from scns_conductor.worker.agent.gpus.card import Accelerator, ProbeError, Reading, model_word
from scns_conductor.worker.agent.gpus.probe import device_rule, local_cpus, run_tool

_NAMES = ("Card Series", "Card series", "Device Name", "Card Model", "Card model")
_POWERS = ("Current Socket Graphics Package Power (W)", "Average Graphics Package Power (W)")


class Amd:
    """amd-smi 或 rocm-smi，都是 JSON。"""

    name = "amd"

    def detect(self) -> list[Accelerator]:
        """型号、PCI 地址；设备是 /dev/dri/renderD*。"""
        listed = run_tool("amd-smi", "static", "--asic", "--bus", "--json")
        if listed is not None:
            return parse_amd_static(listed)
        listed = run_tool("rocm-smi", "--showproductname", "--showbus", "--json")
        return [] if listed is None else parse_rocm(listed)

    def read(self) -> Mapping[str, Reading]:
        """忙几成、显存、功率、能耗。"""
        told = run_tool("amd-smi", "metric", "--usage", "--power", "--energy", "--mem-usage", "--json")
        if told is not None:
            return parse_amd_metric(told)
        told = run_tool("rocm-smi", "--showuse", "--showmeminfo", "vram", "--showpower", "--json")
        return {} if told is None else parse_rocm_readings(told)


def parse_amd_static(text: str) -> list[Accelerator]:
    """amd-smi static --asic --bus --json：一个列表，新的版本套在 gpu_data 里。"""
    return [
        _card(
            int(each["gpu"]),
            str((each.get("asic") or {}).get("market_name") or ""),
            str((each.get("bus") or {}).get("bdf") or ""),
        )
        for each in _gpu_data(text)
    ]


def parse_amd_metric(text: str) -> dict[str, Reading]:
    """amd-smi metric --json。"""
    found = {}
    for each in _gpu_data(text):
        busy = _value(each, "usage", "gfx_activity")
        memory = _value(each, "mem_usage", "used_vram")
        if busy is None or memory is None:
            continue
        found[_identity(int(each["gpu"]))] = Reading(
            busy / 100,
            int(memory),
            _value(each, "energy", "total_energy_consumption"),
            _value(each, "power", "socket_power"),
        )
    return found


def parse_rocm(text: str) -> list[Accelerator]:
    """rocm-smi --showproductname --showbus --json：card0、card1……各一个对象。"""
    found = []
    for index, card in _rocm_cards(text):
        name = next((card[key] for key in _NAMES if card.get(key) not in (None, "", "N/A")), "")
        found.append(_card(index, name, str(card.get("PCI Bus") or "")))
    return found


def parse_rocm_readings(text: str) -> dict[str, Reading]:
    """忙几成、显存（字节）、功率；没有能耗的计数。"""
    found = {}
    for index, card in _rocm_cards(text):
        try:
            busy, used = float(card["GPU use (%)"]) / 100, int(card["VRAM Total Used Memory (B)"]) // 1024**2
        except (KeyError, ValueError):
            continue
        power = next((_number(card[key]) for key in _POWERS if key in card), None)
        found[_identity(index)] = Reading(busy, used, power_w=power)
    return found


def _identity(index: int) -> str:
    # 两种工具、两个命令都写着的只有序号。
    return f"amd:{index}"


def _card(index: int, name: str, bus: str) -> Accelerator:
    rule = device_rule(f"/dev/dri/by-path/pci-{bus.lower()}-render") if bus else None
    devices = () if rule is None else (rule,)
    return Accelerator(index, model_word(name), "amd", devices, local_cpus(bus), _identity(index))


def _load(text: str) -> Any:
    # 有的版本在前面打印警告。
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0]
    except ValueError as error:
        raise ProbeError(f"不是 JSON：{error}") from error


def _gpu_data(text: str) -> Iterator[dict[str, Any]]:
    found = _load(text)
    if isinstance(found, dict):
        found = found.get("gpu_data")
    for each in found or ():
        if isinstance(each, dict) and str(each.get("gpu", "")).isdigit():
            yield each


def _rocm_cards(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    found = _load(text)
    for name, card in sorted((found or {}).items(), key=lambda item: (len(item[0]), item[0])):
        number = name.removeprefix("card")
        if name.startswith("card") and number.isdigit() and isinstance(card, dict):
            yield int(number), card


def _value(each: Mapping[str, Any], group: str, name: str) -> float | None:
    """{'value': 3, 'unit': '%'} 或直接是数；'N/A' 是 None。"""
    found = (each.get(group) or {}).get(name) if isinstance(each.get(group), dict) else None
    return _number(found.get("value") if isinstance(found, dict) else found)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
