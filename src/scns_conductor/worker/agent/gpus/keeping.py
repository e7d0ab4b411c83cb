"""卡变了怎么办：节点排空并说明，用着它的作业写上一句；没有作业占着卡时照现在的重新登记。"""

import logging
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine

from scns_conductor.statements.node_jobs import TELL_JOBS
from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.devices import NodeInventory, inventory_with
from scns_conductor.worker.agent.gpus.card import Accelerator
from scns_conductor.worker.agent.gpus.cards import Cards
from scns_conductor.worker.agent.gpus.watch import CHANGED, RESLICED, GpuWatch, listing
from scns_conductor.worker.agent.registration import drain_node, undrain_node

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

TOOLS = ("nvidia-smi", "amd-smi", "rocm-smi", "npu-smi")

logger = logging.getLogger(__name__)


class GpuKeeping:
    """在代理的控制线程里。没有真的卡、卡是声明的（node_gpus、node_gres）不看。"""

    def __init__(
        self,
        engine: Engine,
        settings: "Settings",
        cards: Cards,
        pool: CorePool,
        detect: Callable[[], tuple[Accelerator, ...]],
        *,
        inventory: Callable[[], NodeInventory],
        register: Callable[[NodeInventory], None],
    ) -> None:
        self._engine = engine
        self._node = settings.node_name
        self._every_s = settings.gpu_watch_interval_s
        declared = settings.node_gpus is not None or settings.node_gres is not None
        # 启动时工具坏了的，一块也没有登记：好了就登记上。
        self._watched = bool(self._every_s) and not declared and bool(cards.all or any(map(shutil.which, TOOLS)))
        self._cards = cards
        self._pool = pool
        self._inventory = inventory
        self._register = register
        self._watch = GpuWatch(detect, lambda: self._cards.all)
        self._look_at = 0.0
        self._started = False
        # 自己为卡做的排空写的原因；重新划分的登记之后撤销。
        self._drained_for: str | None = None
        self._told: set[tuple[int, int]] = set()

    def started(self) -> None:
        """启动时登记的就是现在的卡：上一个代理为重新划分做的排空不必再留着。"""
        if self._started:
            return
        for reason in (RESLICED, CHANGED):
            undrain_node(self._engine, self._node, reason)
        self._started = True

    def watch(self) -> None:
        """到时候了就看一次。数据库不在时抛 DATABASE_ERRORS，下次再来。"""
        now = time.monotonic()
        if not self._watched or now < self._look_at:
            return
        self._look_at = now + self._every_s
        change = self._watch.look()
        if change is None:
            return
        if drain_node(self._engine, self._node, change.reason):
            self._drained_for = change.reason
        holders = set(self._pool.holders_of(card.index for card in change.gone)) - self._told
        if holders:
            self._tell(holders, f"节点 {self._node} 的 {change.reason}")
        now_here = inventory_with(self._inventory(), change.found)
        if not self._pool.replace_cards(change.found, now_here.shares):
            return
        self._cards.replace(change.found)
        self._register(now_here)
        logger.warning("gpus_registered_again", extra={"node": self._node, "gpus": listing(change.found)})
        if not change.lost and self._drained_for is not None:
            # 坏了的卡要人来看；重新划分的，登记好了就接着用。
            undrain_node(self._engine, self._node, self._drained_for)
        self._drained_for = None

    def _tell(self, holders: set[tuple[int, int]], message: str) -> None:
        values = {
            "job_id": [job_id for job_id, _ in holders],
            "attempt": [attempt for _, attempt in holders],
            "message": message,
        }
        with self._engine.begin() as connection:
            connection.execute(TELL_JOBS, values)
        self._told |= holders
        logger.error("jobs_lost_gpus", extra={"node": self._node, "jobs": values["job_id"], "reason": message})
