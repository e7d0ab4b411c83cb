"""心跳：告诉数据库本节点还在，顺便量两边的时钟差；发现自己被标成下线就报告给代理。"""

import logging
import os
import threading
import time
from collections.abc import Callable

from sqlalchemy.engine import Engine

from scns_conductor.core.errors import first_line
from scns_conductor.statements.node_state import HEARTBEAT
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS
from scns_conductor.worker.agent.database_memory import DatabaseIncomplete, DatabaseMemory, Seen
from scns_conductor.worker.agent.devices import free_memory_mb
from scns_conductor.worker.agent.own_disks import OwnDisks

logger = logging.getLogger(__name__)
_MIB = 1024**2


class Heartbeat:
    """一个线程。disks 是节点自己的盘，报告还有多少；它们不答话也照跳。

    on_clock 收到（数据库的现在，往返前、后的开机秒）。
    on_not_up 在节点不是 UP、没有了（GONE）、或数据库不是记得的那个（RESTORED）时被调用；on_reboot 在有人要它重启时。
    """

    def __init__(
        self,
        engine: Engine,
        node_name: str,
        interval_s: float,
        memory: DatabaseMemory,
        disks: OwnDisks,
        *,
        on_clock: Callable[[float, float, float], None],
        on_not_up: Callable[[str], None],
        on_reboot: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._node_name = node_name
        self._interval_s = interval_s
        self._memory = memory
        self._disks = disks
        self._on_clock = on_clock
        self._on_not_up = on_not_up
        self._on_reboot = on_reboot
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """开始。"""
        self._thread.start()

    def stop(self) -> None:
        """停止。"""
        self._stopping.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self.beat()
            except DATABASE_ERRORS as error:
                logger.warning("heartbeat_failed", extra={"node": self._node_name, "error": first_line(error)})
            except DatabaseIncomplete as error:
                logger.warning("heartbeat_failed", extra={"node": self._node_name, "error": str(error)})

    def beat(self) -> None:
        """一次心跳；数据库不在时抛 DATABASE_ERRORS。"""
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        free = self._disks.free_bytes().values()
        self._disks.look()
        values = {
            "name": self._node_name,
            "cpu_load": os.getloadavg()[0],
            "free_memory": free_memory_mb(),
            "spool_free": min(free) // _MIB if free else None,
        }
        with self._memory.lock:
            with self._engine.begin() as connection:
                row = connection.execute(HEARTBEAT, values).one_or_none()
            after = time.clock_gettime(time.CLOCK_BOOTTIME)
            known = row is None or self._memory.agrees(Seen(row.incarnation, row.beat, row.last_job_id))
        if row is None:
            self._on_not_up("GONE")
            return
        self._on_clock(row.database_now, before, after)
        if not known:
            self._on_not_up("RESTORED")
            return
        if row.state != "UP":
            self._on_not_up(row.state)
        if row.reboot == "REQUESTED":
            self._on_reboot()
