"""X11 的转发：连接开头的口令怎样核对、换掉；各路的字节经一条连接走，一个不少，慢的一路不占许多内存。"""

import contextlib
import selectors
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from scns_conductor.core import step_wire as wire
from scns_conductor.core.x11_tunnel import WINDOW, Channel, Tunnel
from scns_conductor.slurm.step.x11_display import with_cookie
from scns_conductor.worker.step.x11_listener import X11Listener
from scns_conductor.worker.wire.step_spec import StepSpec, StepStreams, TaskFiles, TaskSpec

FAKE, REAL = bytes(range(16)), bytes(range(100, 116))
KIND = b"MIT-MAGIC-COOKIE-1"


def greeting(order: str, kind: bytes, data: bytes, more: bytes = b"") -> bytes:
    """X Window System Protocol 的 Connection Setup。"""
    mark = b"B" if order == ">" else b"l"
    head = struct.pack(f"{order}cxHHHHxx", mark, 11, 0, len(kind), len(data))
    return head + kind + b"\0" * (-len(kind) % 4) + data + b"\0" * (-len(data) % 4) + more


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("real", [REAL, b"\1\2\3"])
def test_the_cookie_is_exchanged_once_the_greeting_is_whole(order: str, real: bytes) -> None:
    whole = greeting(order, KIND, FAKE)
    for length in range(len(whole)):
        assert with_cookie(whole[:length], FAKE, real) is None
    assert with_cookie(whole + b"first request", FAKE, real) == greeting(order, KIND, real, b"first request")


@pytest.mark.parametrize(
    "bad",
    [
        greeting("<", KIND, REAL),
        greeting("<", b"", b""),
        greeting("<", b"XDM-AUTHORIZATION-1", FAKE),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<cxHHHHxx", b"l", 11, 0, 65535, 65535),
    ],
)
def test_anyone_else_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an X11 client|wrong authentication"):
        with_cookie(bad, FAKE, REAL)


class Ends:
    """两个隧道，中间的帧一轮一轮地送；most_waiting 是路上与积着的字节数最多时是多少。"""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.sent: dict[int, list[bytes]] = {0: [], 1: []}
        self.tunnels = [
            Tunnel(self.selector, send=self.sent[0].append, tag=lambda channel: (0, channel)),
            Tunnel(self.selector, send=self.sent[1].append, tag=lambda channel: (1, channel)),
        ]
        self.readers = [wire.FrameReader(), wire.FrameReader()]

    def open(self, number: int) -> tuple[socket.socket, socket.socket]:
        """一路的两个外端。"""
        outer = []
        for tunnel in self.tunnels:
            mine, theirs = socket.socketpair()
            tunnel.add(number, theirs)
            mine.setblocking(False)
            outer.append(mine)
        return outer[0], outer[1]

    def turn(self) -> int:
        """走一轮；返回这一轮路上的字节数。"""
        for key, events in self.selector.select(0):
            side, channel = key.data
            assert isinstance(channel, Channel)
            self.tunnels[side].serve(channel, events)
        on_the_way = 0
        for side in (0, 1):
            frames, self.sent[side][:] = b"".join(self.sent[side]), []
            on_the_way += len(frames)
            for kind, number, payload in self.readers[1 - side].feed(frames):
                self.tunnels[1 - side].take(kind, number, payload)
        return on_the_way


@pytest.fixture
def ends() -> Iterator[Ends]:
    found = Ends()
    yield found
    for tunnel in found.tunnels:
        tunnel.close()
    found.selector.close()


def test_every_byte_of_both_directions_arrives_in_order(ends: Ends) -> None:
    sides = ends.open(1)
    sent = [bytes(range(256)) * 12_000, bytes(range(255, -1, -1)) * 12_000]
    left, got = [bytearray(data) for data in sent], [bytearray(), bytearray()]
    while len(got[0]) < len(sent[1]) or len(got[1]) < len(sent[0]):
        for side, outer in enumerate(sides):
            with contextlib.suppress(BlockingIOError):
                del left[side][: outer.send(memoryview(left[side])[:CHUNK])]
            with contextlib.suppress(BlockingIOError):
                got[side] += outer.recv(CHUNK)
        ends.turn()
    assert [bytes(got[1]), bytes(got[0])] == sent


CHUNK = 100_000


def test_who_does_not_read_holds_back_only_its_own_channel(ends: Ends) -> None:
    slow_in, slow_out = ends.open(1)
    quick_in, quick_out = ends.open(2)
    sent = quiet = 0
    while quiet < 3:
        try:
            sent += slow_in.send(b"x" * CHUNK)
            quiet = 0
        except BlockingIOError:
            quiet += 1 if ends.turn() == 0 else 0
    # 积着的至多一个窗口，其余在各个套接字的缓冲区里。
    assert sent < WINDOW + 2_000_000
    quick_in.send(b"hello")
    while True:
        ends.turn()
        try:
            assert quick_out.recv(100) == b"hello"
            break
        except BlockingIOError:
            continue
    got = 0
    while got < sent:
        try:
            got += len(slow_out.recv(CHUNK))
        except BlockingIOError:
            ends.turn()
    assert got == sent


def test_an_end_reaches_the_other_side_after_the_last_byte(ends: Ends) -> None:
    left, right = ends.open(7)
    left.send(b"last words")
    left.close()
    for _ in range(6):
        ends.turn()
    right.setblocking(True)
    right.settimeout(5)
    assert right.recv(100) == b"last words"
    assert right.recv(100) == b""
    assert [len(tunnel) for tunnel in ends.tunnels] == [0, 0]


def test_an_event_of_a_channel_that_just_ended_is_ignored(ends: Ends) -> None:
    """对面的结束与它自己的可写在同一批里：先处理了结束，再轮到它。"""
    ends.open(7)
    stale = [(key.data, selectors.EVENT_READ | selectors.EVENT_WRITE) for key in ends.selector.get_map().values()]
    for tunnel in ends.tunnels:
        tunnel.take(wire.X11_END, 7, b"")
    for (side, channel), events in stale:
        ends.tunnels[side].serve(channel, events)
    assert [len(tunnel) for tunnel in ends.tunnels] == [0, 0]


def test_a_node_that_cannot_forward_says_so_and_the_tasks_run(tmp_path: Path) -> None:
    """口令文件写不了：一行给 srun，没有变量，收场也不出错。"""
    folder = tmp_path / "taken"
    folder.mkdir()
    spec = StepSpec(
        node="n1", step="1.0", tasks=[TaskSpec(rank=3, files=TaskFiles(), env={})], argv=["true"], env={}, cwd="/",
        umask=0o022, streams=StepStreams(), shared_files=False, nodes={"n1": [3]}, task_count=1, x11_cookie="ab" * 16,
        x11_folder=str(folder),
    )  # fmt: skip
    sent: list[bytes] = []
    listener = X11Listener(spec, selectors.DefaultSelector(), send=sent.append)
    assert listener.open() == {}
    listener.close()
    ((kind, rank, text),) = wire.FrameReader().feed(b"".join(sent))
    assert (kind, rank) == (wire.STDERR, 3)
    assert b"slurmstepd: error: X11 forwarding: [Errno 17] File exists" in text
