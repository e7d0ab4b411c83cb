"""API 直接读的输出文件（单用户模式）：用户的目录也许在不答话的文件系统上，在自己的几个线程里读，等得有限。

不用 asyncio 缺省的线程：那里挂住几个，别的（取用户名、采样的曲线）就都轮不到了。
"""

import asyncio
import os
import stat
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

READERS_MOST = 64
READERS_OF_FOLDER = 4
READ_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class OutputRange:
    """输出的一段：data 从 offset 起；total 是此刻文件的总长（字节）。

    modified_s 是文件的修改时刻（Unix 秒）；不是读文件得来的没有。
    """

    data: bytes
    offset: int
    total: int
    modified_s: float = 0.0


class OutputFiles:
    """read 在事件循环里调用。一个目录至多占 READERS_OF_FOLDER 个线程；是守护线程，挂住了也不拦着进程退出。"""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(READERS_MOST)
        self._folders: dict[str, asyncio.Semaphore] = {}
        # 目录 -> 在读的、等着读的有几个。
        self._asking: Counter[str] = Counter()

    async def read(self, path: str, offset: int, length: int) -> OutputRange | None:
        """读一段；没有这个文件、读不了、READ_WAIT_S 秒没有回音是 None。"""
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_WAIT_S):
                return await self._read(path, offset, length)
        return None

    async def _read(self, path: str, offset: int, length: int) -> OutputRange | None:
        folder, loop = os.path.dirname(path), asyncio.get_running_loop()
        answer: asyncio.Future[OutputRange | None] = loop.create_future()
        turn = self._folders.setdefault(folder, asyncio.Semaphore(READERS_OF_FOLDER))
        self._asking[folder] += 1
        taken: list[asyncio.Semaphore] = []

        def finish(found: OutputRange | None) -> None:
            for semaphore in taken:
                semaphore.release()
            self._asking[folder] -= 1
            if not self._asking[folder]:
                del self._asking[folder], self._folders[folder]
            if not answer.done():
                answer.set_result(found)

        def reader() -> None:
            found = read_file(path, offset, length)
            # 循环关了，就没有人等了。
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, found)

        try:
            for semaphore in (turn, self._all):
                await semaphore.acquire()
                taken.append(semaphore)
        except asyncio.CancelledError:
            finish(None)
            raise
        threading.Thread(target=reader, name="output-file", daemon=True).start()
        return await answer


def read_file(path: str, offset: int, length: int) -> OutputRange | None:
    """读普通文件的一段；没有这个文件、不是普通文件（/proc 里的也不是）或不能读时是 None。"""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            total = status.st_size
            # /proc/self 在这里是 API 自己。
            if not stat.S_ISREG(status.st_mode) or status.st_dev == os.stat("/proc").st_dev:
                return None
            start = offset if offset >= 0 else max(0, total + offset)
            return OutputRange(os.pread(file.fileno(), length, start), min(start, total), total, status.st_mtime)
    except (OSError, ValueError):
        return None
