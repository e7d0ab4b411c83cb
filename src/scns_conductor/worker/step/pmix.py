"""PMIx 的服务端（srun 直接启动 Open MPI 时各任务靠它互相找到）：一个节点一个，用 ctypes 调用 OpenPMIx 的 libpmix。

库有自己的线程，它的回调只把事情放进队列，由 pump 在调用者的线程里做；各节点的数据由 srun 汇齐（与 PMI-2 走同一条路）。
做的是启动 MPI 要的：作业的信息、fence、abort。没有 spawn、connect、发布与按需取键（Open MPI 缺省在 fence 时就都收齐）。
"""

from __future__ import annotations

import ctypes
import os
import queue
import shutil
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

LIBRARY = "libpmix.so.2"
# 库自己找得到的部件里，只要不依赖共享文件与别的守护进程的；节点与任务的表也要写成文字。
_COMPONENTS = {"PMIX_MCA_gds": "hash", "PMIX_MCA_psec": "native", "PMIX_MCA_preg": "native"}
_SUCCESS, _NOT_SUPPORTED, _DONE = 0, -47, -157
_WILDCARD = 2**32 - 2
# pmix_data_type_t。
_BOOL, _STRING, _UINT16, _UINT32, _INFO, _DATA_ARRAY, _RANK = 1, 3, 13, 14, 24, 39, 40
_MEMBERS = {_BOOL: "flag", _STRING: "string", _UINT16: "uint16", _UINT32: "uint32", _RANK: "uint32"}


class PmixUnavailable(RuntimeError):
    """本节点没有 libpmix，或它起不来。"""


class _Proc(ctypes.Structure):
    _fields_ = (("nspace", ctypes.c_char * 256), ("rank", ctypes.c_uint32))


class _Array(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint16), ("size", ctypes.c_size_t), ("items", ctypes.c_void_p))


class _Data(ctypes.Union):
    # room：最大的成员 pmix_envar_t 有三个字。
    _fields_ = (
        ("flag", ctypes.c_bool),
        ("string", ctypes.c_char_p),
        ("uint16", ctypes.c_uint16),
        ("uint32", ctypes.c_uint32),
        ("array", ctypes.POINTER(_Array)),
        ("room", ctypes.c_uint64 * 3),
    )


class _Value(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint16), ("data", _Data))


class _Info(ctypes.Structure):
    _fields_ = (("key", ctypes.c_char * 512), ("flags", ctypes.c_uint32), ("value", _Value))


