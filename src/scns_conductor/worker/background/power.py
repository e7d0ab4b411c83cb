"""节能：空闲的节点关掉，有作业要的开起来（slurm.conf 的 SuspendProgram、ResumeProgram）。

几步到哪里了都在节点的行里，所以谁接手都接得上：先写下要做的，再运行程序，再写下结果。前任死了而不知道结果的，再运行一遍
——程序要经得起重复（Slurm 也这样要求）。程序在另外的线程里跑，有期限；跑着时照样看别的节点。
"""

import logging
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.database import DATABASE_TROUBLE, sync_engine
from scns_conductor.core.errors import first_line
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import PowerState
from scns_conductor.statements import power
from scns_conductor.statements.inbox import inbox_insert, notify_inbox
from scns_conductor.statements.incarnation import CURRENT_INCARNATION
from scns_conductor.worker.background.power_commands import commands
from scns_conductor.worker.background.power_times import node_times
from scns_conductor.worker.bus import BusUnavailable, Publisher, sync_message
from scns_conductor.worker.host.program import RunningPrograms, run_program
from scns_conductor.worker.host.thread_owner import Lanes

LOOK_S = 1.0
RETRY_S = 1.0
# 同时至多几个程序。
PROGRAMS_MOST = 16
_WORDS = {PowerState.POWERING_UP: "resume_program", PowerState.POWERING_DOWN: "suspend_program"}

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Call:
    """为几个节点运行一次程序；failure 是 None 就是成了。"""

    state: PowerState
    names: list[str]
    failure: str | None = None
    program: RunningPrograms = field(default_factory=RunningPrograms)


