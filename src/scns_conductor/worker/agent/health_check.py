"""节点的健康检查：隔一会儿运行管理员的程序，没有通过就排空节点，又通过了撤掉（slurm.conf 的 HealthCheckProgram）。"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine

from scns_conductor.core.errors import first_line
from scns_conductor.statements.node_state import OWN_LOAD
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS
from scns_conductor.worker.agent.registration import drain_unhealthy, undrain_healthy
from scns_conductor.worker.host.program import SYSTEM_PATH, RunningPrograms, run_program

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

# 自己做的排空，原因都这样开头。
PREFIX = "健康检查没有通过："

logger = logging.getLogger(__name__)


class HealthCheck:
    """一个线程；没有设置程序时什么也不做。"""

    def __init__(self, engine: Engine, settings: "Settings") -> None:
        self._engine = engine
        self._settings = settings
        self._node = settings.node_name
        self._stopping = threading.Event()
        self._programs = RunningPrograms(settings.spool_path)
        self._thread = threading.Thread(target=self._run, name="health-check", daemon=True)

    def start(self) -> None:
        """开始：立即检查第一次。"""
        if self._settings.health_check_program is not None:
            self._thread.start()

    def stop(self) -> None:
        """停止；正在跑的程序杀掉。"""
        self._stopping.set()
        self._programs.stop()

    def _run(self) -> None:
        program = self._settings.health_check_program
        assert program is not None
        while not self._stopping.is_set():
            try:
                self._check(program)
            except DATABASE_ERRORS as error:
                logger.warning("health_check_unwritten", extra={"node": self._node, "error": first_line(error)})
            self._stopping.wait(self._settings.health_check_interval_s)

    def _check(self, program: Path) -> None:
        """检查一次，写下结果；数据库不在时抛 DATABASE_ERRORS。"""
        with self._engine.begin() as connection:
            load = connection.execute(OWN_LOAD, {"name": self._node}).one_or_none()
        if load is None:
            return
        wanted = self._settings.health_check_node_states
        if not due(wanted, load.allocated_cpus, load.cpus, drained=load.drain):
            return
        environment = {"PATH": SYSTEM_PATH, "SLURMD_NODENAME": self._node}
        failure = run_program([str(program)], environment, self._settings.health_check_timeout_s, self._programs)
        if self._stopping.is_set():
            return
        if failure is not None:
            drain_unhealthy(self._engine, self._node, PREFIX + failure, PREFIX)
        elif self._settings.health_check_resume:
            undrain_healthy(self._engine, self._node, PREFIX)


def due(wanted: Sequence[str], allocated: int, cpus: int, *, drained: bool) -> bool:
    """节点此刻的样子在不在要检查的几种里。"""
    state = "IDLE" if allocated <= 0 else "MIXED" if allocated < cpus else "ALLOC"
    words = {"ANY", state}
    if state == "IDLE" and not drained:
        words.add("NONDRAINED_IDLE")
    return not words.isdisjoint(wanted)
