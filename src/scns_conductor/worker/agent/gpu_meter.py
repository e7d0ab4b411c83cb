"""各块 GPU 此刻忙几成、用了多少显存（nvidia-smi）。问一次要几百毫秒，所以在自己的线程里问，取的是上一次的。"""

import logging
import shutil
import subprocess
import threading

from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.devices import NodeInventory

QUERY = ("--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits")
WAIT_S = 10.0

logger = logging.getLogger(__name__)


class GpuMeter:
    """没有 NVIDIA 的卡、没有 nvidia-smi 时什么也不问，谁的都不知道。"""

    def __init__(self, inventory: NodeInventory, pool: CorePool) -> None:
        cards = any(card.vendor == "nvidia" for card in inventory.accelerators)
        self._program = shutil.which("nvidia-smi") if cards else None
        self._pool = pool
        self._readings: dict[int, tuple[float, int]] = {}
        self._asking: threading.Thread | None = None

    def of(self, owner: tuple[int, int]) -> tuple[float, int] | None:
        """一个作业的卡：（忙着几块，显存 MiB）；没有卡、有一块不知道是 None。顺便再问一次，下回用。"""
        if self._program is None:
            return None
        ids = self._pool.binding_of(owner).accelerator_ids
        if not ids:
            return None
        self._ask()
        readings = self._readings
        if not all(index in readings for index in ids):
            return None
        return sum(readings[index][0] for index in ids), sum(readings[index][1] for index in ids)

    def _ask(self) -> None:
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._read, name="gpu-meter", daemon=True)
            self._asking.start()

    def _read(self) -> None:
        assert self._program is not None
        try:
            done = subprocess.run(
                [self._program, *QUERY], capture_output=True, text=True, timeout=WAIT_S, check=True, errors="replace"
            )
        except (OSError, subprocess.SubprocessError) as error:
            # 驱动坏了：旧的不再算数。
            logger.warning("gpu_reading_failed", extra={"error": str(error)})
            self._readings = {}
            return
        self._readings = parse_readings(done.stdout)


def parse_readings(text: str) -> dict[int, tuple[float, int]]:
    """nvidia-smi 的 CSV -> 序号：（忙几成 0–1，显存 MiB）；说不出的（MIG、[N/A]）略过。"""
    found = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3 and all(word.isdecimal() for word in words):
            found[int(words[0])] = (int(words[1]) / 100, int(words[2]))
    return found
