#!/usr/bin/env python3
"""逐个故障量：多久之后新提交的作业照常跑完，故障时正在运行的作业怎样。缺省的设置，一个节点，有一个候补调度器。

python benchmarks/faults.py [故障……]；输出是 Markdown 的表行，docs/failures.md 里的数就是它。
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from chaos_system import ChaosSystem, wait_until

from scns_conductor.client import TERMINAL_STATES, JsonClient, Problem, Unreachable

WAIT_S = 240.0


@dataclass
class Measured:
    """accepted_s：故障后提交被接受用了多久；finished_s：它跑完用了多久；running：故障时在运行的作业怎样结束。"""

    name: str
    accepted_s: float
    finished_s: float
    running: str


class Bench:
    """一个系统上的一个个故障。"""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.system = ChaosSystem(root, 1, 8, {})
        self.client = JsonClient(self.system.url, self.system.token, timeout_s=5)
        self.count = 0

    def insist(self, action: Callable[[], Any]) -> Any:
        """直到做成；503、连接断了就再来。"""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return action()
            except (Problem, Unreachable) as error:
                if isinstance(error, Problem) and error.status < 500:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def submit(self, script: str, **job: Any) -> str:
        key = os.urandom(16).hex()
        body = {"name": "faults", "current_working_directory": str(self.root), **job}
        return str(self.insist(lambda: self.client.submit(body, script, idempotency_key=key)))

    def finished(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = {}

        def ended() -> bool:
            answer.update(self.insist(lambda: self.client.query(job_id)))
            return answer["state"] in TERMINAL_STATES

        assert wait_until(ended, WAIT_S, 0.01), f"作业 {job_id} 没有结束：{answer}"
        return answer

    def measure(self, name: str, fault: Callable[[], object]) -> Measured:
        """先有一个在运行的作业，再来故障，再提交一个空作业。"""
        self.count += 1
        go = self.root / f"go{self.count}"
        long = self.submit(f"while [ ! -e {go} ]; do sleep 0.05; done; exit 7\n")
        assert wait_until(lambda: self.client.query(long)["state"] == "RUNNING", WAIT_S), "没有跑起来"
        self.finished(self.submit("true\n"))
        began = time.monotonic()
        fault()
        probe = self.submit("true\n")
        accepted_s = time.monotonic() - began
        answer = self.finished(probe)
        finished_s = time.monotonic() - began
        assert answer["state"] == "COMPLETED", answer
        go.touch()
        ended = self.finished(long)
        with self.system.database() as connection:
            row = connection.execute("SELECT restart_count FROM jobs WHERE job_id = %s", (int(long),)).fetchone()
        assert row is not None
        attempt = f"，第 {int(str(row[0])) + 1} 次" if row[0] else ""
        self.settle()
        return Measured(name, accepted_s, finished_s, f"{ended['state']} {ended['detail']['exit_code']}{attempt}")

    def settle(self) -> None:
        """回到平常：停住的放开，候补在，节点都在。"""
        self.system.resume_all()
        self.system.keep_standby()
        assert wait_until(self.is_ready, WAIT_S), "没有恢复"

    def is_ready(self) -> bool:
        """API 就绪，调度器与节点都在。"""
        try:
            good, answer = self.client.ready()
        except (Problem, Unreachable):
            return False
        checks = answer.get("checks", {})
        return good and checks["scheduler"]["status"] == "ok" and checks["nodes"]["status"] == "ok"

    def kill(self, what: str, number: signal.Signals = signal.SIGKILL) -> Callable[[], object]:
        return lambda: self.system.send(self.system.pids(what), number)

    def pause(self, what: str, pause_s: float) -> Callable[[], object]:
        def run() -> None:
            pids = self.system.pids(what)
            pids = self.system.with_children(pids) if what == "postgres" else pids
            self.system.send(pids, signal.SIGSTOP)
            threading.Timer(pause_s, lambda: self.system.send(pids, signal.SIGCONT)).start()

        return run

    def leader(self) -> str:
        """领导者是哪一个：scheduler 或 standby。"""
        with self.system.database() as connection:
            row = connection.execute("SELECT holder FROM scheduler_leader").fetchone()
        holder = int(str(row[0] if row else "").rpartition(":")[2])
        return "scheduler" if holder in self.system.pids("scheduler") else "standby"

    def lose_node(self) -> None:
        """代理与牧守进程停住，直到节点被判失联、作业重新排队，再放开。"""
        pids = self.system.pids("agent") + self.system.pids("shepherd")
        self.system.send(pids, signal.SIGSTOP)
        began = time.monotonic()

        def down() -> bool:
            return self.client.nodes()[0]["state"].startswith("DOWN")

        assert wait_until(down, WAIT_S), "没有判失联"
        print(f"（停住 {time.monotonic() - began:.1f} 秒后判为 DOWN）", flush=True)
        self.system.send(pids, signal.SIGCONT)

    def both(self) -> None:
        self.system.send(self.system.pids("agent") + self.system.pids("shepherd"), signal.SIGKILL)

    def faults(self) -> dict[str, Callable[[], object]]:
        return {
            "没有故障": lambda: None,
            "kill -9 API": self.kill("api"),
            "kill -9 领导者": lambda: self.kill(self.leader())(),
            "领导者停住 15 秒": lambda: self.pause(self.leader(), 15)(),
            "kill -9 代理": self.kill("agent"),
            "kill -9 牧守进程": self.kill("shepherd"),
            "kill -9 代理与牧守进程": self.both,
            "kill -9 Valkey": self.kill("valkey"),
            "FLUSHALL": self.system.flush_valkey,
            "Valkey 停住 8 秒": self.pause("valkey", 8),
            "PostgreSQL 立即停机": self.kill("postgres", signal.SIGQUIT),
            "kill -9 PostgreSQL": self.kill("postgres"),
            "PostgreSQL 停住 5 秒": self.pause("postgres", 5),
            "节点失联": self.lose_node,
        }


def main() -> int:
    """参数是要量的故障；没有就全部。"""
    root = Path(tempfile.mkdtemp(prefix="scns-faults-"))
    bench = Bench(root)
    try:
        print("| 故障 | 新提交被接受（秒） | 新提交跑完（秒） | 正在运行的作业 |\n|---|---|---|---|")
        for name, fault in bench.faults().items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            found = bench.measure(name, fault)
            print(f"| {found.name} | {found.accepted_s:.2f} | {found.finished_s:.2f} | {found.running} |", flush=True)
    finally:
        bench.system.stop()
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
