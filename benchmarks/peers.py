"""一同比较的：xargs（极限）、HyperQueue（它的 Python 接口，不落盘）、纯 RQ（一个空作业一条消息）；Slurm 见 slurm_peer。

没有装的 missing() 说缺什么，报告里照写，绝不猜一个数。
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from system import SLOTS, Failed
from workload import NOOP, wait_mark

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
    """一个服务器、一个 cores 核的工作进程，都在本进程的线程里。"""

    @staticmethod
    def missing() -> str | None:
        """没有装时说缺什么。"""
        return None if importlib.util.find_spec("hyperqueue") else "没有装：pip install hyperqueue"

    def __init__(self, scratch: Path, cores: int = SLOTS) -> None:
        from hyperqueue import LocalCluster  # type: ignore[import-not-found]
        from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]

        self._scratch = scratch / "hyperqueue"
        self._scratch.mkdir()
        self._script = str(noop_script(self._scratch))
        self._cluster = LocalCluster()
        self._cluster.start_worker(WorkerConfig(cores=cores))
        self._client = self._cluster.client()

    def task_rate(self, jobs: int) -> float:
        """(a) 一个作业里的许多任务，每秒几个；末了一个依赖全部任务的任务落下记号。"""
        job = self._job()
        tasks = [job.program(["bash", self._script], stdout=None, stderr=None) for _ in range(jobs)]
        mark = self._mark_task(job, tasks)
        began = time.perf_counter()
        submitted = self._client.submit(job)
        return self._rate(jobs, began, mark, [submitted])

    def separate_rate(self, jobs: int) -> float:
        """(b) 分别提交，各有自己的脚本与输出文件，每秒几个；它的客户端只能一个线程用。

        作业之间不能依赖：最后提交的落下记号，那时可能还有别的没有结束，略为偏向它。
        """
        began = time.perf_counter()
        submitted = []
        for index in range(jobs):
            job, script = self._job(), self._scratch / f"hq-{index}.sh"
            script.write_text(f"{NOOP}# {index}\n")
            job.program(["bash", str(script)], stdout=str(self._scratch / f"hq-{index}.out"), stderr=None)
            submitted.append(self._client.submit(job))
        last = self._job()
        mark = self._mark_task(last, [])
        submitted.append(self._client.submit(last))
        return self._rate(jobs, began, mark, submitted)

    def _mark_task(self, job: Any, after: list[Any]) -> Path:
        mark, script = self._scratch / "hq-done", self._scratch / "hq-done.sh"
        script.write_text(f"{NOOP}: > {mark}\n")
        job.program(["bash", str(script)], stdout=None, stderr=None, deps=after)
        return mark

    def _rate(self, jobs: int, began: float, mark: Path, submitted: list[Any]) -> float:
        # 它自己的 wait_for_jobs 一秒才看一次，不能用来计时。
        while not mark.exists():
            _still_waiting(began + PEER_WAIT_S, "HyperQueue", 0.002)
        elapsed = time.perf_counter() - began
        self._wait(submitted)
        mark.unlink()
        return jobs / elapsed

    def _wait(self, submitted: list[Any]) -> None:
        failed = self._client.connection.wait_for_jobs(tuple(job.id for job in submitted), lambda _progress: None)
        if failed:
            raise Failed(f"HyperQueue 有作业失败：{failed}")

    def latencies_ms(self, times: int) -> list[float]:
        """(c) 提交到脚本第一行，毫秒，依次。"""
        found, submitted = [], []
        for index in range(times):
            mark, job = self._scratch / f"hq-mark-{index}", self._job()
            script = self._scratch / f"hq-mark-{index}.sh"
            script.write_text(f"{NOOP}: > {mark}\n")
            job.program(["bash", str(script)], stdout=None, stderr=None)
            began = time.perf_counter()
            submitted.append(self._client.submit(job))
            found.append(wait_mark(mark, began, "HyperQueue"))
            time.sleep(0.02)
        self._wait(submitted)
        return found

    def close(self) -> None:
        """停下。"""
        self._cluster.stop()

    @staticmethod
    def _job() -> Any:
        from hyperqueue import Job  # type: ignore[import-not-found]

        return Job()


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
