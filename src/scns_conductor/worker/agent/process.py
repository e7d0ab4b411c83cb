"""节点代理的一生：登记 → 接上牧守进程 → 恢复 → 干活 → 停止。每个节点一个。

控制线程（主线程）一件一件地做事；收尾、心跳、总线各有一个线程，只往控制线程的队列里排事情。会挂住的事（看用户的
目录、读用户的文件、prolog 与 epilog）各在自己的道上。任何一个线程意外死去，整个进程以非零退出，由监督者重启。
SIGTERM、SIGINT：停下自己，作业由牧守进程继续看着；SIGUSR1：先结束作业再停（scns up 停机时用）。
"""

import contextlib
import functools
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scns_conductor.core.database import close_when_idle, sync_engine
from scns_conductor.core.errors import first_line
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.statement_timing import watch_statements
from scns_conductor.tracing import tracer_of
from scns_conductor.worker.agent import devices, metrics
from scns_conductor.worker.agent.after_ends import AfterEnds
from scns_conductor.worker.agent.bus_listener import BusListener
from scns_conductor.worker.agent.clock_check import ClockCheck
from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS
from scns_conductor.worker.agent.database_memory import DatabaseIncomplete, DatabaseMemory
from scns_conductor.worker.agent.dead_letters import DeadLetters
from scns_conductor.worker.agent.finisher import Finisher, NodeClock
from scns_conductor.worker.agent.gpu_meter import GpuMeter
from scns_conductor.worker.agent.gpus.cards import Cards
from scns_conductor.worker.agent.gpus.detection import detect_all, read_all, vendors
from scns_conductor.worker.agent.gpus.keeping import GpuKeeping
from scns_conductor.worker.agent.health_check import HealthCheck
from scns_conductor.worker.agent.heartbeat import Heartbeat
from scns_conductor.worker.agent.job_operations import JobControl
from scns_conductor.worker.agent.job_traces import JobTraces
from scns_conductor.worker.agent.launch_plan import LaunchContext
from scns_conductor.worker.agent.node_setup import lock_spool, node_context, prepare_directories, token_secret
from scns_conductor.worker.agent.other_nodes import OtherNodes
from scns_conductor.worker.agent.own_disks import DiskCheck, OwnDisks
from scns_conductor.worker.agent.rebooting import Rebooting
from scns_conductor.worker.agent.registration import (
    drain_node,
    mark_down,
    mark_stopped,
    mark_up,
    record_containment,
    register_node,
    require_own_name,
)
from scns_conductor.worker.agent.relay import Relay
from scns_conductor.worker.agent.shepherd_client import ShepherdError, ShepherdGone
from scns_conductor.worker.agent.shepherd_keeping import ShepherdKeeping
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.bus import Publisher
from scns_conductor.worker.host.program import RunningPrograms, end_leftovers
from scns_conductor.worker.host.subreaper import become_subreaper
from scns_conductor.worker.host.user_files import libc
from scns_conductor.worker.lifetime import run_process
from scns_conductor.worker.wire.end_record import EndRecord

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

RETRY_S = 1.0
STRANGER_WAIT_S = 60.0
# 每几次心跳把用量的总数写进作业的行（缺省 5 秒一跳，即 30 秒）。
USAGE_EVERY_BEATS = 6
# 同时至多几条数据库会话；闲着的只留一条。
MOST_BUSY = 6
STOP_MARGIN_S = 20.0

# mallopt(3)：至多几块分配区；多大的各占一段映射，放开就还回去（定下了，glibc 就不再自己越调越大）。
M_ARENA_MAX = -8
M_MMAP_THRESHOLD = -3
OWN_MAPPING_BYTES = 256 * 1024

logger = logging.getLogger(__name__)


