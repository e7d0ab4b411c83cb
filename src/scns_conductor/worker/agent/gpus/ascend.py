"""昇腾：npu-smi info 的表格，每块卡两行。"""

import re
from collections.abc import Mapping

from scns_conductor.worker.agent.gpus.card import Accelerator, Reading, model_word
from scns_conductor.worker.agent.gpus.probe import device_rule, local_cpus, run_tool

_FIRST = re.compile(r"^\|\s*(\d+)\s+(\S+)\s*\|\s*(OK|Warning|Alarm|Critical|UNKNOWN)\b[^|]*\|\s*([\d.]+|NA|-)\s")
_SECOND = re.compile(
    r"^\|\s*(\d+)(?:\s+(\d+))?\s*\|\s*([0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d|NA)\s*\|\s*(\d+|NA)\s+(.*)\|"
)
_MEMORY = re.compile(r"(\d+)\s*/\s*(\d+)")


class Ascend:
    """npu-smi。"""

    name = "ascend"

    def detect(self) -> list[Accelerator]:
        """一块卡几个芯片的（310、910 的双芯）各算一块，序号是 /dev/davinciN 的 N。"""
        return [card for card, _ in parse_info(run_tool("npu-smi", "info") or "")]

    def read(self) -> Mapping[str, Reading]:
        """AI Core 忙几成、显存、功率（一块卡的，双芯的算在第一个上）。"""
        return {
            card.identity: reading
            for card, reading in parse_info(run_tool("npu-smi", "info") or "")
            if reading is not None
        }


def parse_info(text: str) -> list[tuple[Accelerator, Reading | None]]:
    """npu-smi info：第一行「序号 型号 | 健康 | 功率 …」，第二行「芯片 [设备号] | PCI 地址 | AICore 显存 …」。"""
    found: list[tuple[Accelerator, Reading | None]] = []
    card: re.Match[str] | None = None
    power = ""
    for line in text.splitlines():
        first, second = _FIRST.match(line), _SECOND.match(line)
        if first is not None:
            card, power = first, first[4]
        elif second is not None and card is not None:
            # 一块卡一个芯片的，设备号就是卡号；几个芯片的表里另写着（Phy-ID）。
            index = int(second[2]) if second[2] is not None else int(card[1])
            rule = device_rule(f"/dev/davinci{index}")
            found.append(
                (
                    Accelerator(
                        index,
                        model_word(card[2]),
                        "ascend",
                        () if rule is None else (rule,),
                        local_cpus(second[3]),
                        f"ascend:{index}",
                    ),
                    _reading(second, power),
                )
            )
            power = ""
    return found


def _reading(line: re.Match[str], power: str) -> Reading | None:
    memory = _MEMORY.findall(line[5])
    if line[4] == "NA" or not memory:
        return None
    # 显存有两种：片上的 HBM 写在后面，没有 HBM 的（310）只有一个。
    used = int(memory[-1][0])
    return Reading(int(line[4]) / 100, used, power_w=float(power) if power[:1].isdigit() else None)
