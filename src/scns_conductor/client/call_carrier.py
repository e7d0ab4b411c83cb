"""ConductorExecutor 的调用怎样到节点上、结果怎样回来：经共用的目录，或只经 API。"""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from scns_conductor.client.conductor import Client
from scns_conductor.remote_call import BOOT, RemoteFailure, packed, pickler, unframed, write_whole

# 经目录时，一个调用、一个结果缺省至多多大（字节）。
FOLDER_MOST_BYTES = 64 << 20
# 只经 API 时：脚本至多 16 MiB（SCNS_SCRIPT_MAX_BYTES），base64 多三分之一。
API_MOST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Calls:
    """一次提交里的调用：函数与各个任务的参数，都装好了箱。each 是一个数组，每个任务的参数是一列。"""

    function: bytes
    arguments: Sequence[bytes]
    each: bool
    most_bytes: int
    # 参数里别的调用的 Future。
    needs: tuple[Any, ...] = ()

    def head(self, **more: Any) -> bytes:
        """给节点看的说明，一行。"""
        known = {"python": list(sys.version_info[:2]), "most_bytes": self.most_bytes, "each": self.each}
        return json.dumps({**known, **more}).encode()


def boxed(
    function: Callable[..., Any], arguments: Sequence[Any], *, each: bool, most_bytes: int, waits_for: type
) -> Calls:
    """装箱；装不了、太大抛 RemoteFailure。参数里的 waits_for（Future）到了节点上才换成结果。"""
    needs: dict[str, Any] = {}

    def box(value: Any) -> bytes:
        import io

        class Boxer(pickler().Pickler):  # type: ignore[misc]
            def persistent_id(self, found: Any) -> Any:
                if not isinstance(found, waits_for):
                    return None
                needs[found.number] = found  # type: ignore[attr-defined]
                return found.place  # type: ignore[attr-defined]

        stream = io.BytesIO()
        try:
            Boxer(stream).dump(value)
        except RemoteFailure:
            raise
        except Exception as error:
            raise RemoteFailure(f"函数或参数装不了箱：{error}") from error
        return stream.getvalue()

    calls = Calls(box(function), [box(each) for each in arguments], each, most_bytes, tuple(needs.values()))
    biggest = len(calls.function) + max(map(len, calls.arguments), default=0)
    if biggest > most_bytes:
        raise RemoteFailure(f"函数与参数有 {biggest} 字节，超过上限 {most_bytes}；大的数据请放到文件里")
    return calls


class Carrier(Protocol):
    """怎样去、怎样回。"""

    folder: Path | None
    most_bytes: int

    def script(self, number: str, calls: Calls) -> str:
        """做这些调用的脚本；目录在这里写好。"""

    def arrived(self) -> Callable[[str], bytes | None] | None:
        """不必问作业就看得到的结果：号 -> 内容；看不到的是 None。"""

    def result(self, client: Client, number: str, job_id: str) -> bytes | None:
        """结束了的作业留下的结果；没有是 None。"""


class FolderCarrier:
    """经一个节点也看得到的目录。"""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder: Path | None = folder
        self._place, self._python = folder, python
        self.most_bytes = FOLDER_MOST_BYTES
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def script(self, number: str, calls: Calls) -> str:
        """写下 号.call，脚本里只有目录与号。"""
        pieces = [calls.function, *calls.arguments]
        head = calls.head(sizes=[len(piece) for piece in pieces])
        write_whole(self._place / f"{number}.call", head, b"\n", *pieces)
        words = shlex.join([self._python, "-m", "scns_conductor.remote_call", str(self._place), number])
        return f"#!/bin/bash\nexec {words}{' $SLURM_ARRAY_TASK_ID' if calls.each else ''}\n"

    def arrived(self) -> Callable[[str], bytes | None]:
        """此刻目录里有的。"""
        here = set(os.listdir(self._place))
        return lambda number: self._read(number) if f"{number}.result" in here else None

    def result(self, client: Client, number: str, job_id: str) -> bytes | None:
        """结果的文件。"""
        # 网络文件系统上，列一遍目录才看得到别的机器刚写的。
        os.listdir(self._place)
        return self._read(number)

    def _read(self, number: str) -> bytes | None:
        try:
            return (self._place / f"{number}.result").read_bytes()
        except FileNotFoundError:
            return None

    # ---- 提交之前先记下：驱动程序这时死了，attach 用同一个幂等键再提交 ----

    def record(self, number: str, request: dict[str, Any]) -> None:
        """记下要提交的。"""
        write_whole(self._place / f"{number}.job", json.dumps(request).encode())

    def forget(self, number: str) -> None:
        """服务器不收：当没有过。"""
        for kind in ("job", "call"):
            (self._place / f"{number}.{kind}").unlink(missing_ok=True)

    def recorded(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """记下的，先后为序。"""
        for path in sorted(self._place.glob("*.job"), key=lambda each: each.stat().st_mtime_ns):
            yield path.stem, json.loads(path.read_bytes())


class ApiCarrier:
    """没有共用的目录：调用在脚本里，结果在标准输出的末尾。"""

    def __init__(self, python: str) -> None:
        self.folder: Path | None = None
        self._python = python
        self.most_bytes = API_MOST_BYTES

    def script(self, number: str, calls: Calls) -> str:
        """自己带着 remote_call 的原文：节点上只要有同一版本的 Python 与 cloudpickle。"""
        boot = shlex.join(["exec", self._python, "-c", BOOT])
        lines = [
            b"#!/bin/bash",
            f'{boot} "$0" "${{SLURM_ARRAY_TASK_ID:-}}"'.encode(),
            b"#" + calls.head(number=number),
            packed(_remote_source()),
            packed(calls.function),
            *map(packed, calls.arguments),
            b"",
        ]
        return b"\n".join(lines).decode()

    def arrived(self) -> None:
        """作业结束了才知道。"""
        return

    def result(self, client: Client, number: str, job_id: str) -> bytes | None:
        """输出末尾的框里的。"""
        return unframed(client.output(job_id), number)


@cache
def _remote_source() -> bytes:
    from scns_conductor import remote_call

    return Path(remote_call.__file__).read_bytes()
