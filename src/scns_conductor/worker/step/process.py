"""作业步在一个节点上的主人（相当于 slurmstepd）：启动任务，把输入输出经连接交给 srun，转信号，报结局。

由牧守进程启动，只用标准库；说明在一个 JSON 文件里（worker/agent/step_launches.py 写），读完就删。
没有 srun 的连接时输出都在文件里。srun 断了（没有说 BYE）就结束任务：没有人要它的结果了。
sattach 是后来接上的连接：它断了、收不动，都不影响任务。
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time

from scns_conductor.core import step_wire as wire
from scns_conductor.worker.step.client_link import Link, connect
from scns_conductor.worker.step.mpi_service import MpiService, MpiUnavailable
from scns_conductor.worker.step.task_process import (
    FORWARDED,
    Task,
    TaskStarter,
    exit_code,
    set_window,
    signal_task,
)
from scns_conductor.worker.step.task_streams import TaskStreams
from scns_conductor.worker.step.x11_listener import X11Listener
from scns_conductor.worker.wire.launch_spec import ATTACH_SIGNAL
from scns_conductor.worker.wire.step_spec import ClientAddress, StepSpec

# 待发给 srun 的字节多于此就先不读任务的输出；待写给任务的输入由 srun 按 TAKEN 控制。
OUTPUT_HIGH_WATER = 4 * 1024**2
# 旁观者（sattach）积了这么多还不收就断开它，不让它拖住任务。
SPECTATOR_HIGH_WATER = 64 * 1024**2
# 任务退出之后，它留下的后代还占着管道时最多等这么久。
LINGER_S = 0.5
EPILOG_WAIT_S = 5.0
KILL_WAIT_S = 5.0
BYE_WAIT_S = 60.0


class Step:
    """事件循环。path 是说明文件，旁边的 path.attach.* 是要接上的客户。"""

    def __init__(self, spec: StepSpec, path: str) -> None:
        self._spec = spec
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._tasks = {rank: Task(rank) for rank in spec.ranks}
        self._starter = TaskStarter(spec, linked=spec.connection is not None)
        self._links: list[Link] = []
        self._paused = False
        self._doom_at: float | None = None
        self._announced = False
        self._started: bytes | None = None
        self._mpi = MpiService(
            spec, self._selector, primary=self._primary, send=self._send, lost=self._lost, doom=self._doom
        )
        self._streams = TaskStreams(self._selector, self._links, send=self._send, lost=self._lost, closed=self._report)
        self._gathered: dict[int, bytearray] = {}
        self._x11 = X11Listener(spec, self._selector, send=self._send_srun)

    # ---- 一生 ----

    def run(self) -> int:
        """直到全部任务结束并交代完；返回退出码。"""
        wanted = self._spec.connection
        if wanted is not None and not self._add_link(wanted, primary=True):
            print("连不上 srun，作业步没有启动", file=sys.stderr)
            return 1
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, ATTACH_SIGNAL, *FORWARDED):
            signal.signal(number, lambda *_: None)
        self._selector.register(wake_read, selectors.EVENT_READ, ("wake", None))
        self._spec.env |= self._x11.open()
        if self._open_mpi():
            for task in self._tasks.values():
                self._start(task)
        self._started = wire.started_frame({task.rank: task.pid for task in self._tasks.values()})
        self._send(self._started)
        self._attach()
        while not self._finished():
            self._turn(wake_read)
        return self._farewell(wake_read)

    def _start(self, task: Task) -> None:
        self._mpi.start(task, self._starter.start)
        for fd in task.outputs:
            if not self._paused:
                self._selector.register(fd, selectors.EVENT_READ, ("output", task))

    def _open_mpi(self) -> bool:
        """给不了 --mpi 要的服务就说出来，任务一个也不启动，返回 False。"""
        try:
            self._mpi.open()
        except MpiUnavailable as error:
            text = f"slurmstepd: error: mpi/{self._spec.mpi}: {error}\n"
            self._send(wire.frame(wire.STDERR, self._spec.ranks[0], text.encode()))
            for task in self._tasks.values():
                task.status = 1 << 8
                self._report(task)
            return False
        return True

    def _primary(self) -> Link | None:
        return next((link for link in self._links if link.primary), None)

    def _finished(self) -> bool:
        return all(task.reported for task in self._tasks.values())

    def _turn(self, wake_read: int) -> None:
        for key, events in self._selector.select(self._wait_s()):
            kind, what = key.data
            if kind == "wake":
                self._woken(wake_read)
            elif kind == "link":
                self._serve(what, events)
            elif kind == "input":
                self._streams.write_input(what)
            elif kind == "pmi":
                self._mpi.serve(what)
            elif kind == "pmix":
                what.pump()
            elif kind == "x11":
                self._x11.serve(what, events)
            elif key.fd in what.outputs:
                if events & selectors.EVENT_WRITE:
                    self._streams.write_input(what)
                if events & selectors.EVENT_READ and key.fd in what.outputs:
                    self._streams.read_output(what, key.fd)
        self._reap()
        now = time.monotonic()
        for task in self._tasks.values():
            if task.status is None or now - task.exited_at <= LINGER_S:
                continue
            for fd in list(task.outputs):
                self._streams.close_output(task, fd)
            if task.epilog_pid and now - task.exited_at > EPILOG_WAIT_S:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(task.epilog_pid, signal.SIGKILL)
        if self._doom_at is not None and now >= self._doom_at:
            self._signal_all(signal.SIGKILL)
            self._doom_at = None

    def _wait_s(self) -> float | None:
        moments = []
        for task in self._tasks.values():
            if task.status is not None and not task.reported:
                moments.append(task.exited_at + (LINGER_S if task.outputs else EPILOG_WAIT_S))
        if self._doom_at is not None:
            moments.append(self._doom_at)
        return max(0.0, min(moments) - time.monotonic()) + 0.001 if moments else None

    def _farewell(self, wake_read: int) -> int:
        """说 DONE，等各客户收完说 BYE：还有没读的输入时关连接，会把路上的输出一起丢掉。"""
        self._x11.close()
        self._send(wire.frame(wire.DONE))
        deadline = time.monotonic() + BYE_WAIT_S
        while any(not link.said_goodbye for link in self._links) and time.monotonic() < deadline:
            for key, events in self._selector.select(deadline - time.monotonic()):
                if key.data[0] == "link":
                    self._serve(key.data[1], events)
                elif key.data[0] == "wake":
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                else:
                    self._selector.unregister(key.fd)
        self._mpi.close()
        return max((exit_code(task.status or 0) for task in self._tasks.values()), default=0)

    # ---- 信号 ----

    def _woken(self, wake_read: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake_read, 4096):
                if number == signal.SIGTERM:
                    # 到时不走的由牧守进程杀：宽限是作业的 KillWait，而且 scancel -s TERM 并不要杀。
                    self._announce_end()
                    self._end_all()
                elif number == ATTACH_SIGNAL:
                    self._attach()
                elif number != signal.SIGCHLD:
                    self._signal_all(number)

    def _doom(self) -> None:
        """没有人要任务的结果了：先 SIGTERM，一会儿之后 SIGKILL。"""
        self._end_all()
        if self._doom_at is None:
            self._doom_at = time.monotonic() + KILL_WAIT_S

    def _announce_end(self) -> None:
        if self._announced or self._finished():
            return
        self._announced = True
        when = time.strftime("%Y-%m-%dT%H:%M:%S")
        text = f"slurmstepd: error: *** STEP {self._spec.step} ON {self._spec.node} CANCELLED AT {when} ***\n"
        self._send(wire.frame(wire.STDERR, self._spec.ranks[0], text.encode()))

    def _end_all(self) -> None:
        self._signal_all(signal.SIGCONT)
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        for task in self._tasks.values():
            if task.pid and task.status is None:
                signal_task(task.pid, number)

    # ---- 与 srun、sattach 的连接 ----

    def _add_link(self, wanted: ClientAddress, *, primary: bool) -> bool:
        link = connect(wanted, self._spec.own_place, self._spec.ranks, primary=primary)
        if link is None:
            return False
        link.watch(self._selector)
        self._links.append(link)
        if self._started is not None:
            link.send(self._started)
        for task in self._tasks.values():
            if task.reported:
                link.send(wire.exited_frame(task.rank, task.status or 0))
        return True

    def _attach(self) -> None:
        """代理写下的、要接上的客户；连不上的不管，它自己会知道。"""
        folder, name = os.path.split(self._path)
        for entry in os.listdir(folder):
            if entry.startswith(f"{name}.attach."):
                path = os.path.join(folder, entry)
                with open(path, encoding="utf-8") as file:
                    wanted = ClientAddress.from_wire(json.load(file))
                os.unlink(path)
                self._add_link(wanted, primary=False)

    def _send(self, data: bytes) -> None:
        for link in list(self._links):
            if not link.send(data) or (not link.primary and len(link.out) > SPECTATOR_HIGH_WATER):
                self._lost(link)
        self._pace()

    def _send_srun(self, data: bytes) -> None:
        primary = self._primary()
        if primary is not None and not primary.send(data):
            self._lost(primary)

    def _pace(self) -> None:
        """待发给 srun 的太多就停读任务的输出，发掉一半再读。"""
        waiting = max((len(link.out) for link in self._links if link.primary), default=0)
        if not self._paused and waiting > OUTPUT_HIGH_WATER:
            self._paused = True
            for task in self._tasks.values():
                for fd in task.outputs:
                    if fd in self._selector.get_map():
                        self._selector.unregister(fd)
        elif self._paused and waiting < OUTPUT_HIGH_WATER // 2:
            self._paused = False
            for task in self._tasks.values():
                for fd in task.outputs:
                    if fd not in self._selector.get_map():
                        self._selector.register(fd, selectors.EVENT_READ, ("output", task))

    def _serve(self, link: Link, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            if not link.push():
                self._lost(link)
            self._pace()
        if not events & selectors.EVENT_READ or link not in self._links:
            return
        try:
            for kind, number, payload in link.receive():
                self._obey(link, kind, number, payload)
        except (OSError, wire.FrameError, ValueError, KeyError) as error:
            if not isinstance(error, OSError):
                print(f"srun 送来的看不懂：{error}", file=sys.stderr)
            if link in self._links:
                self._lost(link)

    def _obey(self, link: Link, kind: int, number: int, payload: bytes) -> None:
        if kind in (wire.STDIN, wire.STDIN_END):
            for rank in list(self._tasks) if number == wire.ALL_TASKS else [number]:
                if rank in self._tasks:
                    # 旁观者说完了不等于没有输入了。
                    self._streams.take_input(
                        self._tasks[rank], link, payload, ended=kind == wire.STDIN_END and link.primary
                    )
        elif kind == wire.SIGNAL:
            self._signal_all(signal.Signals(number))
        elif kind == wire.WINDOW:
            rows, columns = wire.read_window(payload)
            for task in self._tasks.values():
                if task.terminal is not None:
                    set_window(task.terminal, rows, columns)
        elif kind == wire.GATHER:
            self._gathered.setdefault(number, bytearray()).extend(payload)
        elif kind == wire.GATHER_END:
            parts, self._gathered = self._gathered, {}
            self._mpi.gathered([bytes(part) for part in parts.values()])
        elif kind in wire.X11 and link.primary:
            self._x11.tunnel.take(kind, number, payload)
        elif kind == wire.BYE:
            link.said_goodbye = True

    def _lost(self, link: Link) -> None:
        self._links.remove(link)
        link.close()
        for task in self._tasks.values():
            for owed in task.input_from:
                if owed[0] is link:
                    owed[0] = None
        self._pace()
        if link.primary and not link.said_goodbye:
            self._doom()

    # ---- 任务的结局 ----

    def _reap(self) -> None:
        for task in self._tasks.values():
            if task.pid and task.status is None:
                pid, status = os.waitpid(task.pid, os.WNOHANG)
                if pid:
                    task.status, task.exited_at = status, time.monotonic()
                    self._starter.start_epilog(task)
                    self._report(task)
            elif task.epilog_pid:
                pid, _ = os.waitpid(task.epilog_pid, os.WNOHANG)
                if pid:
                    task.epilog_pid = 0
                    self._report(task)

    def _report(self, task: Task) -> None:
        """输出都送完了、epilog 也做完了才报退出：srun 收到退出时，输出已经全在它手里。"""
        if task.status is not None and not task.outputs and not task.epilog_pid and not task.reported:
            task.reported = True
            self._send(wire.exited_frame(task.rank, task.status or 0))


def main(path: str) -> None:
    """读说明，运行，以各任务退出码的最大值退出。

    连接随进程一起关：srun 看到断开时，牧守进程已经（或马上）收得到退出码，脚本随后结束也不会把这一步当成没做完。
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        spec = StepSpec.from_wire(json.load(file))
    os.unlink(path)
    code = Step(spec, path).run()
    sys.stderr.flush()
    os._exit(code)
