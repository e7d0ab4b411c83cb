"""一同比较的：xargs（极限）、HyperQueue（它的 Python 接口，不落盘）、纯 RQ（一个空作业一条消息）；Slurm 见 slurm_peer。

没有装的 missing() 说缺什么，报告里照写，绝不猜一个数。
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from system import SLOTS, Failed
from workload import NOOP

PEER_WAIT_S = 300.0


def noop_script(scratch: Path) -> Path:
    """空脚本的路径。"""
    path = scratch / "noop.sh"
    path.write_text(NOOP)
    return path


def xargs_rate(scratch: Path, jobs: int) -> float:
    """极限：xargs -P4 bash noop.sh，每秒几个。"""
    script = noop_script(scratch)
    began = time.perf_counter()
    subprocess.run(f"seq {jobs} | xargs -P4 -I{{}} bash {script}", shell=True, check=True)
    return jobs / (time.perf_counter() - began)


class HyperQueue:
    """一个服务器、一个 cores 核的工作进程，在自己的进程里：起任务的进程不背着我们导入的库，那样 fork 要慢一成。"""

    @staticmethod
    def missing() -> str | None:
        """没有装时说缺什么。"""
        return None if importlib.util.find_spec("hyperqueue") else "没有装：pip install hyperqueue"

    def __init__(self, scratch: Path, cores: int = SLOTS) -> None:
        folder = scratch / "hyperqueue"
        folder.mkdir()
        program = Path(__file__).with_name("hyperqueue_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(folder), str(cores)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def task_rate(self, jobs: int) -> float:
        """(a) 一个作业里的许多任务，每秒几个。"""
        return float(self._ask("task_rate", jobs))

    def separate_rate(self, jobs: int) -> float:
        """(b) 分别提交，各有自己的脚本与输出文件，每秒几个。"""
        return float(self._ask("separate_rate", jobs))

    def latencies_ms(self, times: int) -> list[float]:
        """(c) 提交到脚本第一行，毫秒，依次。"""
        return list(self._ask("latencies_ms", times))

    def _ask(self, method: str, count: int) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([method, count]), file=self._process.stdin, flush=True)
        # HyperQueue 自己也往标准输出写；回答的那一行有记号。
        for line in self._process.stdout:
            if line.startswith("answer "):
                found = json.loads(line.removeprefix("answer "))
                if "error" in found:
                    raise Failed(found["error"])
                return found["value"]
        raise Failed("HyperQueue 的进程退出了")

    def close(self) -> None:
        """停下。"""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_noop(script: str) -> int:
    """RQ 的任务：跑一个 bash。"""
    return subprocess.run(["bash", script], check=True).returncode


def rq_rate(scratch: Path, jobs: int) -> float:
    """纯 RQ：一个空作业一条消息，四个已经在等的 SimpleWorker，每秒跑完几个（从入队到全部跑完）。"""
    from redis import Redis
    from rq import Queue, Worker

    from scns_conductor.local.engines import running_engines

    with tempfile.TemporaryDirectory(prefix="rq-") as name, running_engines(Path(name) / "e") as engines:
        connection = Redis.from_url(engines.redis_url)
        queue = Queue("noop", connection=connection)
        script = str(noop_script(scratch))
        command = [sys.executable, "-m", "rq.cli", "worker", "--quiet", "-w", "rq.SimpleWorker"]
        environment = {**os.environ, "RQ_REDIS_URL": engines.redis_url, "PYTHONPATH": str(Path(__file__).parent)}
        workers = [subprocess.Popen([*command, "noop"], env=environment) for _ in range(4)]
        try:
            deadline = time.perf_counter() + PEER_WAIT_S
            while Worker.count(connection=connection) < len(workers):
                _still_waiting(deadline, "RQ")
            began = time.perf_counter()
            queue.enqueue_many([Queue.prepare_data("peers.run_noop", (script,), result_ttl=500) for _ in range(jobs)])
            while queue.finished_job_registry.get_job_count(cleanup=False) < jobs:
                _still_waiting(deadline, "RQ")
            return jobs / (time.perf_counter() - began)
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()


def _still_waiting(deadline: float, who: str, poll_s: float = 0.01) -> None:
    if time.perf_counter() > deadline:
        raise Failed(f"{who} {PEER_WAIT_S:g} 秒没有跑完")
    time.sleep(poll_s)
