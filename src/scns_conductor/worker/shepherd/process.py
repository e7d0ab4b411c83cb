"""牧守进程：作业进程的父亲，一个节点一个，比代理活得久。一个单线程的循环，只用标准库。

命令行：shepherd --spool 目录 --node 节点名 [--containment auto|off|required] [--idle-exit-s 秒]
套接字 目录/shepherd.sock（0600），日志 目录/shepherd.journal，锁 目录/shepherd.lock。
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import selectors
import signal
import socket
import sys

from scns_conductor.worker.host import process_table
from scns_conductor.worker.host.cgroup import node_cgroup_path
from scns_conductor.worker.host.cgroup_detection import detect
from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.shepherd.adoption import adopt
from scns_conductor.worker.shepherd.containment import Containment
from scns_conductor.worker.shepherd.journal import Journal
from scns_conductor.worker.shepherd.keeper import JobKeeper
from scns_conductor.worker.shepherd.link import Link
from scns_conductor.worker.shepherd.operations import Operations
from scns_conductor.worker.shepherd.own_log import log
from scns_conductor.worker.shepherd.script_files import ScriptFiles
from scns_conductor.worker.shepherd.spawn import Spawner
from scns_conductor.worker.shepherd.task import Task
from scns_conductor.worker.wire.frames import JOURNAL_NAME, LOCK_NAME, SOCKET_NAME, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.host.cgroup import CgroupTree
    from scns_conductor.worker.wire.end_record import EndRecord

SHUTDOWN_ACK_WAIT_S = 10.0
ADOPTED_POLL_S = 0.25
# 结束了、链上已有下一个接着跑的，攒这么久再一起推给代理：代理提交之前反正要歇（agent/relay.py）。
FOLLOWED_PUSH_S = 0.01
EXIT_ALREADY_RUNNING = 75
EXIT_CONTAINMENT = 78


class Shepherd:
    """读套接字、管进程、推结束记录。"""

    def __init__(self, spool: str, node: str, containment: str, idle_exit_s: float) -> None:
        self._spool = spool
        self._node = node
        self._idle_exit_s = idle_exit_s
        self._boot_id = process_table.boot_id()
        self._asked_to_stop = False
        self._selector = selectors.DefaultSelector()
        self._links: dict[int, Link] = {}
        self._stop_by_boot: float | None = None
        self._idle_since = boot_now()
        self._running = True
        self._push_boot_s: float | None = None

        tasks_by_pid: dict[int, Task] = {}
        tree, detail = self._open_cgroups(containment)
        self._containment = Containment(tree, detail, tasks_by_pid, node_cgroup_path(node, spool))
        self._journal = Journal(f"{spool}/{JOURNAL_NAME}")
        self._scripts = ScriptFiles(spool)
        self._keeper = JobKeeper(self._journal, self._containment, Spawner(self._scripts), tasks_by_pid, self._watch)
        self._operations = Operations(self._journal, self._keeper, self._containment, node, self._boot_id)

    def _open_cgroups(self, containment: str) -> tuple[CgroupTree | None, str]:
        if containment == "off":
            return None, "设置里关闭了 cgroup（containment=off）"
        tree, detail = detect(node_cgroup_path(self._node, self._spool))
        if tree is None and containment == "required":
            log(f"containment_required_but_missing detail={detail}")
            sys.exit(EXIT_CONTAINMENT)
        return tree, detail

    # ---- 一生 ----

    def run(self) -> None:
        """开始、循环、停止。"""
        self._catch_signals()
        self._journal.open()
        if self._journal.corrupt_lines:
            log(f"journal_corrupt_lines count={self._journal.corrupt_lines} aside={self._journal.path}.corrupt")
        adopt(self._keeper, self._boot_id)
        self._listen()
        self._selector.register(self._keeper.spawner.ear, selectors.EVENT_READ, lambda _: self._keeper.note_scripts())
        self._flush()
        gc.collect()
        gc.freeze()
        log(f"shepherd_started pid={os.getpid()} node={self._node} running={len(self._keeper.groups)}")
        while self._running:
            self._turn()
        self._close()

    def _turn(self) -> None:
        timeout = 0.0 if self._operations.launches else self._wait_s()
        for key, events in self._selector.select(timeout):
            key.data(events)
        self._keeper.endings.reap()
        self._keeper.timers.run()
        self._operations.launch_some()
        self._keeper.sweeper.run()
        self._flush()
        self._consider_leaving()

    def _wait_s(self) -> float:
        due = self._keeper.timers.next_s()
        return min(30.0 if due is None else due, 1.0 if self._operations.stopping else 30.0)

    def _flush(self) -> None:
        """先让日志落盘，再推送；日志写不进去时照样送达，只是少了一层保险，下一轮再试。"""
        try:
            self._journal.flush()
        except OSError as error:
            log(f"journal_write_failed error={error.strerror}")
            self._keeper.timers.at(boot_now() + 1.0, lambda _: None, None)
        ends = self._ends_to_push()
        for link in list(self._links.values()):
            if link.attached:
                link.pending.extend(ends)
            self._pump(link)

    def _ends_to_push(self) -> list[EndRecord]:
        """此刻要推的结束：有一个没有谁接着跑的，就全部；都有的攒一会儿。"""
        keeper = self._keeper
        if not keeper.new_ends:
            return []
        if len(keeper.new_ends) == keeper.followed:
            now = boot_now()
            if self._push_boot_s is None:
                self._push_boot_s = now + FOLLOWED_PUSH_S
                keeper.timers.at(self._push_boot_s, lambda _: None, None)
            if now < self._push_boot_s:
                return []
        ends, keeper.new_ends, keeper.followed = keeper.new_ends, [], 0
        self._push_boot_s = None
        return ends

    def _consider_leaving(self) -> None:
        if self._asked_to_stop and process_table.machine_stops():
            # 关机不等它：不然 systemd 要等到杀它的时候。还在的作业开机之后按节点重启办。
            self._running = False
            return
        now = boot_now()
        if self._keeper.groups or self._links:
            self._idle_since = now
        if self._operations.stopping and not self._keeper.groups:
            if self._stop_by_boot is None:
                self._stop_by_boot = now + SHUTDOWN_ACK_WAIT_S
            delivered = not self._journal.ends or not self._links
            tidy = not self._keeper.endings.has_doomed_cgroups and not self._keeper.sweeper.busy
            if (delivered and tidy) or now >= self._stop_by_boot:
                self._running = False
        elif (
            not self._keeper.groups
            and not self._journal.ends
            and not self._keeper.endings.has_doomed_cgroups
            and not self._keeper.sweeper.busy
            and now - self._idle_since > self._idle_exit_s
        ):
            log("shepherd_idle_exit")
            self._running = False

    def _close(self) -> None:
        for link in list(self._links.values()):
            self._pump(link)
            link.connection.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._spool}/{SOCKET_NAME}")
        self._scripts.close()
        self._keeper.sweeper.close()
        self._containment.close()
        self._journal.close()
        log("shepherd_stopped")

    def _catch_signals(self) -> None:
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        # 处理器什么也不做：SIGCHLD 只用来叫醒循环，其余的让它不被随手杀死；exec 之后处理器自动消失。
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

        def asked(*_: object) -> None:
            self._asked_to_stop = True

        signal.signal(signal.SIGTERM, asked)

        def drain(_: int) -> None:
            with contextlib.suppress(BlockingIOError):
                while os.read(read_fd, 4096):
                    pass

        self._selector.register(read_fd, selectors.EVENT_READ, drain)

    # ---- 连接 ----

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path = f"{self._spool}/{SOCKET_NAME}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # 套接字路径至多 107 字节，深的目录经 /proc/self/fd 绕过；umask 保证从一开始就是 0600。
        directory = os.open(self._spool, os.O_PATH | os.O_CLOEXEC)
        old_umask = os.umask(0o177)
        try:
            listener.bind(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
        finally:
            os.umask(old_umask)
            os.close(directory)
        listener.listen(16)
        listener.setblocking(False)

        def accept(_: int) -> None:
            try:
                connection, _address = listener.accept()
            except OSError as error:
                log(f"accept_failed error={error.strerror}")
                return
            connection.setblocking(False)
            link = Link(connection)
            self._links[connection.fileno()] = link
            self._selector.register(connection, selectors.EVENT_READ, lambda events: self._serve(link, events))

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def _serve(self, link: Link, events: int) -> None:
        if not events & selectors.EVENT_READ:
            return
        try:
            messages = link.receive()
        except WireError as error:
            log(f"bad_frame error={error}")
            messages = None
        if messages is None:
            self._drop(link)
            return
        for message in messages:
            answer = self._operations.answer(link, message)
            if answer is not None:
                link.send({"id": message.get("id"), **answer})

    def _drop(self, link: Link) -> None:
        if self._links.pop(link.connection.fileno(), None) is not None:
            self._selector.unregister(link.connection)
            link.connection.close()

    def _pump(self, link: Link) -> None:
        if not link.flush():
            self._drop(link)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
        key = self._selector.get_key(link.connection)
        if key.events != wanted:
            self._selector.modify(link.connection, wanted, key.data)

    # ---- 接管来的进程 ----

    def _watch(self, task: Task) -> None:
        """不是自己的子进程，等不到 SIGCHLD：用 pidfd；不行就定时看。"""
        try:
            task.pidfd = os.pidfd_open(task.pid or 0)
        except OSError:
            self._keeper.timers.at(boot_now() + ADOPTED_POLL_S, self._poll_adopted, task)
            return

        def gone(_: int) -> None:
            self._selector.unregister(task.pidfd)
            os.close(task.pidfd)
            self._keeper.endings.adopted_gone(task)

        self._selector.register(task.pidfd, selectors.EVENT_READ, gone)

    def _poll_adopted(self, task: Task) -> None:
        stat = process_table.read_stat(task.pid or 0)
        if stat is None or stat.state in "ZX" or abs(stat.start_s - (task.record.started_boot_s or 0.0)) > 1.5:
            self._keeper.endings.adopted_gone(task)
        else:
            self._keeper.timers.at(boot_now() + ADOPTED_POLL_S, self._poll_adopted, task)


def _lock(spool: str) -> int:
    """一个目录只许一个牧守进程；已有一个时以 EXIT_ALREADY_RUNNING 退出。"""
    fd = os.open(f"{spool}/{LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("another_shepherd_holds_the_lock")
        sys.exit(EXIT_ALREADY_RUNNING)
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def _take_precedence() -> None:
    """作业把 CPU 占满时，启动、回收与时限不排在它们后面：最低的实时优先级，子进程由内核恢复成平常的（sched(7)）。

    nice 没有用：每个作业是一个会话，autogroup 按会话平分。要 CAP_SYS_NICE；没有就按平常的次序。
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError as error:
        log(f"no_real_time_priority error={error.strerror}")


def main(arguments: list[str]) -> None:
    """命令行入口；参数成对出现。"""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    spool = options["--spool"]
    os.umask(0o022)
    lock = _lock(spool)
    _take_precedence()
    os.chdir("/")
    Shepherd(
        spool,
        options["--node"],
        options.get("--containment", "auto"),
        float(options.get("--idle-exit-s", "600")),
    ).run()
    os.close(lock)
