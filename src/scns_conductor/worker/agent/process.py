"""节点代理的一生：登记 → 接上牧守进程 → 恢复 → 干活 → 停止。每个节点一个。

控制线程（主线程）一件一件地做事；收尾、心跳、总线各有一个线程，只往控制线程的队列里排事情。会挂住的事（看用户的
目录、读用户的文件、prolog 与 epilog）各在自己的道上。任何一个线程意外死去，整个进程以非零退出，由监督者重启。
SIGTERM、SIGINT：停下自己，作业由牧守进程继续看着；SIGUSR1：先结束作业再停（scns up 停机时用）。
"""

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from scns_conductor.core import hostlist
from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.logging import configure_logging
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.statements.ends import Ended
from scns_conductor.worker.agent import devices
from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS, reason_of
from scns_conductor.worker.agent.database_memory import DatabaseIncomplete, DatabaseMemory
from scns_conductor.worker.agent.dead_letters import DeadLetters
from scns_conductor.worker.agent.finisher import Finisher, NodeClock
from scns_conductor.worker.agent.heartbeat import Heartbeat
from scns_conductor.worker.agent.job_log import answer_read_log
from scns_conductor.worker.agent.job_operations import JobControl
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused, signal_number
from scns_conductor.worker.agent.node_setup import lock_spool, node_context, prepare_directories, token_secret
from scns_conductor.worker.agent.prolog import program_environment, run_program
from scns_conductor.worker.agent.registration import (
    drain_node,
    mark_down,
    mark_stopped,
    mark_up,
    record_containment,
    register_node,
)
from scns_conductor.worker.agent.shepherd_client import ShepherdError, ShepherdGone
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.spool_space import space_shortage
from scns_conductor.worker.bus import BusUnavailable, Consumer, Handler, Message, Publisher, queue_name
from scns_conductor.worker.host import process_table
from scns_conductor.worker.host.subreaper import become_subreaper
from scns_conductor.worker.host.thread_owner import Lanes, own_every_thread
from scns_conductor.worker.host.user_files import libc
from scns_conductor.worker.wire.bus_messages import (
    REMINDERS,
    AttachStep,
    BusMessage,
    ChangedJobs,
    LaunchStep,
    ReadLog,
    Sample,
    SignalJobs,
    SignalStep,
)
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.shepherd_messages import Capabilities

RETRY_S = 1.0
STRANGER_WAIT_S = 60.0
BUS_WAIT_S = 5
# 每几次心跳采样一次用量（缺省 5 秒一跳，即 30 秒）。
USAGE_EVERY_BEATS = 6
LOG_READERS_MOST = 16
# 同时至多几条数据库会话；闲着的只留一条。
MOST_BUSY = 6
STOP_MARGIN_S = 20.0

# mallopt(3)：至多几块分配区。
M_ARENA_MAX = -8

_Message = TypeVar("_Message", bound=BusMessage)

logger = logging.getLogger(__name__)


