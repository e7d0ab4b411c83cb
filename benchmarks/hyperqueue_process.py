"""HyperQueue 在自己的进程里：只导入它。标准输入一行一个 [方法, 个数]，标准输出一行一个回答。

用法：hyperqueue_process.py 目录 核数；由 peers.HyperQueue 启动。
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found]
from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]

NOOP = "#!/bin/bash\n"
WAIT_S = 300.0


class Cluster:
    """一个服务器、一个工作进程，都在本进程的线程里。"""

    def __init__(self, scratch: Path, cores: int) -> None:
        self._scratch = scratch
        self._script = str(scratch / "noop.sh")
        Path(self._script).write_text(NOOP)
        self._cluster = LocalCluster()
        self._cluster.start_worker(WorkerConfig(cores=cores))
        self._client = self._cluster.client()

    def task_rate(self, jobs: int) -> float:
        """(a) 一个作业里的许多任务，每秒几个；末了一个依赖全部任务的任务落下记号。"""
        job = Job()
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
            job, script = Job(), self._scratch / f"hq-{index}.sh"
            script.write_text(f"{NOOP}# {index}\n")
            job.program(["bash", str(script)], stdout=str(self._scratch / f"hq-{index}.out"), stderr=None)
            submitted.append(self._client.submit(job))
        last = Job()
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
            _still_waiting(began)
        elapsed = time.perf_counter() - began
        self._wait(submitted)
        mark.unlink()
        return jobs / elapsed

    def _wait(self, submitted: list[Any]) -> None:
        failed = self._client.connection.wait_for_jobs(tuple(job.id for job in submitted), lambda _progress: None)
        if failed:
            raise RuntimeError(f"HyperQueue 有作业失败：{failed}")

    def latencies_ms(self, times: int) -> list[float]:
        """(c) 提交到脚本第一行，毫秒，依次。"""
        found, submitted = [], []
        for index in range(times):
            mark, job = self._scratch / f"hq-mark-{index}", Job()
            script = self._scratch / f"hq-mark-{index}.sh"
            script.write_text(f"{NOOP}: > {mark}\n")
            job.program(["bash", str(script)], stdout=None, stderr=None)
            began = time.perf_counter()
            submitted.append(self._client.submit(job))
            found.append(_mark_ms(mark, began))
            time.sleep(0.02)
        self._wait(submitted)
        return found

    def close(self) -> None:
        """停下。"""
        self._cluster.stop()


def _still_waiting(began: float) -> None:
    if time.perf_counter() - began > WAIT_S:
        raise RuntimeError(f"HyperQueue {WAIT_S:g} 秒没有做完")
    time.sleep(0.002)


def _mark_ms(mark: Path, began: float) -> float:
    """等到记号，返回毫秒。"""
    while not mark.exists():
        if time.perf_counter() - began > WAIT_S:
            raise RuntimeError(f"HyperQueue {WAIT_S:g} 秒没有启动")
        time.sleep(0.0003)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """直到标准输入关闭。"""
    cluster = Cluster(Path(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        method, count = json.loads(line)
        try:
            answer: dict[str, Any] = {"value": getattr(cluster, method)(count)}
        except Exception as error:  # 一项失败由问的一方记进报告
            answer = {"error": str(error) or type(error).__name__}
        print("answer " + json.dumps(answer), flush=True)
    cluster.close()


if __name__ == "__main__":
    main()
