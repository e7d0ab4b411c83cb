"""混沌测试的系统一侧：启动 scns up 与一个候补调度器，找出各个进程，杀它们、停它们、放它们走。"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import redis
from chaos_pair import PairKeeper
from pydantic import SecretStr

from scns_conductor.core.database import direct_connection
from scns_conductor.core.settings import Settings
from scns_conductor.worker.host import process_table
from scns_conductor.worker.host.cgroup import mounts, node_cgroup_path

START_WAIT_S = 180.0
STOP_WAIT_S = 120.0
# 比缺省的快：几十秒里就能见到失联、接管与核对。
QUICK_SETTINGS = {
    "SCNS_HEARTBEAT_INTERVAL_S": "0.5",
    "SCNS_NODE_TIMEOUT_S": "6",
    "SCNS_RECONCILE_INTERVAL_S": "1",
    "SCNS_SCHEDULER_LEASE_S": "3",
    "SCNS_KILL_WAIT_S": "2",
}


def wait_until(condition: Callable[[], bool], wait_s: float, poll_s: float = 0.05) -> bool:
    """等到条件成立；到时没有返回 False。"""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


class ChaosSystem:
    """一个数据目录上的 scns up（几个节点），外加一个候补调度器；给了 pair 时数据库是它（由这里看着），不是内嵌的。"""

    def __init__(
        self,
        root: Path,
        nodes: int,
        cpus: int,
        settings: Mapping[str, str] = QUICK_SETTINGS,
        *,
        standby: bool = True,
        pair: PairKeeper | None = None,
    ) -> None:
        self.root = root
        self.data = root / "data"
        self.nodes = [f"node{index}" for index in range(1, nodes + 1)]
        self._cpus = cpus
        self.pair = pair
        self._settings = dict(settings) | ({} if pair is None else {"SCNS_DATABASE_URL": pair.url})
        self._wants_standby = standby
        self._standby: subprocess.Popen[bytes] | None = None
        self._stopped: set[int] = set()
        self.up = self._start()
        ready = json.loads((root / "ready.json").read_text())
        self.url: str = ready["url"]
        self.token: str = ready["token"]
        self.connection = _shell_values(self.data / "environment")
        self.keep_standby()

    # ---- 起停 ----

    def _start(self) -> "subprocess.Popen[bytes]":
        ready = self.root / "ready.json"
        command = [
            sys.executable,
            "-m",
            "scns_conductor.local",
            "up",
            "--no-web",
            "--data-dir",
            str(self.data),
            "--port",
            "0",
        ]
        command += ["--ready-file", str(ready), "--nodes", str(len(self.nodes)), "--cpus", str(self._cpus)]
        command += ["--memory", "16G", *([] if self.pair is None else ["--external-database"])]
        with open(self.root / "up.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._settings},
                start_new_session=True,
            )
        if not wait_until(lambda: ready.exists() or process.poll() is not None, START_WAIT_S) or not ready.exists():
            process.terminate()
            process.wait(STOP_WAIT_S)
            raise SystemExit(f"scns up 没有起来：\n{(self.root / 'up.log').read_text(errors='replace')[-3000:]}")
        return process

    def keep_standby(self) -> None:
        """候补调度器死了就再起一个（scns up 只管它自己的那一个）。"""
        if not self._wants_standby or (self._standby is not None and self._standby.poll() is None):
            return
        with open(self.root / "standby.log", "ab") as log:
            self._standby = subprocess.Popen(
                [sys.executable, "-m", "scns_conductor.worker.scheduler.process"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._settings, **self.connection, "SCNS_NODE_NAME": self.nodes[0]},
                cwd="/",
            )

    def stop(self) -> int:
        """放开全部停住的，停下系统，返回 scns up 的退出码。"""
        self.resume_all()
        if self._standby is not None and self._standby.poll() is None:
            self._standby.terminate()
            self._standby.wait(STOP_WAIT_S)
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
        return self.up.wait(STOP_WAIT_S)

    # ---- 进程 ----

    def pids(self, what: str, node: str | None = None) -> list[int]:
        """what 是 api、scheduler、standby、agent、shepherd、postgres、valkey；没有在运行的则为空。"""
        if what == "standby":
            return [self._standby.pid] if self._standby is not None and self._standby.poll() is None else []
        if what == "shepherd":
            return self._shepherds(node)
        if what == "postgres" and self.pair is not None:
            return self.pair.primary_pids()
        marks = {
            "api": b"scns_conductor.api",
            "scheduler": b"scns_conductor.worker.scheduler.process",
            "agent": b"scns_conductor.worker.agent.process",
            "postgres": b"/postgres\0",
            "valkey": b"valkey-server",
        }
        found = []
        for stat in process_table.snapshot().values():
            if stat.parent != self.up.pid or stat.state in "ZX" or marks[what] not in _command_line(stat.pid):
                continue
            if node is None or process_table.environment_value(stat.pid, "SCNS_NODE_NAME") == node:
                found.append(stat.pid)
        return found

    def _shepherds(self, node: str | None) -> list[int]:
        found = []
        for name in self.nodes if node is None else [node]:
            with contextlib.suppress(OSError, ValueError):
                pid = int((self.data / "spool" / name / "shepherd.lock").read_text())
                if b"shepherd" in _command_line(pid):
                    found.append(pid)
        return found

    def send(self, pids: list[int], number: signal.Signals) -> bool:
        """发信号；送到了至少一个返回 True。"""
        sent = False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                sent = True
                if number == signal.SIGSTOP:
                    self._stopped.add(pid)
                elif number == signal.SIGCONT:
                    self._stopped.discard(pid)
        return sent

    def with_children(self, pids: list[int]) -> list[int]:
        """这些进程及其全部后代（PostgreSQL 的各个后端）。"""
        return sorted(process_table.descendants(process_table.snapshot(), set(pids)))

    def resume_all(self) -> None:
        """放开全部停住的进程。"""
        self.send(list(self._stopped), signal.SIGCONT)

    # ---- 引擎 ----

    def database(self) -> "psycopg.Connection[tuple[object, ...]]":
        """直接连数据库；核对用。"""
        return direct_connection(Settings(database_url=SecretStr(self.connection["SCNS_DATABASE_URL"])), "chaos")

    def flush_valkey(self) -> bool:
        """FLUSHALL；Valkey 恰好不在返回 False。"""
        try:
            with redis.Redis.from_url(self.connection["SCNS_REDIS_URL"], socket_timeout=2) as client:
                client.flushall()
        except redis.RedisError:
            return False
        return True

    # ---- 留下的东西 ----

    def job_processes(self) -> list[int]:
        """带着本系统的作业标记、还活着的进程。"""
        output = str(self.root)
        return [
            stat.pid
            for stat in process_table.snapshot().values()
            if stat.state not in "ZX"
            and process_table.environment_value(stat.pid, "SCNS_JOB_KEY") is not None
            and (process_table.environment_value(stat.pid, "CHAOS_ROOT") or "") == output
        ]

    def cgroups(self, *, nodes_too: bool) -> list[str]:
        """还在的作业 cgroup；nodes_too 时连节点自己的目录也算。"""
        found = []
        for name in self.nodes:
            path = node_cgroup_path(name, str(self.data / "spool" / name))
            for _, point, _ in mounts():
                base = Path(point) / path
                found += [str(job) for job in base.glob("job_*") if job.is_dir()]
                if nodes_too and base.is_dir():
                    found.append(str(base))
        return found

    def scripts(self) -> list[str]:
        """还在的作业脚本。"""
        return [str(path) for path in (self.data / "scripts").glob("job_*.sh")]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _shell_values(path: Path) -> dict[str, str]:
    """scns up 写的 environment 文件：NAME='值'。"""
    values = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        values[name] = value[1:-1].replace("'\\''", "'")
    return values