class Agent:
    """run() 从头到尾就是它的一生。"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._node = settings.node_name
        self._actor = f"agent@{self._node}"
        self._commands: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._end_jobs = False
        self._deleted = False
        self._sync_at = 0.0
        self._strays: set[int] = set()
        self._inventory = devices.detect(settings)
        self._engine = sync_engine(settings, pool_size=1, overflow=MOST_BUSY - 1, role=f"agent@{self._node}")
        self._context = LaunchContext(
            settings,
            node_context(settings, self._inventory),
            settings.script_path,
            self._inventory.accelerators,
            token_secret(settings),
        )
        self._pool = CorePool(self._inventory.cores, self._inventory.accelerators)
        self._clock = NodeClock(self._inventory.boot_id)
        self._memory = DatabaseMemory(self._engine, self._node, settings.spool_path / "database.seen")
        self._publisher = Publisher(settings.redis_url.get_secret_value(), lambda: self._memory.incarnation)
        self._logs = Lanes("read-log", most=LOG_READERS_MOST)
        self._dead_letters = DeadLetters(settings.spool_path / "dead-letters.jsonl")
        self._client: ShepherdSet | None = None
        self._capabilities: Capabilities | None = None
        self._finisher = Finisher(
            self._engine,
            actor=self._actor,
            tail_bytes=settings.output_tail_bytes,
            dead_letters=self._dead_letters,
            end_time=self._clock.end_time,
            epilog=self._run_epilog if settings.task_epilog is not None else None,
            committed=self._give_back,
            after_commit=self._after_commit,
            acknowledge=self._acknowledge,
            record_steps=lambda ends: self._control.steps.record_ends(ends, self._clock.end_time),
            on_parked=self._on_parked,
        )
        self._control = JobControl(
            self._engine,
            self._context,
            self._pool,
            self._finisher,
            boot_id=self._inventory.boot_id,
            boot_time=lambda: self._clock.boot_time(self._inventory.boot_time),
            memory=self._memory,
            client=self._shepherd,
            enqueue=self._commands.put,
        )
        self._heartbeat = Heartbeat(
            self._engine,
            self._node,
            settings.heartbeat_interval_s,
            self._memory,
            on_clock=self._clock.measure,
            on_not_up=lambda state: self._commands.put(lambda: self._rejoin(state)),
        )
        self._bus_thread = threading.Thread(target=self._listen, name="bus", daemon=True)

    # ---- 一生 ----

    def run(self) -> None:
        """开始、循环、停止；设置有误抛 SettingsError，其余的错都重试到成功为止。"""
        prepare_directories(self._settings)
        lock = lock_spool(self._settings)
        self._memory.open()
        # 牧守进程死了，作业过继到这里；不回收，新的牧守进程就还看得见退出码。
        become_subreaper()
        _share_memory_arenas()
        self._warn_about_root()
        self._attach()
        self._finisher.start()
        if (
            self._until_done(self._await_schema)
            and self._until_done(self._register)
            and self._until_done(self._recover)
        ):
            self._heartbeat.start()
            self._bus_thread.start()
            logger.info("agent_started", extra={"node": self._node, "pid": os.getpid()})
            self._work()
        self._stop()
        os.close(lock)

    def _await_schema(self) -> None:
        await_schema(self._engine, self._stopping)

    def stop(self, *, end_jobs: bool) -> None:
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
        usage_at = now + USAGE_EVERY_BEATS * self._settings.heartbeat_interval_s
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= self._sync_at:
                self._sync_at = now + self._settings.reconcile_interval_s
                self._try(lambda: self._control.sync(None))
            if now >= report_at:
                report_at = now + self._settings.heartbeat_interval_s
                if self._try(self._control.report_processes):
                    self._reap_strays()
                self._try(self._retire_shepherds)
                self._try(self._watch_space)
            if now >= usage_at:
                usage_at = now + USAGE_EVERY_BEATS * self._settings.heartbeat_interval_s
                self._try(self._control.report_usage)
            wait_s = max(0.0, min(self._sync_at, report_at, usage_at) - now)
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
            logger.warning("database_unavailable", extra={"node": self._node, "error": reason_of(error)})
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
            self._attach()
            self._commands.put(lambda: self._control.sync(None))
            self._commands.put(lambda: record_containment(self._engine, self._settings, self._enforced()))
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
        self._finisher.stop(wait_s=5)
        if self._client is not None:
            self._client.close()
        self._publisher.close()
        self._engine.dispose()
        logger.info("agent_stopped", extra={"node": self._node})

    def _finish_jobs(self) -> None:
        """结束全部作业，等它们都写进数据库。"""
        grace_s = self._settings.kill_wait_s
        deadline = time.monotonic() + grace_s + STOP_MARGIN_S
        try:
            client = self._shepherd()
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

    # ---- 牧守进程 ----

    def _shepherd(self) -> ShepherdSet:
        if self._client is None:
            raise ShepherdGone("还没有连上牧守进程")
        return self._client

    def _enforced(self) -> Capabilities:
        if self._capabilities is None:
            raise ShepherdGone("还没有连上牧守进程")
        return self._capabilities

    def _attach(self) -> None:
        """连上（必要时启动）牧守进程，直到成功；未确认的结束随后自动送来。"""
        if self._client is not None:
            self._client.close()
            self._client = None
        while not self._stopping.is_set():
            try:
                client = ShepherdSet.attach(
                    self._settings.spool_path,
                    self._node,
                    containment=self._settings.containment,
                    on_ends=self._finisher.put,
                    on_bad_end=self._finisher.put_unreadable,
                    on_gone=self._notice_gone,
                )
                self._capabilities = client.state().capabilities
            except (ShepherdGone, ShepherdError, OSError) as error:
                # 没有一版都懂的（差了两版的牧守进程还带着作业）也在这里等：要由管理员装回旧版、排空之后再升级。
                logger.error("shepherd_unreachable", extra={"node": self._node, "error": str(error)})
                self._stopping.wait(RETRY_S)
                continue
            self._client = client
            return

    def _retire_shepherds(self) -> None:
        self._shepherd().retire()

    def _notice_gone(self) -> None:
        self._commands.put(self._reattach_if_gone)

    def _reattach_if_gone(self) -> None:
        # 真断了的话这一问会抛 ShepherdGone，由 _try 重连。
        self._shepherd().state()

    def _reap_strays(self) -> None:
        """过继来的僵尸：牧守进程连得着，隔了一跳还在，就不会再有人看它的退出码了。

        自己起的子进程（prolog、牧守进程）都有线程等着，僵尸转瞬即逝，不会连着两跳都在。
        """
        mine = {
            stat.pid for stat in process_table.snapshot().values() if stat.parent == os.getpid() and stat.state == "Z"
        }
        for pid in mine & self._strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._strays = mine - self._strays

    def _acknowledge(self, ends: list[EndRecord]) -> None:
        client = self._client
        if client is None or not ends:
            return
        try:
            client.ack(ends)
        except ShepherdGone:
            # 重连之后它会再送一遍，写数据库的语句对重复的什么也不做。
            logger.info("ack_postponed", extra={"node": self._node, "ends": len(ends)})
        except ShepherdError as error:
            logger.error("ack_refused", extra={"node": self._node, "code": error.code, "error": str(error)})

    def _watch_space(self) -> None:
        shortage = space_shortage((self._settings.spool_path, self._settings.script_path))
        if shortage is not None:
            self._drain(shortage)

    # ---- 登记与恢复 ----

    def _register(self) -> None:
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        with self._memory.lock:
            now, seen = register_node(
                self._engine, self._settings, self._inventory, self._enforced(), self._memory.beat
            )
            self._memory.face(seen)
        self._clock.measure(now, before, time.clock_gettime(time.CLOCK_BOOTTIME))

    def _recover(self) -> None:
        """先杀掉不再属于本节点的，再接新作业。"""
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

    # ---- 收尾的前后 ----

    def _run_epilog(self, end: EndRecord) -> None:
        program = self._settings.task_epilog
        assert program is not None
        failure = run_program(program, program_environment(end.job_id, "", end.uid, self._node))
        if failure is not None:
            self._commands.put(lambda: self._drain(f"作业 {end.job_id} 的 epilog 失败：{failure}"))

    def _give_back(self, ends: list[EndRecord]) -> None:
        given = [self._pool.give_back(end.owner) for end in ends]
        if any(given):
            self._control.room_made()

    def _on_parked(self, key: str, reason: str) -> None:
        where = self._dead_letters.path
        logger.error("end_parked", extra={"node": self._node, "key": key, "error": reason, "file": str(where)})
        self._commands.put(lambda: self._drain(f"作业步 {key} 的结局数据库收不下（{reason}），记在 {where}"))

    def _after_commit(self, ends: list[EndRecord], ended: list[Ended]) -> None:
        for end in ends:
            if end.id is not None and end.cause == "launch_failed" and end.on_node:
                self._commands.put(
                    lambda why=end.message, job=end.job_id: drain_node(  # type: ignore[misc]
                        self._engine, self._node, why, job_id=job
                    )
                )
            if end.unkillable:
                self._commands.put(lambda job=end.job_id: self._drain(f"作业 {job} 有杀不掉的进程"))  # type: ignore[misc]
        messages: dict[str, list[Message]] = {}
        for job in ended:
            for node in hostlist.expand(job.peers) if job.peers else ():
                if node == self._node:
                    # 报告丢失的可能不是运行脚本的节点：自己这里也要核对。
                    self._commands.put(lambda job_id=job.job_id: self._control.sync([job_id]))  # type: ignore[misc]
                else:
                    messages.setdefault(node, []).append(Message("sync", {"job_ids": [job.job_id]}))
        try:
            self._publisher.send(messages)
        except BusUnavailable as error:
            # 别的节点的定期核对会补上。
            logger.warning("bus_unavailable", extra={"node": self._node, "error": str(error)})

    def _drain(self, reason: str) -> None:
        drain_node(self._engine, self._node, reason)

    # ---- 总线 ----

    def _listen(self) -> None:
        handlers: dict[str, Handler] = {
            # 只是提醒：该做什么以数据库为准。
            **dict.fromkeys(REMINDERS, self._asking(self._on_changed)),
            "launch": self._asking(self._on_launch),
            SignalJobs.function: self._asking(self._on_signal),
            ReadLog.function: self._on_read_log,
            LaunchStep.function: self._asking(self._control.launch_step),
            SignalStep.function: self._asking(self._on_signal_step),
            AttachStep.function: self._asking(self._on_attach_step),
            Sample.function: self._asking(self._on_sample),
        }
        redis_url = self._settings.redis_url.get_secret_value()
        consumer = Consumer(redis_url, queue_name(self._node), handlers, lambda: self._memory.incarnation)
        away = False
        while not self._stopping.is_set():
            try:
                if away:
                    # 连上就核对，不等下一条消息：不在的时候丢了什么只有数据库知道。
                    consumer.check()
                    away = False
                    self._commands.put(lambda: self._control.sync(None))
                consumer.handle_next(BUS_WAIT_S)
            except BusUnavailable as error:
                if not away:
                    logger.warning("bus_unavailable", extra={"node": self._node, "error": str(error)})
                away = True
                self._stopping.wait(RETRY_S)
        consumer.close()

    def _asking(self, action: Callable[[_Message], None]) -> Callable[[_Message], None]:
        """排到控制线程去做的。"""
        return lambda message: self._commands.put(lambda: self._guarded(message, action))

    def _guarded(self, message: _Message, action: Callable[[_Message], None]) -> None:
        """消息来自外面：内容办不到的（不认识的信号）拒收并说明，不影响代理。"""
        try:
            action(message)
        except (KeyError, TypeError, ValueError, LaunchRefused) as error:
            logger.error("bus_message_refused", extra={"node": self._node, "error": repr(error)})

    def _on_launch(self, message: ChangedJobs) -> None:
        self._control.launch(message.job_ids)

    def _on_changed(self, message: ChangedJobs) -> None:
        self._control.sync(message.job_ids)

    def _on_signal(self, message: SignalJobs) -> None:
        self._control.signal(message.named, signal_number(str(message.signal)), message.target)

    def _on_signal_step(self, message: SignalStep) -> None:
        self._control.signal_step(message.job_id, message.restart_count, message.step_id, message.signal)

    def _on_attach_step(self, message: AttachStep) -> None:
        self._control.attach_step(message.job_id, message.restart_count, message.step_id, message.connection)

    def _on_sample(self, message: Sample) -> None:
        """此刻就采样一次（sstat）；各节点都答，问的人等到齐或到时。"""
        self._control.answer_sampled(message.request_id)

    def _on_read_log(self, message: ReadLog) -> None:
        """读文件在自己的线程里，一个作业一条道：不答话的盘不耽误别的作业，也不耽误控制线程。"""

        def answer() -> None:
            try:
                self._guarded(message, lambda asked: answer_read_log(self._engine, self._context, asked))
            except DATABASE_ERRORS as error:
                logger.warning("read_log_unanswered", extra={"node": self._node, "error": reason_of(error)})

        self._logs.submit(str(message.job_id), answer)


def run_agent(settings: Settings) -> None:
    """在主线程里运行代理，装好信号处理器；返回时已停止。"""
    own_every_thread()
    agent = Agent(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop(end_jobs=False))
    signal.signal(signal.SIGUSR1, lambda *_: agent.stop(end_jobs=True))
    agent.run()


def _share_memory_arenas() -> None:
    """几个线程轮流分配、释放，glibc 每个线程一块地会越攒越多（十万个作业十来 MiB）：只许两块。别的 C 库没有这个。"""
    with contextlib.suppress(AttributeError):
        libc().mallopt(M_ARENA_MAX, 2)


def main() -> None:
    """python -m scns_conductor.worker.agent.process：只运行代理，不参选调度领导者。"""
    try:
        settings = load_settings()
        configure_logging(settings)
        run_agent(settings)
    except ConductorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
