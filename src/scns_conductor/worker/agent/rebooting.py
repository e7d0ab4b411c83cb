"""scontrol reboot 在节点上的一半：空下来了就运行 RebootProgram；回来由登记发现，回不来由领导者发现。"""

import logging
import threading
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine

from scns_conductor.core.errors import first_line
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS
from scns_conductor.worker.agent.registration import fail_reboot, issue_reboot
from scns_conductor.worker.host.program import SYSTEM_PATH, run_program

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

logger = logging.getLogger(__name__)


class Rebooting:
    """start 在控制线程里被调用：心跳看见有人要重启时。"""

    def __init__(self, engine: Engine, settings: "Settings") -> None:
        self._engine = engine
        self._settings = settings
        self._node = settings.node_name
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """空了就开始重启，不空就等下次；数据库不在时抛 DATABASE_ERRORS。"""
        if self._thread is not None and self._thread.is_alive():
            return
        program = self._settings.reboot_program
        if program is None:
            fail_reboot(self._engine, self._node, "不能重启：节点没有设置 reboot_program（SCNS_REBOOT_PROGRAM）")
            return
        if not issue_reboot(self._engine, self._node):
            return
        self._thread = threading.Thread(target=self._reboot, args=(str(program),), name="reboot", daemon=True)
        self._thread.start()

    def _reboot(self, program: str) -> None:
        """程序成了就等着被关掉；没有成的说出来。"""
        environment = {"PATH": SYSTEM_PATH, "SLURMD_NODENAME": self._node}
        failure = run_program([program], environment, self._settings.resume_timeout_s)
        if failure is None:
            return
        try:
            fail_reboot(self._engine, self._node, f"重启没有成：{failure}")
        except DATABASE_ERRORS as error:
            # 写不进去的，领导者到时候标为下线。
            logger.error("reboot_failed", extra={"node": self._node, "reason": failure, "error": first_line(error)})
