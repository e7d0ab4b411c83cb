"""把一个文件送到作业的全部节点（sbcast 与 srun --bcast）：一个不列出来的作业步，内容走它的标准输入。

文件以作业用户的身份写；先写旁边的临时文件，收齐了再改名，所以别人看到的总是完整的。
"""

import os
import stat
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from scns_conductor.client import JsonClient
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.step.srun_link import Listener, StepLink
from scns_conductor.slurm.step.step_creation import create, missing

# 参数：目的、字节数、权限、是否覆盖、修改时间（空为现在）、源文件的名字。
_RECEIVE = """
d=$1; [ -d "$d" ] && d="$d/$6"
if [ "$4" != 1 ] && [ -e "$d" ]; then echo "File exists" >&2; exit 17; fi
umask 077
t="$d.sbcast-$SLURM_JOB_ID.$SLURM_STEP_ID.$SLURM_NODEID"
trap 'rm -f "$t"' EXIT
: > "$t" || exit 1
echo ready
cat > "$t" || exit 1
if [ "$(wc -c < "$t")" -ne "$2" ]; then echo "Transfer incomplete" >&2; exit 5; fi
chmod "$3" "$t" || exit 1
if [ -n "$5" ]; then touch -d "@$5" "$t" || exit 1; fi
mv -f "$t" "$d"
"""


class _Receivers:
    """接收者的 Sink：都说 ready 了才送；有一个失败就都停下。"""

    link: StepLink

    def __init__(self, ranks: dict[int, str]) -> None:
        self._nodes = ranks
        self._ready: set[int] = set()
        self._said: dict[int, bytes] = {}
        self.failures: dict[str, str] = {}

    def output(self, rank: int, data: bytes, *, error: bool) -> None:
        """ready 在标准输出，抱怨在标准错误。"""
        if error:
            self._said[rank] = self._said.get(rank, b"") + data
        else:
            self._ready.add(rank)
            if len(self._ready) == len(self._nodes):
                self.link.open_input()

    def exited(self, node: str, rank: int, status: int) -> None:
        """失败的原因取它最后一行的末尾。"""
        if status:
            lines = self._said.get(rank, b"").decode("utf-8", "replace").strip().splitlines() or ["Transfer failed"]
            self._fail(node, lines[-1].rpartition(": ")[2])

    def node_done(self, node: str, *, lost: Sequence[int]) -> None:
        """断了的节点。"""
        if lost:
            self._fail(node, "Communication connection failure")

    def _fail(self, node: str, why: str) -> None:
        if not self.failures:
            self.failures[node] = why
            self.link.send_signal(15)

    def signalled(self, number: int) -> None:
        """不转信号。"""

    def aborted(self, code: int) -> None:
        """没有 MPI。"""

    def wait_s(self) -> float | None:
        """没有定时。"""
        return None

    def tick(self) -> None:
        """没有定时。"""


def broadcast(client: JsonClient, job_id: str, source: str, destination: str, *, force: bool, preserve: bool) -> None:
    """送到作业的全部节点；读不了、写不了抛 Fatal，说出是哪个节点。"""
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Fatal(f"Can't open `{source}`: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Fatal(f"Can't open `{source}`: Not a regular file")
        mode = stat.S_IMODE(found.st_mode)
        words = [destination, str(found.st_size), f"{mode:o}", "1" if force else "0"]
        words += [str(found.st_mtime) if preserve else "", os.path.basename(source)]
        _send(client, job_id, fd, words)
    finally:
        os.close(fd)


def _send(client: JsonClient, job_id: str, fd: int, words: Sequence[str]) -> None:
    listener = Listener(urlsplit(client.url).hostname or "127.0.0.1")
    fields: dict[str, Any] = {
        "argv": ["sh", "-c", _RECEIVE, "sbcast", *words],
        "name": "sbcast",
        "tasks_per_node": 1,
        "overlap": True,
        "hidden": True,
        "current_working_directory": os.getcwd(),
        "environment": {"PATH": os.environ.get("PATH", os.defpath)},
        "connection": listener.description(),
    }
    step = create(client, job_id, fields, quiet=True, command="sbcast")
    sink = _Receivers({rank: node["name"] for node in step["nodes"] for rank in node["tasks"]})
    sink.link = StepLink(
        listener,
        {node["name"]: node["tasks"] for node in step["nodes"]},
        sink,
        input_fd=fd,
        missing=lambda names: missing(client, job_id, step["step_id"], names),
        signals=(),
        gated=True,
    )
    sink.link.run()
    for node, why in sink.failures.items():
        raise Fatal(f"REQUEST_FILE_BCAST({node}): {why}")


def broadcast_program(client: JsonClient, job_id: str, program: str, destination: str) -> str:
    """srun --bcast：把要执行的程序送过去，返回它在节点上的路径。"""
    source = program if "/" in program else _found(program)
    name = destination or os.path.join(os.getcwd(), f"slurm_bcast_{job_id}_{os.path.basename(source)}")
    name = name.replace("%j", job_id)
    if name.endswith("/"):
        name += os.path.basename(source)
    broadcast(client, job_id, source, os.path.abspath(name), force=True, preserve=False)
    return os.path.abspath(name)


def _found(program: str) -> str:
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(directory, program)
        if os.access(path, os.X_OK):
            return path
    return program
