"""测试用的牧守进程：一个真的牧守进程、一个连着它的客户端，以及等待条件的办法。"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polling import pause
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdGone
from scns_conductor.worker.host.cgroup import node_cgroup_path
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import LaunchSpec
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer

WAIT_S = 60.0


def wait_until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """等到条件成立，返回它的值；超时则失败。"""
    began = time.monotonic()
    while time.monotonic() < began + wait_s:
        value = condition()
        if value:
            return value
        pause(began)
    raise AssertionError(f"等不到：{what}")


def alive(pid: int) -> bool:
    """进程是否还活着（僵尸不算）。"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Yard:
    """一个牧守进程和连着它的客户端。"""

    def __init__(self, spool: Path, work: Path, containment: str) -> None:
        self.spool = spool
        self.work = work
        self.containment = containment
        self.ends: dict[str, EndRecord] = {}
        self.connect()

    def connect(self) -> None:
        self.client = ShepherdClient.connect(self.spool, "yard", containment=self.containment, on_ends=self._collect)
        self.hello = self.client.hello()

    def _collect(self, ends: list[EndRecord]) -> None:
        for end in ends:
            self.ends[end.key] = end

    def spec(self, job_id: int, script: str | None, **options: Any) -> LaunchSpec:
        path = str(self.spool / f"job_{job_id}.sh")
        fields: dict[str, Any] = {
            "step": "batch",
            "attempt": 0,
            "argv": ["/bin/bash", path],
            "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            "cwd": str(self.work),
            "stdout": str(self.work / f"{job_id}.out"),
            "script": script,
            "script_path": path,
            "grace_s": 0.3,
        }
        return LaunchSpec(job_id=job_id, **(fields | options))

    def launch(self, job_id: int, script: str | None, **options: Any) -> LaunchAnswer:
        return self.client.launch([self.spec(job_id, script, **options)])[0]

    def end(self, job_id: int, step: str = "batch", attempt: int = 0) -> EndRecord:
        key = f"{job_id}.{attempt}.{step}"
        end: EndRecord = wait_until(lambda: self.ends.get(key), f"{key} 的结束记录")
        return end

    def output(self, job_id: int) -> bytes:
        return (self.work / f"{job_id}.out").read_bytes()

    def kill_shepherd(self) -> None:
        pid = self.hello.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "牧守进程消失")
        self.client.close()

    def reconnect(self) -> None:
        """死掉的那个之后，连上新的一个：它的套接字也许还收下了一次。"""

        def connected() -> bool:
            with contextlib.suppress(ShepherdGone):
                self.connect()
                return True
            return False

        wait_until(connected, "新的牧守进程")

    def stop(self) -> None:
        """结束全部作业并等牧守进程退出。"""
        pid = self.client.hello().pid
        self.client.shutdown(0)

        def gone() -> bool:
            with contextlib.suppress(ShepherdGone):
                self.client.ack(list(self.ends.values()))
            return not alive(pid)

        wait_until(gone, "牧守进程退出")
        self.client.close()
        path = node_cgroup_path("yard", str(self.spool))
        assert list(Path("/sys/fs/cgroup").glob(f"*/{path}")) == [], "留下了 cgroup"
