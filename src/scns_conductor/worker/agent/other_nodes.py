"""被要求结束、到了时限的多节点作业：它的步在别的节点上还在宽限里的，先不写它的结束。

写了结束，全部节点的份额就归还了，别的节点只好立即杀掉剩下的：慢一步收到 SIGTERM 的任务来不及收拾。
时限只有运行脚本的节点看着：到了，请别的节点也结束它。
"""

import logging
import time
from collections.abc import Sequence

from sqlalchemy.engine import Engine

from scns_conductor.core.database import DATABASE_TROUBLE
from scns_conductor.core.errors import first_line
from scns_conductor.statements.end_requests import END_ON_OTHER_NODES
from scns_conductor.statements.inbox import inbox_insert, notify_inbox
from scns_conductor.statements.job_steps import STEPS_ON_OTHER_NODES
from scns_conductor.worker.agent.end_preparation import Prepared

TIMEOUT = "timeout"
# 这些原因的结束，作业的每个节点都收到了要求，各有宽限。
ASKED = frozenset({"cancel", "preempt", "deadline", "requeue", TIMEOUT})
# 隔多久（秒）再看一眼；宽限之外至多再等这么久（秒）：别的节点收到得晚，杀掉的也要写下来。
LOOK_AGAIN_S = 0.2
LATE_S = 5.0

logger = logging.getLogger(__name__)


class OtherNodes:
    """留着还不能写的结束。actor 是写进数据库的谁；grace_s 是 KillWait（秒）。"""

    def __init__(self, engine: Engine, node: str, actor: str, grace_s: float) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._node = node
        self._actor = actor
        self._grace_s = grace_s
        self._kept: list[Prepared] = []
        # 留着的，从何时起（单调秒）。
        self._since: dict[tuple[int, int], float] = {}
        self._look_at = 0.0

    @property
    def look_s(self) -> float | None:
        """还有几秒再看一眼；没有留着的是 None。"""
        return max(0.0, self._look_at - time.monotonic()) if self._kept else None

    def again(self) -> list[Prepared]:
        """到了再看一眼的时候，留着的都交出来。"""
        if not self._kept or time.monotonic() < self._look_at:
            return []
        kept, self._kept = self._kept, []
        return kept

    def without_waiting(self, batch: list[Prepared]) -> list[Prepared]:
        """可以写的；别的节点上还有步的留下。"""
        ends = [end for end, _ in batch if end.cause in ASKED and end.pid]
        if not ends:
            return batch
        try:
            self._ask_others(sorted({end.job_id for end in ends if end.cause == TIMEOUT}))
            waiting = self._waiting(sorted({end.job_id for end in ends}))
        except DATABASE_TROUBLE as error:
            # 看不成的不等；写结束时若还是这样，那里会再试。
            for end in ends:
                self._since.pop(end.owner, None)
            logger.warning("database_unavailable", extra={"error": first_line(error)})
            return batch
        now, writable = time.monotonic(), []
        for item in batch:
            owner = item[0].owner
            if owner in waiting and now - self._since.setdefault(owner, now) < waiting[owner]:
                if not self._kept:
                    # 后来的不把先留着的往后推。
                    self._look_at = now + LOOK_AGAIN_S
                self._kept.append(item)
            else:
                self._since.pop(owner, None)
                writable.append(item)
        return writable

    def _ask_others(self, job_ids: Sequence[int]) -> None:
        """到了时限、别的节点上还有步的：请那些节点也结束它。"""
        if not job_ids:
            return
        with self._engine.begin() as connection:
            values = {"job_ids": job_ids, "node": self._node, "actor": self._actor}
            asked = list(connection.scalars(END_ON_OTHER_NODES, values))
            if asked:
                connection.execute(inbox_insert("cancel", job_ids=asked))
                connection.execute(notify_inbox())

    def _waiting(self, job_ids: Sequence[int]) -> dict[tuple[int, int], float]:
        """别的节点上还有步的：（作业号，尝试） -> 至多等它几秒。"""
        with self._single.connect() as connection:
            rows = connection.execute(STEPS_ON_OTHER_NODES, {"job_ids": job_ids, "node": self._node}).all()
        return {(row.job_id, row.restart_count): (row.grace_s or self._grace_s) + LATE_S for row in rows}
