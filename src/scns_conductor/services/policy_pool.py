"""运行站点提交策略的进程：用到才起、用完留着；到时候没有答的杀掉换一个，文件改了换新的。"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

# 单独的进程；名字写在这里，不导入它。
MODULE = "scns_conductor.policy_host"
LENGTH_BYTES = 4
# 同时至多几个：一个转着圈，别人还有一个。
MOST = 2
LOAD_WAIT_S = 15.0
# 装不进来的，这么久之内不再试（文件改了马上再试）。
BROKEN_S = 5.0
# 少于这么多个作业的当场写成 JSON。
FEW = 50
LONGEST_ANSWER = 256 * 1024**2
# 没有数据库的地址与口令。
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "HOME", "TZ", "LANG", "LC_ALL")


class PolicyFailed(Exception):
    """插件没有答：装不进来、转圈、崩了。"""


class PolicyBusy(Exception):
    """两个都占着，等得太久。"""


class _Host:
    """一个进程，一次答一问。"""

    def __init__(self, process: asyncio.subprocess.Process, version: object) -> None:
        self._process = process
        self.version = version

    @property
    def alive(self) -> bool:
        """还在。"""
        return self._process.returncode is None

    async def ask(self, data: bytes) -> Any:
        """一问一答。"""
        writer = self._process.stdin
        assert writer is not None
        writer.write(len(data).to_bytes(LENGTH_BYTES, "big"))
        writer.write(data)
        await writer.drain()
        return await self.read()

    async def read(self) -> Any:
        """它的下一答。"""
        reader = self._process.stdout
        assert reader is not None
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        if length > LONGEST_ANSWER:
            raise PolicyFailed("插件答得太长")
        return json.loads(await reader.readexactly(length))

    async def end(self) -> None:
        """结束它，等它没有了。"""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


class PolicyPool:
    """place 是文件的绝对路径，或入口点的名字；limit_s 是一次至多多久（秒）。"""

    def __init__(self, place: str, limit_s: float) -> None:
        self._place = place
        self._limit_s = limit_s
        self._slots = asyncio.Semaphore(MOST)
        self._idle: list[_Host] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._broken: tuple[object, float, str] | None = None

    async def ask(self, question: Mapping[str, Any], more_s: float = 0.0) -> Any:
        """插件的回答；more_s 是一批的另加。没有答抛 PolicyFailed，排不上抛 PolicyBusy。"""
        limit_s = self._limit_s + more_s
        pack = partial(_packed, {**question, "limit_s": limit_s})
        # 一大批的脚本写成 JSON 要一会儿：不占着事件循环。
        data = pack() if len(question["jobs"]) < FEW else await asyncio.to_thread(pack)
        try:
            async with asyncio.timeout(2 * self._limit_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise PolicyBusy from error
        try:
            host, fresh = await self._host()
            try:
                return await self._told(host, data, limit_s)
            except (OSError, EOFError) as error:
                if fresh:
                    raise PolicyFailed("运行它的进程死了") from error
            # 闲着的时候被人杀了的，不是插件的错：换一个再问一次。
            host = await self._start(self._version())
            try:
                return await self._told(host, data, limit_s)
            except (OSError, EOFError) as error:
                raise PolicyFailed("运行它的进程死了") from error
        finally:
            self._slots.release()

    async def _told(self, host: _Host, data: bytes, limit_s: float) -> Any:
        """问这一个；没有答的杀掉，答了的留着。死了抛 OSError、EOFError。"""
        try:
            async with asyncio.timeout(limit_s):
                found = await host.ask(data)
        except TimeoutError as error:
            self._end(host)
            raise PolicyFailed(f"{limit_s:.3g} 秒没有答") from error
        except BaseException:
            # 死了，或问的人走了：答了一半的管道不能再用。
            self._end(host)
            raise
        self._idle.append(host)
        return found

    async def warm(self) -> None:
        """先起一个，第一个提交不必等；装不进来的原因抛 PolicyFailed。"""
        async with self._slots:
            self._idle.append((await self._host())[0])

    async def close(self) -> None:
        """都结束。"""
        for host in self._idle:
            await host.end()
        self._idle.clear()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _host(self) -> tuple[_Host, bool]:
        """空着的一个，照现在的文件；没有就起一个。第二项是刚起的。"""
        version = self._version()
        while self._idle:
            host = self._idle.pop()
            if host.alive and host.version == version:
                return host, False
            self._end(host)
        broken = self._broken
        if broken is not None and broken[0] == version and time.monotonic() < broken[1]:
            raise PolicyFailed(broken[2])
        try:
            return await self._start(version), True
        except PolicyFailed as error:
            self._broken = version, time.monotonic() + BROKEN_S, str(error)
            raise

    async def _start(self, version: object) -> _Host:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, self._place, str(self._limit_s),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            cwd="/",
        )  # fmt: skip
        host = _Host(process, version)
        try:
            async with asyncio.timeout(LOAD_WAIT_S):
                found = await host.read()
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            self._end(host)
            raise PolicyFailed("装不进来：没有答") from error
        except BaseException:
            self._end(host)
            raise
        if "error" in found:
            self._end(host)
            raise PolicyFailed(f"装不进来：{found['error']}")
        return host

    def _end(self, host: _Host) -> None:
        task = asyncio.create_task(host.end(), name="policy-end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _version(self) -> object:
        """文件是哪一版；没有这个文件、不是文件的是 None。"""
        if os.sep not in self._place:
            return None
        try:
            found = os.stat(self._place)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _packed(question: Mapping[str, Any]) -> bytes:
    return json.dumps(question, ensure_ascii=False).encode("utf-8", "surrogatepass")
