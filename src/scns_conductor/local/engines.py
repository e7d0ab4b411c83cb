"""两个引擎合在一起：scns up 与测试都从这里启动它们。"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from scns_conductor.local.data_directory import DataDirectory
from scns_conductor.local.engine_user import choose_engine_user
from scns_conductor.local.postgres import STOP_WAIT_S, EngineError, Postgres
from scns_conductor.local.valkey import Valkey


class Engines:
    """一个数据目录上的 PostgreSQL 与 Valkey；目录须已 prepare 并 lock。"""

    def __init__(self, directory: DataDirectory) -> None:
        self.directory = directory
        user = choose_engine_user(directory.postgres)
        sockets = directory.socket_directory()
        self.postgres = Postgres(directory.postgres, sockets, directory.logs / "postgres.log", user)
        self.valkey = Valkey(sockets, directory.logs / "valkey.log", user)

    @property
    def database_url(self) -> str:
        """数据库的地址。"""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Valkey 的地址；含口令。"""
        return self.valkey.url


@contextlib.contextmanager
def running_engines(path: Path) -> Iterator[Engines]:
    """在 path 上启动两个引擎，离开时停掉；没有监督者，供测试与脚本使用。"""
    directory = DataDirectory(path)
    directory.prepare()
    directory.lock()
    processes: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []
    try:
        engines = Engines(directory)
        engines.postgres.prepare()
        engines.valkey.prepare()
        postgres = engines.postgres.spawn()
        processes.append((postgres, signal.SIGINT))
        valkey = engines.valkey.spawn()
        processes.append((valkey, signal.SIGTERM))
        engines.postgres.wait_ready(lambda: postgres.poll() is None)
        engines.valkey.wait_ready(lambda: valkey.poll() is None)
        yield engines
    finally:
        for process, number in reversed(processes):
            stop_process(process, number)
        directory.unlock()


def stop_process(process: "subprocess.Popen[bytes]", number: signal.Signals, wait_s: float = STOP_WAIT_S) -> None:
    """发信号并等它结束；到时还在就 SIGQUIT（PostgreSQL 的立即停机），再不行抛 EngineError。"""
    for last in (number, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(last)
        deadline = time.monotonic() + wait_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    if process.poll() is None:
        raise EngineError(f"进程 {process.pid} 停不下来")
