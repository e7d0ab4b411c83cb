"""作业步在一个节点上的主人（相当于 slurmstepd）：启动任务，把输入输出经连接交给 srun，转信号，报结局。

由牧守进程启动，只用标准库；说明在一个 JSON 文件里（worker/agent/step_launches.py 写），读完就删。
没有 srun 的连接时输出都在文件里。srun 断了（没有说 BYE）就结束任务：没有人要它的结果了。
sattach 是后来接上的连接：它断了、收不动，都不影响任务。
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time

from scns_conductor.core import step_wire as wire
from scns_conductor.worker.step.client_link import Link, connect
from scns_conductor.worker.step.pmi import PmiError, PmiServer, process_mapping
from scns_conductor.worker.step.task_process import (
    CHUNK,
    FORWARDED,
    Task,
    TaskStarter,
    exit_code,
    set_window,
    signal_task,
)
from scns_conductor.worker.wire.launch_spec import ATTACH_SIGNAL
from scns_conductor.worker.wire.step_spec import ClientAddress, StepSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.step.pmix import PmixServer

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
        self._pmi: PmiServer | PmixServer | None = None
        self._pmi_sockets: dict[int, socket.socket] = {}
        self._gathered: dict[int, bytearray] = {}

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
        if self._serve_mpi():
            for task in self._tasks.values():
                self._start(task)
        self._started = wire.started_frame({task.rank: task.pid for task in self._tasks.values()})
        self._send(self._started)
        self._attach()
        while not self._finished():
            self._turn(wake_read)
        return self._farewell(wake_read)

    def _start(self, task: Task) -> None:
        if self._pmi is None:
            self._starter.start(task, (None, {}))
        elif isinstance(self._pmi, PmiServer):
            self._start_with_pmi(task)
        else:
            self._starter.start(task, (None, self._pmi.environment(task.rank)))
        for fd in task.outputs:
            if not self._paused:
                self._selector.register(fd, selectors.EVENT_READ, ("output", task))

    def _start_with_pmi(self, task: Task) -> None:
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        self._pmi_sockets[task.rank] = mine
        self._selector.register(mine, selectors.EVENT_READ, ("pmi", task))
        variables = {
            "PMI_FD": str(theirs.fileno()),
            "PMI_RANK": str(task.rank),
            "PMI_SIZE": str(self._spec.task_count),
            "PMI_JOBID": self._spec.step,
        }
        with theirs:
            self._starter.start(task, (theirs.fileno(), variables))

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
                self._write_input(what)
            elif kind == "pmi":
                self._serve_pmi(what)
            elif kind == "pmix":
                what.pump()
            elif key.fd in what.outputs:
                if events & selectors.EVENT_WRITE:
                    self._write_input(what)
                if events & selectors.EVENT_READ and key.fd in what.outputs:
                    self._read_output(what, key.fd)
        self._reap()
        now = time.monotonic()
        for task in self._tasks.values():
            if task.status is None or now - task.exited_at <= LINGER_S:
                continue
            for fd in list(task.outputs):
                self._close_output(task, fd)
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
        if self._pmi is not None and not isinstance(self._pmi, PmiServer):
            self._pmi.close()
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
        link = connect(wanted, self._spec.node, self._spec.ranks, primary=primary)
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
                    self._take_input(self._tasks[rank], link, payload, ended=kind == wire.STDIN_END and link.primary)
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
            if self._pmi is not None:
                self._pmi.gathered([bytes(part) for part in parts.values()])
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

    # ---- PMI ----

    def _serve_mpi(self) -> bool:
        """--mpi 要的服务；给不了就说出来，任务一个也不启动，返回 False。"""
        kind = self._spec.mpi
        if kind == "pmi2":
            self._pmi = self._pmi_server()
        elif kind == "pmix":
            # 用到才载入：它要 ctypes。
            from scns_conductor.worker.step.pmix import PmixUnavailable

            try:
                self._pmi = self._pmix_server()
            except PmixUnavailable as error:
                self._send(
                    wire.frame(wire.STDERR, self._spec.ranks[0], f"slurmstepd: error: mpi/pmix: {error}\n".encode())
                )
                for task in self._tasks.values():
                    task.status = 1 << 8
                    self._report(task)
                return False
        return True

    def _pmix_server(self) -> PmixServer:
        from scns_conductor.worker.step.pmix import PmixServer

        uid, gid = self._spec.uid, self._spec.gid
        server = PmixServer(
            job=self._spec.step,
            node=self._spec.node,
            nodes=self._spec.nodes,
            uid=os.geteuid() if uid is None else uid,
            gid=os.getegid() if gid is None else gid,
            exchange=self._exchange,
            abort=self._abort,
        )
        self._selector.register(server.fd, selectors.EVENT_READ, ("pmix", server))
        return server

    def _pmi_server(self) -> PmiServer:
        return PmiServer(
            job=self._spec.step,
            size=self._spec.task_count,
            ranks=self._spec.ranks,
            mapping=process_mapping(self._spec.nodes),
            answer=self._answer_pmi,
            exchange=self._exchange,
            abort=self._abort,
        )

    def _serve_pmi(self, task: Task) -> None:
        connection = self._pmi_sockets[task.rank]
        assert isinstance(self._pmi, PmiServer)
        try:
            chunk = connection.recv(CHUNK)
            if chunk:
                self._pmi.feed(task.rank, chunk)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        except (PmiError, KeyError) as error:
            self._abort(task.rank, 1, f"PMI: {error}")
            chunk = b""
        if not chunk:
            self._selector.unregister(connection)
            connection.close()

    def _answer_pmi(self, rank: int, data: bytes) -> None:
        # 一问一答：回答总放得进套接字的缓冲区；放不进的客户不合规矩，断开它。
        connection = self._pmi_sockets[rank]
        try:
            connection.sendall(data)
        except OSError:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _exchange(self, fresh: bytes) -> None:
        """本节点的任务都到了 fence：交给 srun 汇齐；没有 srun 的步只有一个节点时自己就齐了。"""
        primary = next((link for link in self._links if link.primary), None)
        if primary is None:
            assert self._pmi is not None
            if len(self._spec.nodes) == 1:
                self._pmi.gathered([fresh])
            else:
                self._abort(self._spec.ranks[0], 1, "PMI: no srun to exchange keys between nodes")
            return
        alive = all(primary.send(part) for part in wire.frames(wire.GATHER, 0, fresh))
        if not alive or not primary.send(wire.frame(wire.GATHER_END)):
            self._lost(primary)

    def _abort(self, rank: int, code: int, message: str) -> None:
        """MPI_Abort：整个作业步都结束，哪个节点上的都是。"""
        text = f"slurmstepd: error: *** STEP {self._spec.step} ABORTED BY TASK {rank} (code {code}) ***"
        self._send(wire.frame(wire.STDERR, rank, f"{text}{' ' if message else ''}{message.strip()}\n".encode()))
        self._send(wire.frame(wire.ABORT, code))
        if not any(link.primary for link in self._links):
            self._doom()

    # ---- 任务的输入输出 ----

    def _take_input(self, task: Task, link: Link, data: bytes, *, ended: bool) -> None:
        if task.input_fd is None:
            self._taken(link, len(data))
            return
        task.input += data
        task.input_from.append([link, len(data)])
        task.input_ended = task.input_ended or ended
        self._write_input(task)

    def _write_input(self, task: Task) -> None:
        fd = task.input_fd
        if fd is None:
            return
        before = len(task.input)
        try:
            while task.input:
                del task.input[: os.write(fd, memoryview(task.input)[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            # 任务不读了：余下的输入丢掉。
            task.input.clear()
            task.input_ended = True
        self._settle_input(task, before - len(task.input))
        watched = fd in self._selector.get_map()
        if task.terminal is not None:
            if watched:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if task.input else 0)
                self._selector.modify(fd, events, ("output", task))
            return
        if task.input and not watched:
            self._selector.register(fd, selectors.EVENT_WRITE, ("input", task))
        elif not task.input and watched:
            self._selector.unregister(fd)
        if task.input_ended and not task.input:
            os.close(fd)
            task.input_fd = None

    def _settle_input(self, task: Task, count: int) -> None:
        """写进去的 count 字节是谁送来的，就告诉谁。"""
        while task.input_from and (count or not task.input_from[0][1]):
            owed = task.input_from[0]
            part = min(count, owed[1])
            owed[1] -= part
            count -= part
            if owed[0] is not None:
                self._taken(owed[0], part)
            if not owed[1]:
                task.input_from.pop(0)

    def _taken(self, link: Link, count: int) -> None:
        if count and link in self._links and not link.send(wire.frame(wire.TAKEN, count)):
            self._lost(link)

    def _read_output(self, task: Task, fd: int) -> None:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # 伪终端的另一头都关了。
            data = b""
        if data:
            self._send(wire.frame(task.outputs[fd], task.rank, data))
        else:
            self._close_output(task, fd)

    def _close_output(self, task: Task, fd: int) -> None:
        del task.outputs[fd]
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        os.close(fd)
        if fd == task.terminal:
            task.terminal = task.input_fd = None
        self._report(task)

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
