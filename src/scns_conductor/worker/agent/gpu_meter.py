"""各块 GPU 此刻忙几成、用了多少显存、费了多少电。问一次要几百毫秒，所以在自己的线程里问，取的是上一次的。"""

import threading
import time
from collections.abc import Callable, Mapping

from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.gpus.card import Reading
from scns_conductor.worker.agent.gpus.cards import Cards

# 两次读数隔得比这还久的，其间的能耗不由功率推算。
LONGEST_GAP_S = 120.0


class GpuMeter:
    """没有真的卡（没有、声明的）时什么也不问，谁的都不知道。read 问全部的卡：identity -> 读数。"""

    def __init__(
        self,
        cards: Cards,
        pool: CorePool,
        read: Callable[[], Mapping[str, Reading]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cards = cards
        self._pool = pool
        self._read = read
        self._clock = clock
        self._readings: Mapping[str, Reading] = {}
        # 没有能耗计数的卡由功率积出来的（焦耳），与上一次的时刻。
        self._integrated: dict[str, float] = {}
        self._at: float | None = None
        self._asking: threading.Thread | None = None

    def of(self, owner: tuple[int, int]) -> tuple[float, int, float | None] | None:
        """一个作业的卡：（忙着几块，显存 MiB，能耗计数 J）；没有卡、有一块不知道是 None，有一块没有能耗的能耗是 None。

        合用的卡、MIG 实例说的是整块的（工具不给各自的）。顺便再问一次，下回用。
        """
        ids = self._pool.binding_of(owner).accelerator_ids
        if not ids:
            return None
        identities = {card.index: card.identity for card in self._cards.all if card.vendor != "none"}
        if not identities:
            return None
        readings = self._readings
        self.ask()
        mine = [readings.get(identities.get(index, "")) for index in ids]
        known = [each for each in mine if each is not None]
        if len(known) < len(mine):
            return None
        energies = [self._energy(identities[index], readings) for index in ids]
        energy = None if any(each is None for each in energies) else sum(each for each in energies if each is not None)
        return sum(each.busy for each in known), sum(each.memory_mb for each in known), energy

    def ask(self) -> threading.Thread:
        """再问一次；正在问的就是那一次。"""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, name="gpu-meter", daemon=True)
            self._asking.start()
        return self._asking

    def _energy(self, identity: str, readings: Mapping[str, Reading]) -> float | None:
        counted = readings[identity].energy_j
        return counted if counted is not None else self._integrated.get(identity)

    def _ask(self) -> None:
        readings, now = self._read(), self._clock()
        gap_s = min(now - self._at, LONGEST_GAP_S) if self._at is not None else 0.0
        for identity, reading in readings.items():
            if reading.energy_j is None and reading.power_w is not None:
                self._integrated[identity] = self._integrated.get(identity, 0.0) + reading.power_w * gap_s
        self._at = now
        self._readings = readings
