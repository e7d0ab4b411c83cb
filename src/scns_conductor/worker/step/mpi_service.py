"""--mpi 要的服务（PMI-2、PMIx）：起服务端，任务的套接字，各节点汇齐，MPI_Abort。"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket

from scns_conductor.core import step_wire as wire
from scns_conductor.worker.host.container import seen_ids
from scns_conductor.worker.step.pmi import PmiError, PmiServer, process_mapping
from scns_conductor.worker.step.task_process import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scns_conductor.worker.step.client_link import Link
    from scns_conductor.worker.step.pmix import PmixServer
    from scns_conductor.worker.step.task_process import Task
    from scns_conductor.worker.wire.step_spec import StepSpec


class MpiUnavailable(RuntimeError):
    """本节点给不了这种 MPI 的服务。"""


class MpiService:
    """primary 取启动这一步的 srun 的连接（没有返回 None）；send 发给全部客户。

    lost 是一个连接断了；doom 是没有人要结果了。
    """

    def __init__(
        self,
        spec: StepSpec,
        selector: selectors.BaseSelector,
        *,
        primary: Callable[[], Link | None],
        send: Callable[[bytes], None],
        lost: Callable[[Link], None],
        doom: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._selector = selector
        self._primary = primary
        self._send = send
        self._lost = lost
        self._doom = doom
        self._server: PmiServer | PmixServer | None = None
        self._sockets: dict[int, socket.socket] = {}

    def open(self) -> None:
        """--mpi 要的服务；给不了抛 MpiUnavailable。"""
        kind = self._spec.mpi
        if kind == "pmi2":
            self._server = self._pmi_server()
        elif kind == "pmix":
            self._server = self._pmix_server()

    def _pmix_server(self) -> PmixServer:
        # 用到才载入：它要 ctypes。
        from scns_conductor.worker.step.pmix import PmixServer, PmixUnavailable

        uid = os.geteuid() if self._spec.uid is None else self._spec.uid
        gid = os.getegid() if self._spec.gid is None else self._spec.gid
        try:
            server = PmixServer(
                job=self._spec.step,
                node=self._spec.own_place,
                nodes=self._spec.nodes,
                owner=(uid, gid),
                # 任务自称是谁：库拿它与这里登记的对。
                seen=seen_ids(self._spec.container, uid, gid),
                exchange=self._exchange,
                abort=self._abort,
            )
        except PmixUnavailable as error:
            raise MpiUnavailable(str(error)) from error
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

    def serve(self, task: Task) -> None:
        """任务的套接字上有话。"""
        connection = self._sockets[task.rank]
        assert isinstance(self._server, PmiServer)
        try:
            chunk = connection.recv(CHUNK)
            if chunk:
                self._server.feed(task.rank, chunk)
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
        connection = self._sockets[rank]
        try:
            connection.sendall(data)
        except OSError:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _exchange(self, fresh: bytes) -> None:
        """本节点的任务都到了 fence：交给 srun 汇齐；没有 srun 的步只有一个节点时自己就齐了。"""
        primary = self._primary()
        if primary is None:
            assert self._server is not None
            if len(self._spec.nodes) == 1:
                self._server.gathered([fresh])
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
        if self._primary() is None:
            self._doom()

    def start(self, task: Task, start: Callable[[Task, tuple[int | None, dict[str, str]]], None]) -> None:
        """启动一个任务，带上它要的描述符与变量。"""
        if self._server is None:
            start(task, (None, {}))
        elif isinstance(self._server, PmiServer):
            self._socket_for(task, start)
        else:
            start(task, (None, self._server.environment(task.rank)))

    def _socket_for(self, task: Task, start: Callable[[Task, tuple[int | None, dict[str, str]]], None]) -> None:
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        self._sockets[task.rank] = mine
        self._selector.register(mine, selectors.EVENT_READ, ("pmi", task))
        variables = {
            "PMI_FD": str(theirs.fileno()),
            "PMI_RANK": str(task.rank),
            "PMI_SIZE": str(self._spec.task_count),
            "PMI_JOBID": self._spec.step,
        }
        with theirs:
            start(task, (theirs.fileno(), variables))

    def gathered(self, parts: list[bytes]) -> None:
        """各节点的都汇齐了。"""
        if self._server is not None:
            self._server.gathered(parts)

    def close(self) -> None:
        """收场。"""
        if self._server is not None and not isinstance(self._server, PmiServer):
            self._server.close()