_ABORT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(_Proc), ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p,
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip
_FENCE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(_Proc), ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p,
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip
_FENCED = ctypes.CFUNCTYPE(
    None, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


class _Module(ctypes.Structure):
    """pmix_server_module_t：留空的，库自己回答不支持。"""

    _fields_ = (
        ("connected", ctypes.c_void_p),
        ("finalized", ctypes.c_void_p),
        ("abort", _ABORT),
        ("fence", _FENCE),
        ("others", ctypes.c_void_p * 28),
    )


class PmixServer:
    """本节点的任务。owner 是任务的（uid，gid），seen 是任务看到的自己；nodes 是各节点上的任务序号；
    exchange 交出本节点的数据，abort 是任务要求结束整个作业步。

    fd 可读时调用 pump。起不来抛 PmixUnavailable。
    """

    def __init__(
        self,
        *,
        job: str,
        node: str,
        nodes: Mapping[str, Sequence[int]],
        owner: tuple[int, int],
        seen: tuple[int, int],
        exchange: Callable[[bytes], None],
        abort: Callable[[int, int, str], None],
    ) -> None:
        self._job = job.encode()
        self._ranks = nodes[node]
        self._size = sum(map(len, nodes.values()))
        self._exchange = exchange
        self._abort = abort
        self._waiting: list[tuple[int, int]] = []
        self._queue: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.SimpleQueue()
        self.fd, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # 库只记指针：给它的东西都要活着。
        self._kept: list[Any] = []
        self._last = b""
        os.environ.update(_COMPONENTS)
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise PmixUnavailable(f"{error}; install libpmix2 on {node}") from error
        self._folder = tempfile.mkdtemp(prefix="scns-pmix-")
        if owner[0] != os.geteuid():
            # 任务在里面建自己的会话目录（同 slurmstepd）。
            os.chown(self._folder, *owner)
        self._module = _Module(abort=_ABORT(self._on_abort), fence=_FENCE(self._on_fence))
        own = [("pmix.srvr.tmpdir", _STRING, self._folder), ("pmix.sys.tmpdir", _STRING, self._folder)]
        infos = self._infos(own)
        code = self._library.PMIx_server_init(ctypes.byref(self._module), infos, ctypes.c_size_t(len(infos)))
        self._check(code, "server_init")
        infos = self._infos(self._description(node, nodes))
        count = ctypes.c_size_t(len(infos))
        code = self._library.PMIx_server_register_nspace(self._job, len(self._ranks), infos, count, None, None)
        self._check(code, "register_nspace")
        for rank in self._ranks:
            proc = _Proc(self._job, rank)
            code = self._library.PMIx_server_register_client(ctypes.byref(proc), *seen, None, None, None)
            self._check(code, "register_client")

    def environment(self, rank: int) -> dict[str, str]:
        """这个任务要的变量。"""
        pairs = ctypes.POINTER(ctypes.c_char_p)()
        code = self._library.PMIx_server_setup_fork(ctypes.byref(_Proc(self._job, rank)), ctypes.byref(pairs))
        self._check(code, "setup_fork")
        found = dict(_COMPONENTS)
        index = 0
        while (pair := pairs[index]) is not None:
            name, _, value = pair.decode().partition("=")
            found[name] = value
            index += 1
        return found

    def pump(self) -> None:
        """做库交来的事。"""
        os.read(self.fd, 4096)
        while not self._queue.empty():
            work, values = self._queue.get()
            work(*values)

    def gathered(self, parts: Sequence[bytes]) -> None:
        """各节点的数据都齐了：放行等着的任务。"""
        data = b"".join(parts)
        # 库还要读它，直到任务们走出这一次 fence；那之前不会有下一次。
        self._last = data
        waiting, self._waiting = self._waiting, []
        for answer, given in waiting:
            _FENCED(answer)(_SUCCESS, data, len(data), given, None, None)

    def close(self) -> None:
        """收拾会话目录。"""
        self._library.PMIx_server_finalize()
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- 库的线程里 ----

    def _on_fence(
        self,
        procs: Any,
        count: int,
        _infos: int,
        _info_count: int,
        data: int | None,
        size: int,
        answer: int,
        given: int,
    ) -> int:
        named = {procs[index].rank for index in range(count)}
        fresh = ctypes.string_at(data, size) if data else b""
        if _WILDCARD in named or len(named) == self._size:
            self._later(self._fence, fresh, answer, given)
            return _SUCCESS
        if named <= set(self._ranks):
            # 只有本节点的几个任务：不必问别的节点。
            self._later(self._answer, fresh, answer, given)
            return _SUCCESS
        return _NOT_SUPPORTED

    def _on_abort(self, proc: Any, _object: int, status: int, message: bytes | None, *_: Any) -> int:
        self._later(self._abort, proc.contents.rank, status, (message or b"").decode(errors="replace"))
        return _DONE

    def _later(self, work: Callable[..., None], *values: Any) -> None:
        self._queue.put((work, values))
        os.write(self._wake, b".")

    # ---- 自己的线程里 ----

    def _fence(self, fresh: bytes, answer: int, given: int) -> None:
        self._waiting.append((answer, given))
        self._exchange(fresh)

    def _answer(self, data: bytes, answer: int, given: int) -> None:
        self._kept.append(data)
        _FENCED(answer)(_SUCCESS, data, len(data), given, None, None)

    def _check(self, code: int, what: str) -> None:
        if code not in (_SUCCESS, _DONE):
            raise PmixUnavailable(f"PMIx_{what}: {code}")

    def _description(self, node: str, nodes: Mapping[str, Sequence[int]]) -> list[tuple[str, int, Any]]:
        """作业与各任务的信息，键见 pmix_common.h（与 Slurm 的 mpi/pmix 给的相同）。"""
        size, mine = self._size, self._ranks
        rows: list[tuple[str, int, Any]] = [
            ("pmix.jobid", _STRING, self._job.decode()),
            ("pmix.spawned", _BOOL, False),
            ("pmix.tmpdir", _STRING, self._folder),
            ("pmix.nsdir", _STRING, self._folder),
            ("pmix.tdir.rmclean", _BOOL, True),
            ("pmix.univ.size", _UINT32, size),
            ("pmix.job.size", _UINT32, size),
            ("pmix.max.size", _UINT32, size),
            ("pmix.app.size", _UINT32, size),
            ("pmix.job.napps", _UINT32, 1),
            ("pmix.num.nodes", _UINT32, len(nodes)),
            ("pmix.node.size", _UINT32, len(mine)),
            ("pmix.local.size", _UINT32, len(mine)),
            ("pmix.lpeers", _STRING, ",".join(map(str, mine))),
            ("pmix.lldr", _RANK, min(mine)),
            ("pmix.hname", _STRING, node),
            ("pmix.nodeid", _UINT32, list(nodes).index(node)),
            ("pmix.nmap", _STRING, self._pattern("regex", ",".join(nodes))),
            ("pmix.pmap", _STRING, self._pattern("ppn", ";".join(",".join(map(str, on)) for on in nodes.values()))),
        ]
        for index, (name, ranks) in enumerate(nodes.items()):
            for local, rank in enumerate(ranks):
                of_task = [
                    ("pmix.rank", _RANK, rank),
                    ("pmix.appnum", _UINT32, 0),
                    ("pmix.aldr", _RANK, 0),
                    ("pmix.grank", _RANK, rank),
                    ("pmix.apprank", _RANK, rank),
                    ("pmix.lrank", _UINT16, local),
                    ("pmix.nrank", _UINT16, local),
                    ("pmix.nodeid", _UINT32, index),
                    ("pmix.hname", _STRING, name),
                ]
                rows.append(("pmix.pdata", _DATA_ARRAY, of_task))
        return rows

    def _pattern(self, what: str, text: str) -> str:
        """库自己的紧凑写法。"""
        found = ctypes.c_char_p()
        self._check(getattr(self._library, f"PMIx_generate_{what}")(text.encode(), ctypes.byref(found)), what)
        return (found.value or b"").decode()

    def _infos(self, rows: Sequence[tuple[str, int, Any]]) -> Any:
        infos = (_Info * len(rows))()
        self._kept.append(infos)
        for info, (key, kind, value) in zip(infos, rows, strict=True):
            info.key = key.encode()
            info.value.type = kind
            if kind == _DATA_ARRAY:
                inner = self._infos(value)
                array = _Array(_INFO, len(inner), ctypes.cast(inner, ctypes.c_void_p))
                self._kept.append(array)
                info.value.data.array = ctypes.pointer(array)
            else:
                setattr(info.value.data, _MEMBERS[kind], value.encode() if kind == _STRING else value)
        return infos
