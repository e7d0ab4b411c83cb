"""启动代理、调度器、API 的进程，像 subprocess.Popen；第二次起由载入好了的进程 fork（warm_commands.py），省下导入。

各是自己的进程，环境、目录、标准流都是给它的，信号照收；不是 pytest 的子进程，退出码经管道来。
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import warm_commands
from scns_conductor.language.choice import environment_language


class WarmProcess:
    """fork 出来的一个；用法照 Popen。"""

    returncode: int | None = None

    def __init__(self, words: Sequence[str], env: dict[str, str], cwd: str, stdout: int, stderr: IO[bytes]) -> None:
        self.args = ["-m", *words]
        self._status, theirs = os.pipe()
        kind = "workers" if words[0].startswith("scns_conductor.worker.") else "system"
        with open(os.devnull, "r+b") as null:
            warm_commands.ask(kind, self.args, env, cwd, [null.fileno(), stdout, stderr.fileno(), theirs])
        os.close(theirs)
        first = b""
        while not first.endswith(b"\n"):
            more = os.read(self._status, 1)
            assert more, f"{words[0]} 没有起来"
            first += more
        self.pid = int(first)

    def poll(self) -> int | None:
        """退出码；还在跑是 None。"""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """等它结束，返回退出码；到时还在跑抛 TimeoutExpired。"""
        if self.returncode is None:
            if not select.select([self._status], (), (), timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """结束了的不理。"""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """请它停下。"""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """杀死它。"""
        self.send_signal(signal.SIGKILL)


Process = WarmProcess | subprocess.Popen[bytes]


def start(
    module: str,
    *words: str,
    env: Mapping[str, str],
    stderr: IO[bytes],
    stdout: IO[bytes] | None = None,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
    from_start: bool = False,
) -> Process:
    """python -m module words。

    第一次、from_start、有 prefix 的、启动时就看的变量或语言改了的、要算覆盖率的，从头启动。
    """
    same = warm_commands.start_variables(env) == warm_commands.start_variables(os.environ)
    same &= environment_language(env) == environment_language(os.environ)
    measured = any(name.startswith("COV") for name in env)
    if same and not measured and not prefix and not from_start and not warm_commands.is_first(module):
        output = 1 if stdout is None else stdout.fileno()
        return WarmProcess([module, *words], dict(env), str(cwd or Path.cwd()), output, stderr)
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", module, *words],
        env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
    )  # fmt: skip