class Agent:
    """run() 从头到尾就是它的一生。"""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._node = settings.node_name
        self._actor = f"agent@{self._node}"
        self._commands: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._end_jobs = False
        self._deleted = False
        self._sync_at = 0.0
        self._timings = AgentTimings()
        self._inventory = devices.detect(settings)
        self._engine = sync_engine(
            settings, pool_size=1, overflow=MOST_BUSY - 1, role=f"agent@{self._node}", one_plan=True
        )
        cards = Cards(self._inventory.accelerators, confined=self._confines_devices)
        self._context = LaunchContext(
            settings,
            node_context(settings, self._inventory, cards),
            settings.script_path,
            token_secret(settings),
        )
        self._pool = CorePool(self._inventory.units, self._inventory.accelerators, self._inventory.shares)
        tools = vendors()
        self._gpus = GpuKeeping(
            *(self._engine, settings, cards, self._pool, lambda: detect_all(tools)),
            inventory=lambda: self._inventory,
            register=self._register_with,
        )
        close_when_idle(self._engine, settings.database_idle_close_s)
        watch_statements(self._engine, self._timings.database)
        self._clock = NodeClock(self._inventory.boot_id)
        self._traces = JobTraces(
            tracer_of(settings.otel_endpoint, settings.cluster_name, f"agent-{self._node}", settings.otel_ratio),
            self._node,
            lambda: self._clock.boot_time(self._inventory.boot_time),
        )
        self._disks = OwnDisks(devices.own_folders(settings))
        self._memory = DatabaseMemory(
            *(self._engine, self._node, settings.spool_path / "database.seen"),
            write=functools.partial(self._disks.write, "spool"),
        )
        self._publisher = Publisher(settings.redis_url.get_secret_value(), lambda: self._memory.incarnation)
        self._dead_letters = DeadLetters(settings.spool_path / "dead-letters.jsonl")
        after = AfterEnds(
            *(self._engine, self._node, self._pool, self._publisher, self._dead_letters.path),
            RunningPrograms(settings.spool_path),
            control=lambda: self._control,
            enqueue=self._commands.put,
        )
        self._relay = Relay(
            *(self._engine, self._context, self._pool, self._memory),
            launch=lambda: self._commands.put(lambda: self._control.launch_successors()),
        )
        epilog = settings.task_epilog
        self._finisher = Finisher(
            self._engine,
            actor=self._actor,
            tail_bytes=settings.output_tail_bytes,
            others=OtherNodes(self._engine, self._node, self._actor, settings.kill_wait_s),
            dead_letters=self._dead_letters,
            end_time=self._clock.end_time,
            epilog=None
            if epilog is None
            else lambda end: after.run_epilog(epilog, settings.prolog_epilog_timeout_s, end),
            committed=lambda ends: self._committed(after, ends),
            after_commit=after.after_commit,
            acknowledge=lambda ends: self._shepherds.acknowledge(ends),
            record_steps=lambda ends: self._control.steps.record_ends(ends, self._clock.end_time),
            on_parked=after.on_parked,
            timings=self._timings,
            relay=self._relay.commit,
            rest_s=self._relay.rest_s,
        )
        self._shepherds = ShepherdKeeping(
            settings.spool_path,
            self._node,
            settings.containment,
            stopping=self._stopping,
            on_ends=self._finisher.put,
            on_bad_end=self._finisher.put_unreadable,
            enqueue=self._commands.put,
        )
        self._control = JobControl(
            self._engine,
            self._context,
            self._pool,
            self._finisher,
            boot_id=self._inventory.boot_id,
            boot_time=lambda: self._clock.boot_time(self._inventory.boot_time),
            sample_interval_s=settings.job_sample_interval_s,
            gpu=GpuMeter(cards, self._pool, lambda: read_all(tools)).of,
            timings=self._timings,
            traces=self._traces,
            memory=self._memory,
            client=self._shepherds.client,
            enqueue=self._commands.put,
            relay=self._relay,
        )
        self._health = HealthCheck(self._engine, settings)
        self._clock_check = ClockCheck(self._engine, self._node, settings.node_clock_tolerance_s)
        self._disk_check = DiskCheck(self._engine, self._node, self._disks)
        self._rebooting = Rebooting(self._engine, settings)
        self._heartbeat = Heartbeat(
            self._engine,
            self._node,
            settings.heartbeat_interval_s,
            self._memory,
            self._disks,
            on_clock=self._on_clock,
            on_not_up=lambda state: self._commands.put(lambda: self._rejoin(state)),
            on_reboot=lambda: self._commands.put(self._rebooting.start),
        )
        listener = BusListener(
            settings.redis_url.get_secret_value(),
            self._engine,
            self._context,
            self._control,
            stopping=self._stopping,
            incarnation=lambda: self._memory.incarnation,
            enqueue=self._commands.put,
            timings=self._timings,
        )
        self._bus_thread = threading.Thread(target=listener.run, name="bus", daemon=True)

    def _on_clock(self, database_now: float, before_s: float, after_s: float) -> None:
        self._clock.measure(database_now, before_s, after_s)
        self._clock_check.look(database_now)
        self._disk_check.look()

    def _committed(self, after: AfterEnds, ends: list[EndRecord]) -> None:
        after.give_back(ends)
        self._traces.ended(ends, self._clock.end_time)

    # ---- 一生 ----

    def run(self) -> None:
        """开始、循环、停止；设置有误抛 SettingsError，其余的错都重试到成功为止。"""
        prepare_directories(self._settings)
        lock = lock_spool(self._settings)
        left = end_leftovers(self._settings.spool_path)
        if left:
            logger.warning("leftover_programs_ended", extra={"node": self._node, "pids": left})
        self._memory.open()
        # 牧守进程死了，作业过继到这里；不回收，新的牧守进程就还看得见退出码。
        become_subreaper()
        _keep_the_heap_small()
        self._warn_about_root()
        metrics.serve(
            settings=self._settings,
            inventory=self._inventory,
            disks=self._disks,
            timings=self._timings,
            pending=lambda: len(self._finisher.pending()),
            parked=lambda: len(self._dead_letters.keys()),
        )
        self._shepherds.attach()
        self._finisher.start()
        if (
            self._until_done(self._await_schema)
            and self._until_done(lambda: require_own_name(self._engine, self._settings, self._memory, self._stopping))
            and self._until_done(self._register)
            and self._until_done(self._recover)
        ):
            self._disks.look()
            self._heartbeat.start()
            self._health.start()
            self._bus_thread.start()
            logger.info("agent_started", extra={"node": self._node, "pid": os.getpid()})
            self._work()
        self._stop()
        os.close(lock)

    def _await_schema(self) -> None:
        await_schema(self._engine, self._stopping)

    def stop(self, *, end_jobs: bool = False) -> None:
        """请它停下（任何线程、信号处理器）；end_jobs 表示先结束作业。"""
        self._end_jobs = self._end_jobs or end_jobs
        self._stopping.set()
        self._commands.put(lambda: None)

    def _warn_about_root(self) -> None:
        if self._settings.single_user and os.geteuid() == 0:
            logger.warning("jobs_run_as_root", extra={"hint": "单用户模式：作业以 root 身份运行"})

    def _work(self) -> None:
        now = time.monotonic()
        self._sync_at = now + self._settings.reconcile_interval_s
        report_at = now + self._settings.heartbeat_interval_s
        totals_every_s = USAGE_EVERY_BEATS * self._settings.heartbeat_interval_s
        sample_at = now + (self._settings.job_sample_interval_s or totals_every_s)
        totals_at = now + totals_every_s
        while not self._stopping.is_set():
            now = time.monotonic()
            sample_every_s = self._control.sample_every_s() or totals_every_s
            sample_at = min(sample_at, now + sample_every_s)
            if now >= self._sync_at:
                self._sync_at = now + self._settings.reconcile_interval_s
                self._try(lambda: self._control.sync(None))
            if now >= report_at:
                report_at = now + self._settings.heartbeat_interval_s
                if self._try(self._control.report_processes):
                    self._shepherds.reap_strays()
                self._try(self._shepherds.retire)
                self._try(self._gpus.watch)
            if now >= sample_at:
                sample_at, totals = now + sample_every_s, now >= totals_at
                if totals:
                    totals_at = now + totals_every_s
                self._try(functools.partial(self._control.sample, totals=totals))
            wait_s = max(0.0, min(self._sync_at, report_at, sample_at) - now)
            due_s = self._control.due_s()
            if due_s == 0.0:
                self._try(self._control.tick)
                continue
            try:
                command = self._commands.get(timeout=wait_s if due_s is None else min(wait_s, due_s))
            except queue.Empty:
                continue
            self._try(command)

    def _try(self, command: Callable[[], Any]) -> bool:
        """做一件事。数据库或牧守进程不在时放下，靠稍后的核对补上；返回是否做成。"""
        try:
            command()
        except DATABASE_ERRORS as error:
            logger.warning("database_unavailable", extra={"node": self._node, "error": first_line(error)})
            # 没做成的（例如一次启动）不等到下个周期：多半只是旧连接断了，很快就能补上。
            self._sync_at = min(self._sync_at, time.monotonic() + RETRY_S)
            return False
        except DatabaseIncomplete as error:
            logger.warning("database_incomplete", extra={"node": self._node, "error": str(error)})
            self._sync_at = min(self._sync_at, time.monotonic() + RETRY_S)
            return False
        except ShepherdGone as error:
            logger.warning("shepherd_gone", extra={"node": self._node, "error": str(error)})
            if self._stopping.is_set():
                return False
            self._shepherds.attach()
            self._commands.put(lambda: self._control.sync(None))
            self._commands.put(lambda: record_containment(self._engine, self._settings, self._shepherds.enforced()))
            return False
        except ShepherdError as error:
            logger.error("shepherd_refused", extra={"node": self._node, "code": error.code, "error": str(error)})
            return False
        return True

    def _until_done(self, command: Callable[[], Any]) -> bool:
        while not self._stopping.is_set():
            if self._try(command):
                return True
            self._stopping.wait(RETRY_S)
        return False

    def _stop(self) -> None:
        self._health.stop()
        # 先说一声，调度器不再往这里放；还没有认领的由它收回，认领了没有启动的由这里交还。
        if self._end_jobs:
            self._try(lambda: mark_down(self._engine, self._node, "节点停止服务"))
        else:
            self._try(lambda: mark_stopped(self._engine, self._node, "节点代理停下了，运行中的作业照跑"))
        self._try(self._control.settle)
        self._control.give_back_unstarted()
        if self._end_jobs:
            self._finish_jobs()
        if self._bus_thread.is_alive():
            self._heartbeat.stop()
        self._disks.close()
        self._finisher.stop(wait_s=5)
        self._shepherds.close()
        self._publisher.close()
        self._traces.close()
        self._engine.dispose()
        logger.info("agent_stopped", extra={"node": self._node})

    def _finish_jobs(self) -> None:
        """结束全部作业，等它们都写进数据库。"""
        grace_s = self._settings.kill_wait_s
        deadline = time.monotonic() + grace_s + STOP_MARGIN_S
        try:
            client = self._shepherds.client()
            client.shutdown(grace_s)
            while time.monotonic() < deadline:
                hello = client.state()
                undelivered = set(hello.unacknowledged) - self._dead_letters.keys()
                if not hello.running and not undelivered and not self._finisher.pending():
                    break
                time.sleep(0.05)
        except ShepherdGone:
            # 没有作业时牧守进程立即退出。
            while self._finisher.pending() and time.monotonic() < deadline:
                time.sleep(0.05)

    def _confines_devices(self) -> bool:
        try:
            return self._shepherds.enforced().devices == "cgroup"
        except ShepherdGone:
            return False

    # ---- 登记与恢复 ----

    def _register_with(self, inventory: devices.NodeInventory) -> None:
        self._inventory = inventory
        self._register()

    def _register(self) -> None:
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        with self._memory.lock:
            now, seen = register_node(
                self._engine, self._settings, self._inventory, self._shepherds.enforced(), self._memory.beat
            )
            self._memory.face(seen)
        self._clock.measure(now, before, time.clock_gettime(time.CLOCK_BOOTTIME))

    def _recover(self) -> None:
        """先杀掉不再属于本节点的，再接新作业。"""
        self._gpus.started()
        self._control.sync(None)
        if not self._control.wait_for_strangers(STRANGER_WAIT_S):
            drain_node(self._engine, self._node, "有杀不掉的旧进程")
        self._memory.settle()
        mark_up(self._engine, self._node)

    def _rejoin(self, state: str) -> None:
        """心跳发现自己不是 UP（多半是失联太久被判下线了），或数据库恢复过：核对之后再回来。"""
        if state == "GONE" and not self._memory.replaced():
            # 管理员删掉了这个节点。不再登记，免得刚删就回来；重新启动代理才表示又要用它。
            if not self._deleted:
                logger.error("node_deleted", extra={"node": self._node, "hint": "要再用这个节点，重新启动它的代理"})
            self._deleted = True
            return
        logger.warning("node_not_up", extra={"node": self._node, "state": state})
        if state in ("GONE", "RESTORED"):
            self._register()
        self._recover()


def _keep_the_heap_small() -> None:
    """几个线程轮流分配、释放，glibc 每个线程一块地会越攒越多（十万个作业十来 MiB）：只许两块，大的不进去。

    别的 C 库没有这个。
    """
    with contextlib.suppress(AttributeError):
        libc().mallopt(M_ARENA_MAX, 2)
        libc().mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)


def main() -> None:
    """python -m scns_conductor.worker.agent.process：只运行代理，不参选调度领导者。"""
    run_process(Agent, {signal.SIGUSR1: lambda agent: agent.stop(end_jobs=True)}, light=True)


if __name__ == "__main__":
    main()
