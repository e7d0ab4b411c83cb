"""srun 这一头：等各节点连过来，收输出、送输入、转信号，直到全部任务结束（对面是 worker/step/process）。"""

import contextlib
import hmac
import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scns_conductor.core import step_wire as wire
from scns_conductor.slurm.step.x11_display import X11Display, X11Link

CHUNK = 64 * 1024
# 每个节点至多有这么多还没有写进任务的输入（字节，各任务合计）。
INPUT_WINDOW = 4 * 1024**2
HELLO_WAIT_S = 10.0
# 说了 BYE 之后等节点上的主人退出（连接断开）至多这么久。
LEAVE_WAIT_S = 5.0
CONNECT_RETRY_S = 3.0


class Listener:
    """听着的套接字与口令；地址是本机可能被连到的全部。"""

    def __init__(self, towards: str) -> None:
        self.socket = socket.create_server(("", 0), backlog=4096)
        self.socket.setblocking(False)
        self.key = secrets.token_hex(16)
        self.port: int = self.socket.getsockname()[1]
        self.addresses = _own_addresses(towards)

    def description(self) -> dict[str, object]:
        """给 API 的 connection。"""
        return {"addresses": self.addresses, "port": self.port, "key": self.key}


def _own_addresses(towards: str) -> list[str]:
    """去往 towards（API 的主机）所用的地址在前，再是主机名与回环。"""
    found: list[str] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))
        found.append(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        found += [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return list(dict.fromkeys([*found, "127.0.0.1"]))


class Sink(Protocol):
    """任务的输出与结局送到哪里。"""

    def output(self, rank: int, data: bytes, *, error: bool) -> None:
        """一段输出。"""

    def exited(self, node: str, rank: int, status: int) -> None:
        """一个任务结束了；status 是 wait 的状态。"""

    def node_done(self, node: str, *, lost: Sequence[int]) -> None:
        """一个节点交代完了；lost 是没有交代就断了的任务。"""

    def signalled(self, number: int) -> None:
        """srun 自己收到了信号。"""

    def aborted(self, code: int) -> None:
        """一个任务要求结束整个作业步（MPI_Abort）。"""

    def wait_s(self) -> float | None:
        """多少秒之后要叫一次 tick；None 表示不用。"""

    def tick(self) -> None:
        """到时了（--wait）。"""


@dataclass(slots=True, eq=False)
class _Node:
    connection: socket.socket
    name: str = ""
    ranks: list[int] = field(default_factory=list)
    reader: wire.FrameReader = field(default_factory=wire.FrameReader)
    out: bytearray = field(default_factory=bytearray)
    outstanding: int = 0
    exited: set[int] = field(default_factory=set)
    done: bool = False
    leave_by: float | None = None
    x11: X11Link | None = None
    accepted_at: float = field(default_factory=time.monotonic)


class StepLink:
    """事件循环。wanted 是各节点上的任务；input_fd 是要转给任务的输入，None 表示没有。

    missing 每隔一会儿被调用：还没有连过来的节点；它返回其中不会再来的。
    gated 为真时等 open_input 才开始送输入。x11 是节点上的 X 客户要转给的显示，None 是不转发。
    """

    def __init__(
        self,
        listener: Listener,
        wanted: Mapping[str, Sequence[int]],
        sink: Sink,
        *,
        input_fd: int | None,
        missing: Callable[[list[str]], Sequence[str]],
        signals: Sequence[int],
        gated: bool = False,
        x11: X11Display | None = None,
    ) -> None:
        self._listener = listener
        self._wanted = wanted
        self._sink = sink
        self._input_fd = input_fd
        self._missing = missing
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._nodes: dict[str, _Node] = {}
        self._strangers: set[_Node] = set()
        self._finished: set[str] = set()
        self._input_watched = False
        self._ask_at = time.monotonic() + CONNECT_RETRY_S
        self._early: list[int] = []
        self._gated = gated
        self._x11 = x11
        # PMI 的 fence：各节点交出的键，等齐了才分给大家。
        self._gathered: list[bytes] = []
        self._gather_done: set[str] = set()

    def run(self) -> None:
        """直到每个节点都交代完，或确知来不了。"""
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        old_wakeup = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        old = {number: signal.signal(number, lambda *_: None) for number in self._signals}
        self._selector.register(read_fd, selectors.EVENT_READ, self._woken)
        self._selector.register(self._listener.socket, selectors.EVENT_READ, self._accept)
        try:
            while len(self._finished) < len(self._wanted):
                self._watch_input()
                for key, events in self._selector.select(self._wait_s()):
                    if isinstance(key.data, _Node):
                        self._serve(key.data, events)
                    elif isinstance(key.data, tuple):
                        link, channel = key.data
                        link.serve(channel, events)
                    else:
                        key.data(key.fd)
                self._look_for_missing()
                self._sink.tick()
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wakeup)
            for node in [*self._nodes.values(), *self._strangers]:
                if node.x11 is not None:
                    node.x11.close()
                node.connection.close()
            self._selector.close()
            os.close(read_fd)
            os.close(write_fd)

    def send_signal(self, number: int) -> None:
        """给全部任务发信号；还没有连过来的节点连上之后补发。"""
        self._early.append(number)
        for node in self._nodes.values():
            self._send(node, wire.frame(wire.SIGNAL, number))

    def open_input(self) -> None:
        """可以送输入了（gated 的）。"""
        self._gated = False

    def leave(self) -> None:
        """不等任务结束就走（sattach）。"""
        self._finished.update(self._wanted)

    def set_window(self, rows: int, columns: int) -> None:
        """终端的大小变了。"""
        for node in self._nodes.values():
            self._send(node, wire.window_frame(rows, columns))

    # ---- 等节点 ----

    def _wait_s(self) -> float | None:
        due = [self._sink.wait_s()]
        if len(self._nodes) < len(self._wanted) or self._strangers:
            due += [max(0.0, self._ask_at - time.monotonic()), 1.0]
        if any(node.leave_by is not None for node in self._live()):
            due.append(0.1)
        known = [each for each in due if each is not None]
        return min(known) if known else None

    def _look_for_missing(self) -> None:
        now = time.monotonic()
        for node in self._live():
            if node.leave_by is not None and now > node.leave_by:
                self._drop(node)
        for stranger in [each for each in self._strangers if now - each.accepted_at > HELLO_WAIT_S]:
            self._drop(stranger)
        if now < self._ask_at:
            return
        self._ask_at = now + CONNECT_RETRY_S
        absent = [name for name in self._wanted if name not in self._nodes and name not in self._finished]
        if absent:
            for name in self._missing(absent):
                self._finished.add(name)
                self._sink.node_done(name, lost=self._wanted[name])

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _address = self._listener.socket.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire.probe_silence(connection)
                node = _Node(connection)
                self._strangers.add(node)
                self._selector.register(connection, selectors.EVENT_READ, node)

    def _greet(self, node: _Node, payload: bytes) -> None:
        key, name = wire.read_hello(payload)
        good = hmac.compare_digest(key.encode(), self._listener.key.encode())
        if not good or name not in self._wanted or name in self._nodes:
            raise wire.FrameError("wrong key")
        self._strangers.discard(node)
        node.name, node.ranks = name, [int(rank) for rank in self._wanted[name]]
        self._nodes[name] = node
        if self._x11 is not None:
            node.x11 = X11Link(self._x11, self._selector, lambda data: self._send(node, data))
        for number in self._early:
            self._send(node, wire.frame(wire.SIGNAL, number))

    def _drop(self, node: _Node) -> None:
        self._strangers.discard(node)
        if node.x11 is not None:
            node.x11.close()
        self._selector.unregister(node.connection)
        node.connection.close()
        if node.name and node.name not in self._finished:
            self._finished.add(node.name)
            lost = [] if node.done else [rank for rank in node.ranks if rank not in node.exited]
            self._sink.node_done(node.name, lost=lost)

    # ---- 收发 ----

    def _serve(self, node: _Node, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._push(node)
        if not events & selectors.EVENT_READ or node.connection.fileno() < 0:
            return
        try:
            chunk = node.connection.recv(CHUNK * 4)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        try:
            if not chunk:
                raise wire.FrameError("closed")
            for kind, number, payload in node.reader.feed(chunk):
                if not node.name and kind != wire.HELLO:
                    raise wire.FrameError("no key first")
                self._take(node, kind, number, payload)
        except ValueError:
            self._drop(node)

    def _take(self, node: _Node, kind: int, number: int, payload: bytes) -> None:
        if kind in (wire.STDOUT, wire.STDERR):
            self._sink.output(number, payload, error=kind == wire.STDERR)
        elif kind == wire.TAKEN:
            node.outstanding -= number
        elif kind == wire.EXITED:
            node.exited.add(number)
            self._sink.exited(node.name, number, wire.read_status(payload))
        elif kind == wire.GATHER:
            self._gathered.append(wire.frame(wire.GATHER, list(self._wanted).index(node.name), payload))
        elif kind == wire.GATHER_END:
            self._gather_done.add(node.name)
            if len(self._gather_done) == len(self._wanted):
                everything = b"".join([*self._gathered, wire.frame(wire.GATHER_END)])
                self._gathered, self._gather_done = [], set()
                for each in self._live():
                    self._send(each, everything)
        elif kind in wire.X11 and node.x11 is not None:
            node.x11.take(kind, number, payload)
        elif kind == wire.ABORT:
            self._sink.aborted(number)
        elif kind == wire.HELLO:
            self._greet(node, payload)
        elif kind == wire.DONE:
            node.done = True
            node.leave_by = time.monotonic() + LEAVE_WAIT_S
            self._send(node, wire.frame(wire.BYE))

    def _send(self, node: _Node, data: bytes) -> None:
        node.out += data
        self._push(node)

    def _push(self, node: _Node) -> None:
        try:
            while node.out:
                del node.out[: node.connection.send(memoryview(node.out)[: CHUNK * 4])]
        except BlockingIOError:
            pass
        except OSError:
            # 断了；读的那一边会看见，在那里收场。
            node.out.clear()
        if node.connection.fileno() >= 0:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if node.out else 0)
            self._selector.modify(node.connection, events, node)

    # ---- 输入与信号 ----

    def _watch_input(self) -> None:
        """全部节点都连上了、都还收得下，才读输入。"""
        ready = (
            self._input_fd is not None
            and not self._gated
            and len(self._nodes) + len(self._finished - self._nodes.keys()) >= len(self._wanted)
            and all(node.outstanding < INPUT_WINDOW for node in self._live())
        )
        if ready == self._input_watched or self._input_fd is None:
            return
        self._input_watched = ready
        try:
            if ready:
                self._selector.register(self._input_fd, selectors.EVENT_READ, self._read_input)
            else:
                self._selector.unregister(self._input_fd)
        except PermissionError:
            # 普通文件与 /dev/null 不能 epoll：它们总是可读的，直接读。
            self._input_watched = False
            while self._input_fd is not None and all(node.outstanding < INPUT_WINDOW for node in self._live()):
                self._read_input(self._input_fd)

    def _live(self) -> list[_Node]:
        return [node for name, node in self._nodes.items() if name not in self._finished]

    def _read_input(self, fd: int) -> None:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # 后台运行时读不了终端（EIO）：当作没有输入。
            data = b""
        kind = wire.STDIN if data else wire.STDIN_END
        for node in self._live():
            node.outstanding += len(data) * len(node.ranks)
            self._send(node, wire.frame(kind, wire.ALL_TASKS, data))
        if not data:
            if self._input_watched:
                self._selector.unregister(fd)
            self._input_watched, self._input_fd = False, None

    def _woken(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(fd, 4096):
                self._sink.signalled(number)
