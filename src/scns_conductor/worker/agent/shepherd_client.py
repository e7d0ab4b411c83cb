"""代理一侧：牧守进程不在就启动它，连上它，发请求、收结束记录。线程安全。"""

from __future__ import annotations

import base64
import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from scns_conductor.worker.wire import shepherd_messages as messages
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.frames import LOCK_NAME, RECEIVE_BYTES, SOCKET_NAME, FrameBuffer, WireError, encode
from scns_conductor.worker.wire.launch_spec import LaunchSpec
from scns_conductor.worker.wire.record import OLDEST_VERSION, Record, RecordError
from scns_conductor.worker.wire.shepherd_messages import HelloAnswer, LaunchAnswer, Named

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer", bound=Record)
START_WAIT_S = 15.0
REQUEST_WAIT_S = 120.0
SOURCE_ROOT = str(Path(__file__).resolve().parents[3])
# -I -S：不看环境、不载入第三方包，牧守进程因此又小又快；-X utf8 使路径编码与语言设置无关。
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from scns_conductor.worker.shepherd.process import main; main(sys.argv[1:])"
)


class ShepherdError(Exception):
    """牧守进程拒绝了请求；code 是它给的英文码。"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ShepherdGone(Exception):
    """与牧守进程的连接断了；重连（必要时重启它）之后再试。"""


def start_shepherd(spool: Path, node: str, *, containment: str = "auto", idle_exit_s: float = 600) -> None:
    """启动牧守进程，等到能连上；它自成会话，与代理的生死无关。起不来抛 ShepherdGone（中文原因）。"""
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, SOURCE_ROOT]
    command += ["--spool", str(spool), "--node", node, "--containment", containment]
    command += ["--idle-exit-s", str(idle_exit_s)]
    log_path = spool / "shepherd.log"
    with open(log_path, "ab") as log, open(os.devnull, "rb") as null:
        process = subprocess.Popen(
            command,
            stdin=null,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )
    # 收尸交给一个守护线程：代理活着而牧守进程先死时，不留僵尸。
    threading.Thread(target=process.wait, name="shepherd-wait", daemon=True).start()
    deadline = time.monotonic() + START_WAIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        # 连得上还不够：可能连到的是别人启动的，而自己的这个还在起步；等到拿到锁的就是它，或它已退出。
        with contextlib.suppress(OSError, ValueError):
            if int((spool / LOCK_NAME).read_text()) == process.pid:
                _connect(spool).close()
                return
        time.sleep(0.01)
    # 锁被占用（75）说明另一个进程同时启动了它，下面再试一次连接。
    with contextlib.suppress(OSError):
        _connect(spool).close()
        return
    tail = log_path.read_text(errors="replace")[-500:]
    raise ShepherdGone(f"牧守进程没有起来（退出码 {process.poll()}）：{tail}")


def _connect(spool: Path) -> socket.socket:
    directory = os.open(spool, os.O_PATH | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


class Answered(NamedTuple):
    """一个回答：开头，与整个报文（照 heading.v 读）。"""

    heading: messages.Answer
    message: dict[str, object]


def _read(kind: type[_Answer], answer: Answered) -> _Answer:
    """回答照它自己的版本读；读不懂抛 ShepherdError。"""
    try:
        return kind.from_wire(answer.message, answer.heading.v)
    except ValueError as error:
        raise ShepherdError("bad_answer", f"牧守进程的回答不合式：{error}") from error


class ShepherdClient:
    """一条连接。on_ends 在读线程里被调用，收到一批结束记录；on_gone 在连接断开时调用一次。

    on_bad_end 收到读不懂的一条与原因。说哪一版在问候时商定；之前只能问候。
    """

    def __init__(
        self,
        connection: socket.socket,
        on_ends: Callable[[list[EndRecord]], None] | None = None,
        on_gone: Callable[[], None] | None = None,
        on_bad_end: Callable[[object, str], None] | None = None,
    ) -> None:
        self.version = OLDEST_VERSION
        self._connection = connection
        self._on_ends = on_ends
        self._on_bad_end = on_bad_end
        self._on_gone = on_gone
        self._ids = itertools.count(1)
        self._send_lock = threading.Lock()
        self._answers: dict[int, Answered] = {}
        # 回答到了就丢掉的请求。
        self._unread: set[int] = set()
        self._arrived = threading.Condition()
        self._open = True
        # 更早的牧守进程不认得 launch_id（问候时才知道）：不给它看，它的作业照旧只按作业号与尝试认。
        self._launch_ids = False
        self._reader = threading.Thread(target=self._read, name="shepherd-reader", daemon=True)
        self._reader.start()

    @classmethod
    def connect(
        cls,
        spool: Path,
        node: str,
        *,
        containment: str = "auto",
        on_ends: Callable[[list[EndRecord]], None] | None = None,
        on_gone: Callable[[], None] | None = None,
        on_bad_end: Callable[[object, str], None] | None = None,
        start: bool = True,
    ) -> ShepherdClient:
        """连上牧守进程；不在且 start 为真就先启动它。连不上抛 ShepherdGone。"""
        try:
            connection = _connect(spool)
        except OSError as error:
            if not start:
                raise ShepherdGone(f"牧守进程不在：{error.strerror}") from error
            start_shepherd(spool, node, containment=containment)
            try:
                connection = _connect(spool)
            except OSError as again:
                raise ShepherdGone(f"牧守进程连不上：{again.strerror}") from again
        return cls(connection, on_ends, on_gone, on_bad_end)

    def _read(self) -> None:
        frames = FrameBuffer()
        try:
            while chunk := self._connection.recv(RECEIVE_BYTES):
                for message in frames.feed(chunk):
                    self._hear(message)
        except OSError:
            pass
        except (WireError, RecordError) as error:
            # 说的不成样子，以后的也信不过：同断了一样，不能只有这个线程知道。
            logger.error("shepherd_frame_refused", extra={"error": str(error)})
        with self._arrived:
            self._open = False
            self._arrived.notify_all()
        if self._on_gone is not None:
            self._on_gone()

    def _hear(self, message: dict[str, object]) -> None:
        if message.get("event") == "ends":
            pushed = messages.EndsPush.from_wire(message)
            self._hear_ends(pushed.ends, pushed.v)
            return
        answer = Answered(messages.Answer.from_wire(message), message)
        heading = answer.heading
        if heading.id in self._unread:
            self._unread.discard(heading.id)
            if not heading.ok:
                logger.error("ack_refused", extra={"code": heading.code, "error": heading.error})
            return
        with self._arrived:
            self._answers[heading.id] = answer
            self._arrived.notify_all()

    def _hear_ends(self, wires: list[object], version: int) -> None:
        ends = []
        for wire in wires:
            try:
                ends.append(EndRecord.from_wire(wire, version))
            except ValueError as error:
                if self._on_bad_end is not None:
                    self._on_bad_end(wire, str(error))
        if self._on_ends is not None and ends:
            self._on_ends(ends)

    def request(self, op: str, **fields: object) -> dict[str, object]:
        """发一个请求，等它的回答（映射）。被拒绝抛 ShepherdError，连接断开抛 ShepherdGone。"""
        return self._answer(op, self._ask(op, fields)).message

    def _exchange(self, request: messages.Request, kind: type[_Answer]) -> _Answer:
        return _read(kind, self._answer(request.op, self._ask(request.op, request.to_wire(self.version))))

    def _ask(self, op: str, fields: Mapping[str, object], *, unread: bool = False) -> int:
        request_id = next(self._ids)
        if unread:
            self._unread.add(request_id)
        data = encode({"id": request_id, "op": op, **fields}, self.version)
        try:
            with self._send_lock:
                self._connection.sendall(data)
        except OSError as error:
            raise ShepherdGone(f"与牧守进程的连接断了：{error.strerror}") from error
        return request_id

    def _answer(self, op: str, request_id: int) -> Answered:
        with self._arrived:
            if not self._arrived.wait_for(lambda: request_id in self._answers or not self._open, REQUEST_WAIT_S):
                raise ShepherdGone(f"牧守进程 {REQUEST_WAIT_S:g} 秒没有回答 {op}")
            answer = self._answers.pop(request_id, None)
        if answer is None:
            raise ShepherdGone("与牧守进程的连接断了")
        if not answer.heading.ok:
            raise ShepherdError(str(answer.heading.code), str(answer.heading.error))
        return answer

    def _named(self, jobs: Iterable[Named]) -> list[Named]:
        return [job if self._launch_ids else (job[0], job[1]) for job in jobs]

    def hello(self, *, attach: bool = True) -> HelloAnswer:
        """问候，商定说哪一版；attach 为真时随后会收到全部未确认的结束记录。没有都懂的一版抛 ShepherdError。"""
        request = messages.Hello(attach=attach, versions=list(messages.SUPPORTED))
        answer = self._answer(request.op, self._ask(request.op, request.to_wire(self.version)))
        self.version = answer.heading.v
        hello = _read(HelloAnswer, answer)
        self._launch_ids = hello.launch_ids
        return hello

    def state(self) -> HelloAnswer:
        """它此刻的样子；不改变收不收结束记录。"""
        return self.hello(attach=False)

    def launch(self, specs: Sequence[LaunchSpec]) -> list[LaunchAnswer]:
        """启动一批，返回每个键的状态；启动失败的另有结束记录。"""
        return self.launched(self.begin_launch(specs)) if specs else []

    def begin_launch(self, specs: Sequence[LaunchSpec]) -> int:
        """请它启动一批，不等回答；返回请求号，给 launched。"""
        wires = [spec.to_wire(self.version) for spec in specs]
        if not self._launch_ids:
            for wire in wires:
                wire.pop("launch_id", None)
        return self._ask(messages.Launch.op, {"specs": wires})

    def launched(self, request_id: int) -> list[LaunchAnswer]:
        """等 begin_launch 的回答。"""
        return _read(messages.Launched, self._answer(messages.Launch.op, request_id)).launched

    def kill(
        self,
        jobs: Iterable[Named],
        *,
        cause: str,
        message: str | None = None,
        grace_s: float | None = None,
        step: str | None = None,
    ) -> list[tuple[int, int]]:
        """结束一批作业（或其中一个作业步），返回真正找到的（作业号，尝试）。grace_s 为 None 取作业自己的。"""
        return self._find(
            messages.Kill(jobs=self._named(jobs), cause=cause, message=message, grace_s=grace_s, step=step)
        )

    def _find(self, request: messages.Request) -> list[tuple[int, int]]:
        return [(job_id, attempt) for job_id, attempt in self._exchange(request, messages.Found).found]

    def signal(self, jobs: Iterable[Named], number: int, target: str = "all") -> int:
        """发信号，返回送到几个进程。target：batch、steps、step:N、job、all。"""
        return self._exchange(messages.Signal(jobs=self._named(jobs), signal=number, target=target), messages.Sent).sent

    def disown(self, jobs: Iterable[Named]) -> None:
        """数据库不认识、而要留着的：此后不指明 launch_id 的操作都碰不到它们。"""
        self._find(messages.Disown(jobs=self._named(jobs)))

    def suspend(self, jobs: Iterable[Named]) -> list[tuple[int, int]]:
        """挂起一批，返回找到的。"""
        return self._find(messages.Suspend(jobs=self._named(jobs)))

    def resume(self, jobs: Iterable[Named]) -> list[tuple[int, int]]:
        """恢复一批，返回找到的。"""
        return self._find(messages.Resume(jobs=self._named(jobs)))

    def set_time_limit(self, jobs: Iterable[Named], limit_s: float | None) -> None:
        """改时限；None 表示不限。"""
        self._exchange(messages.SetTimeLimit(jobs=self._named(jobs), time_limit_s=limit_s), messages.Done)

    def set_step_time_limit(self, jobs: Iterable[Named], step: str, limit_s: float | None) -> None:
        """改一个作业步自己的时限；None 表示不限。"""
        self._exchange(
            messages.SetStepTimeLimit(jobs=self._named(jobs), step=step, time_limit_s=limit_s), messages.Done
        )

    def ack(self, ends: Sequence[EndRecord]) -> None:
        """确认这些结束已经进了数据库；没有编号的（代理自己造的）不必。"""
        end_ids = [end.id for end in ends if end.id is not None]
        if end_ids:
            request = messages.Ack(ids=end_ids)
            # 不等回答：断了它会再送一遍，之后的请求都排在它后面。
            self._ask(request.op, request.to_wire(self.version), unread=True)

    def stats(self) -> messages.Samples:
        """正在运行的作业与作业步此刻的用量；更早的牧守进程没有作业步的。"""
        return self._exchange(messages.Stats(), messages.Samples)

    def read_log(
        self,
        path: str,
        offset_bytes: int,
        length_bytes: int,
        *,
        uid: int | None = None,
        gid: int | None = None,
        groups: list[int] | None = None,
    ) -> tuple[bytes, int]:
        """以作业用户的身份读一段，返回（内容，总长）；读不了抛 ShepherdError。"""
        part = self._exchange(
            messages.ReadLog(
                path=path, offset_bytes=offset_bytes, length_bytes=length_bytes, uid=uid, gid=gid, groups=groups
            ),
            messages.LogPart,
        )
        return base64.b64decode(part.data), part.total_bytes

    def shutdown(self, grace_s: float | None) -> None:
        """请牧守进程结束全部作业后退出。"""
        self._exchange(messages.Shutdown(grace_s=grace_s), messages.Leaving)

    def close(self) -> None:
        """断开；作业不受影响。"""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        self._reader.join(timeout=5)
