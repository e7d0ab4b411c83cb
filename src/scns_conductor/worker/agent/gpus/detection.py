"""本机有哪些加速卡：各家都问一遍。"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from scns_conductor.worker.agent.gpus.amd import Amd
from scns_conductor.worker.agent.gpus.ascend import Ascend
from scns_conductor.worker.agent.gpus.card import Accelerator, ProbeError, Reading, Vendor
from scns_conductor.worker.agent.gpus.nvidia import Nvidia
from scns_conductor.worker.agent.gpus.nvml import nvml_if_working

logger = logging.getLogger(__name__)


def vendors() -> list[Vendor]:
    """各家的工具；NVIDIA 有 NVML 就不用 nvidia-smi。"""
    return [nvml_if_working() or Nvidia(), Amd(), Ascend()]


def detect_all(known: Sequence[Vendor], *, broken_is_none: bool = False) -> tuple[Accelerator, ...]:
    """全部的卡；几家的卡在一台机器上时，序号接着排。

    工具坏了的抛 ProbeError；broken_is_none 的当作没有，记一笔。
    """
    found: list[Accelerator] = []
    for vendor in known:
        try:
            cards = vendor.detect()
        except ProbeError as error:
            if not broken_is_none:
                raise
            logger.warning("accelerator_probe_failed", extra={"vendor": vendor.name, "error": str(error)})
            continue
        if found:
            first = found[-1].index + 1
            # 可见性变量里仍是它自己的序号。
            cards = [
                replace(card, index=first + at, visible=card.visible or str(card.index))
                for at, card in enumerate(cards)
            ]
        found += cards
    return tuple(found)


def read_all(known: Sequence[Vendor]) -> dict[str, Reading]:
    """各块（identity）的读数；坏了的一家记一笔，不在其中。"""
    found: dict[str, Reading] = {}
    for vendor in known:
        try:
            found |= vendor.read()
        except ProbeError as error:
            # 驱动坏了：旧的不再算数。
            logger.warning("gpu_reading_failed", extra={"vendor": vendor.name, "error": str(error)})
    return found
