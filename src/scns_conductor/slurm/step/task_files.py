"""srun 自己写的输出：哪个任务的写进哪里；异构作业的各个部分可以各有文件。"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from scns_conductor.slurm.session import Fatal


@dataclass(frozen=True, slots=True)
class Destination:
    """一些任务的输出写到哪里；路径是 None 的写到 srun 自己的标准输出、标准错误。"""

    ranks: Sequence[int]
    stdout: str | None = None
    stderr: str | None = None
    append: bool = False


@dataclass(slots=True)
class TaskFiles:
    """打开着的文件；同一个文件只打开一次，几个部分写进同一个的不会互相盖掉。"""

    _opened: dict[str, int] = field(default_factory=dict)
    _places: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, destination: Destination) -> None:
        """打开；打不开抛 Fatal。没有写标准错误的文件、写了标准输出的，两样在一处。"""
        out = self._open(destination.stdout, destination.append, 1)
        together = destination.stdout is not None and destination.stderr is None
        error = out if together else self._open(destination.stderr, destination.append, 2)
        self._places |= dict.fromkeys(destination.ranks, (out, error))

    def fd(self, rank: int, *, error: bool) -> int:
        """一个任务的标准输出（error 为真是标准错误）写到哪里。"""
        return self._places.get(rank, (1, 2))[error]

    def close(self) -> None:
        """都关上。"""
        for fd in self._opened.values():
            os.close(fd)
        self._opened = {}

    def _open(self, path: str | None, append: bool, default: int) -> int:
        if path is None:
            return default
        if path not in self._opened:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
            try:
                self._opened[path] = os.open(path, flags, 0o666)
            except OSError as error:
                raise Fatal(f"Could not open stdout file: {error.strerror}") from None
        return self._opened[path]
