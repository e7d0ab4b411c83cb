"""看着卡：不见了、MIG 重新划分了、多出来了。"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scns_conductor.worker.agent.gpus.card import Accelerator, ProbeError

# 排空的原因从这里起：照现在的登记好了就撤销。
RESLICED, CHANGED = "MIG 重新划分过", "GPU 变了"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """gone 是不在了的；lost 表示有整块的卡不见了，不只是 MIG 重新划分；reason 是给管理员看的。"""

    found: tuple[Accelerator, ...]
    gone: tuple[Accelerator, ...]
    lost: bool
    reason: str


def compare(known: Sequence[Accelerator], found: Sequence[Accelerator]) -> Change | None:
    """与登记的比；一样是 None。"""
    before, now = {card.identity: card for card in known}, {card.identity: card for card in found}
    if before.keys() == now.keys():
        return None
    gone = tuple(card for identity, card in before.items() if identity not in now)
    wholes = {card.parent or card.identity for card in known}
    missing = wholes - {card.parent or card.identity for card in found}
    if missing:
        lost = [card for card in gone if (card.parent or card.identity) in missing]
        told = "、".join(f"{card.index} 号（{card.model}，{card.identity}）" for card in lost)
        return Change(tuple(found), gone, True, f"GPU 不见了：{told}")
    if any(card.parent for card in (*gone, *(now[identity] for identity in now.keys() - before.keys()))):
        return Change(tuple(found), gone, False, f"{RESLICED}：现在是 {listing(found)}")
    return Change(tuple(found), gone, False, f"{CHANGED}：现在是 {listing(found)}")


def listing(cards: Sequence[Accelerator]) -> str:
    """'a100×2、a100_1g.5gb×3'。"""
    models = [card.model for card in cards]
    return "、".join(f"{model}×{models.count(model)}" for model in dict.fromkeys(models)) or "没有 GPU"


class GpuWatch:
    """在自己的线程里问，一次几百毫秒。连着两次一样的变化才算：驱动正在换的那一刻什么都可能看见。"""

    def __init__(
        self, detect: Callable[[], tuple[Accelerator, ...]], known: Callable[[], Sequence[Accelerator]]
    ) -> None:
        self._detect = detect
        self._known = known
        self._seen: Change | None = None
        self._asking: threading.Thread | None = None
        self._answer: Change | None = None

    def look(self) -> Change | None:
        """上一次问到的变化（没有是 None），顺便再问一次。"""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, name="gpu-watch", daemon=True)
            self._asking.start()
        return self._answer

    def _ask(self) -> None:
        try:
            found = self._detect()
        except ProbeError as error:
            # 工具坏了：卡多半也用不了，当作都不见了。
            logger.warning("gpu_watch_failed", extra={"error": str(error)})
            found = ()
        change = compare(self._known(), found)
        self._answer = change if change == self._seen else None
        self._seen = change