class PowerKeeper:
    """后台进程里的一个线程；没有设置两个程序时什么也不做。"""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._results: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        # 各节点最近的一次：又运行过的，前一次的结局不算了。
        self._latest: dict[str, _Call] = {}
        self._awake = threading.Event()
        self._lanes = Lanes("power", most=PROGRAMS_MOST)
        self._incarnation: str | None = None
        self._publisher = Publisher(settings.redis_url.get_secret_value(), lambda: self._incarnation)
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def start(self) -> None:
        """开始。"""
        if self._settings.elastic:
            self._thread.start()

    def stop(self) -> None:
        """停下；正在跑的程序不杀：它关着、开着一半的机器，由接手的再运行一遍。"""
        self._lanes.close()
        self._publisher.close()

    def _run(self) -> None:
        engine = sync_engine(self._settings, role="power", pooled=False, direct=True)
        while not self._stopping.is_set():
            try:
                if await_schema(engine, self._stopping):
                    self._serve(engine)
            except DATABASE_TROUBLE as error:
                logger.warning("database_unavailable", extra={"error": first_line(error)})
            self._stopping.wait(RETRY_S)

    def _serve(self, engine: Engine) -> None:
        """占着席位管电源，直到停下、断线；占不到就回去等。"""
        with engine.connect() as connection:
            with connection.begin():
                if not connection.scalar(power.POWER_SEAT):
                    return
            logger.info("power_seat_taken", extra={"pid": os.getpid()})
            with connection.begin():
                unfinished = connection.execute(power.UNFINISHED).all()
            for state in (PowerState.POWERING_DOWN, PowerState.POWERING_UP):
                self._call(state, sorted(row.name for row in unfinished if row.power_state == state))
            while not self._stopping.is_set():
                self.look(connection)
                self._awake.wait(LOOK_S)
                self._awake.clear()

    def look(self, connection: Connection) -> None:
        """看一遍：程序的结局，关好的，没有来的，该关的，该开的。"""
        settings = self._settings
        with connection.begin():
            self._incarnation = connection.scalar(CURRENT_INCARNATION)
            touched, failed = self._take_results(connection)
            connection.execute(power.MARK_IDLE)
            times = self._times(connection)
            touched += connection.scalars(power.POWERED_OFF, {**times, "timeout": settings.suspend_timeout_s})
            failed += self._fail_overdue(connection, times)
            touched += failed
            values = {
                **times,
                "idle_s": settings.suspend_time_s,
                "rate": settings.suspend_rate,
                "excluded": self._excluded(connection),
            }
            suspended = sorted(connection.scalars(power.POWER_DOWN, values))
            resumed = sorted(connection.scalars(power.POWER_UP, {"rate": settings.resume_rate}))
            connection.execute(power.MARK_CONFIGURING)
            ready = connection.execute(power.READY_TO_LAUNCH).all()
            connection.execute(power.CLEAR_CONFIGURING)
            touched += suspended + resumed
            if touched:
                connection.execute(inbox_insert("nodes", node_names=sorted(set(touched))))
                connection.execute(notify_inbox())
        self._tell_failed(failed)
        # 写下了再做：运行到一半死了，接手的知道要再运行一遍。
        self._call(PowerState.POWERING_DOWN, suspended)
        self._call(PowerState.POWERING_UP, resumed)
        try:
            self._publisher.send({row.node_name: [sync_message(row.job_ids)] for row in ready})
        except BusUnavailable as error:
            # 节点自己核对时也看得见。
            logger.warning("bus_unavailable", extra={"error": str(error)})

    def _times(self, connection: Connection) -> dict[str, list[Any]]:
        """分区写了自己的时间的节点。"""
        rows = connection.execute(power.PARTITION_TIMES).all()
        found = node_times(rows, lambda: connection.scalars(power.ALL_NAMES))
        columns = ([values[index] for values in found.values()] for index in range(3))
        return dict(zip(("timed", "idles", "offs", "boots"), (list(found), *columns), strict=True))

    def _excluded(self, connection: Connection) -> list[str]:
        """不自动关的节点。"""
        names = set(expand(self._settings.suspend_exc_nodes)) if self._settings.suspend_exc_nodes else set()
        wanted = self._settings.suspend_exc_partitions
        for listed in connection.scalars(power.PARTITION_NODES, {"names": wanted}) if wanted else ():
            if listed == "ALL":
                return list(connection.scalars(power.ALL_NAMES))
            names.update(expand(listed))
        return sorted(names)

    # ---- 程序 ----

    def _call(self, state: PowerState, names: Sequence[str]) -> None:
        """为这些节点运行程序；结局进 results。"""
        template = self._settings.resume_program if state is PowerState.POWERING_UP else self._settings.suspend_program
        assert template is not None
        if not names:
            return
        logger.info("power_called", extra={"state": state, "nodes": compress(names)})
        for command, covered in commands(template, names):
            call = _Call(state, covered)
            self._latest |= dict.fromkeys(covered, call)

            def run(command: list[str] = command, call: _Call = call) -> None:
                timeout_s = self._settings.power_program_timeout_s
                call.failure = run_program(command, dict(os.environ), timeout_s, call.program)
                self._results.put(call)
                self._awake.set()

            self._lanes.submit((state, command[0], *covered), run)

    def _tell_failed(self, names: Sequence[str]) -> None:
        """resume_fail_program：这些节点没有开起来。"""
        template = self._settings.resume_fail_program
        for command, covered in commands(template, names) if template and names else ():

            def run(command: list[str] = command, covered: list[str] = covered) -> None:
                failure = run_program(command, dict(os.environ), self._settings.power_program_timeout_s)
                if failure is not None:
                    logger.error("resume_fail_program_failed", extra={"nodes": compress(covered), "error": failure})

            self._lanes.submit(("failed", command[0], *covered), run)

    def _take_results(self, connection: Connection) -> tuple[list[str], list[str]]:
        """写下程序的结局；返回（变了的节点，其中开不了机的另算）。"""
        touched: list[str] = []
        failed: list[str] = []
        while True:
            try:
                call = self._results.get_nowait()
            except queue.Empty:
                return touched, failed
            names = [name for name in call.names if self._latest.get(name) is call]
            for name in names:
                del self._latest[name]
            if call.failure is None:
                connection.execute(power.CALL_DONE, {"names": names, "state": call.state})
                continue
            error = f"{_WORDS[call.state]}：{call.failure}"
            logger.error("power_program_failed", extra={"nodes": compress(call.names), "error": error})
            touched += names
            if call.state is PowerState.POWERING_DOWN:
                connection.execute(power.SUSPEND_TROUBLE, {"names": names, "error": error})
            elif len(call.names) == 1:
                # 只为它运行的：不必等了。
                failed += self._fail(connection, names, [f"开不了机：{error}"] * len(names))
            else:
                connection.execute(power.RESUME_TROUBLE, {"names": names, "error": error})

    # ---- 没有来的 ----

    def _fail_overdue(self, connection: Connection, times: dict[str, list[Any]]) -> list[str]:
        rows = connection.execute(power.OVERDUE_RESUMES, {**times, "timeout": self._settings.resume_timeout_s}).all()
        if not rows:
            return []
        strangers = list(connection.scalars(power.STRANGERS, {"timeout": max(row.timeout for row in rows)}))
        came = f"；其间来的是没有要的 {compress(strangers)}" if strangers else ""
        reasons = [
            f"开机超过 {row.timeout:g} 秒没有来（ResumeTimeout）"
            + (f"；{row.power_error}" if row.power_error else came)
            for row in rows
        ]
        names = {row.name for row in rows}
        for call in {self._latest[name] for name in names if name in self._latest}:
            if names.issuperset(call.names):
                # 还挂着的不再等它：不然再要开机时排在它后面（Slurm 也这样杀）。
                call.program.stop()
        for name in names:
            self._latest.pop(name, None)
        return self._fail(connection, [row.name for row in rows], reasons)

    def _fail(self, connection: Connection, names: Sequence[str], reasons: Sequence[str]) -> list[str]:
        """标为下线；上面还没有启动的作业由领导者收回，去别处。"""
        values = {"names": list(names), "reasons": list(reasons)}
        failed = list(connection.scalars(power.FAIL_RESUMES, values))
        if failed:
            logger.error("node_did_not_come", extra={"nodes": compress(failed), "reason": reasons[0]})
        return failed
