"""测试用的停电：自己的两个引擎，可以随意杀死、停住、再拉起。"""

import os
import signal
import subprocess

import redis
from shepherd_yard import alive, wait_until

from scns_conductor.local.engines import Engines, stop_process
from scns_conductor.worker.host import process_table


class Outage:
    """自己的两个引擎，可以随意杀死再拉起。测试模块写 pytest_plugins = ["outage"] 就有 outage 与 fragile。"""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self._frozen: list[int] = []
        self._revived: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []

    @property
    def postgres_pid(self) -> int:
        return int((self.engines.postgres.data / "postmaster.pid").read_text().split("\n", 1)[0])

    @property
    def valkey_pid(self) -> int:
        with redis.Redis.from_url(self.engines.redis_url) as client:
            return int(client.info("server")["process_id"])

    def freeze(self, pid: int) -> None:
        """停住一个进程和它的全部后代：连得上，没有人答话。"""
        self._frozen = sorted(process_table.descendants(process_table.snapshot(), {pid}))
        for each in self._frozen:
            os.kill(each, signal.SIGSTOP)

    def thaw(self) -> None:
        for each in self._frozen:
            os.kill(each, signal.SIGCONT)
        self._frozen = []

    def kill_postgres(self) -> None:
        pid = self.postgres_pid
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not alive(pid), "PostgreSQL 停机")

    def revive_postgres(self) -> None:
        self.engines.postgres.prepare()
        process = self.engines.postgres.spawn()
        self._revived.append((process, signal.SIGINT))
        self.engines.postgres.wait_ready(lambda: process.poll() is None)

    def kill_valkey(self) -> None:
        pid = self.valkey_pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "Valkey 消失")

    def revive_valkey(self) -> None:
        process = self.engines.valkey.spawn()
        self._revived.append((process, signal.SIGTERM))
        self.engines.valkey.wait_ready(lambda: process.poll() is None)

    def close(self) -> None:
        self.thaw()
        for process, number in self._revived:
            stop_process(process, number)
