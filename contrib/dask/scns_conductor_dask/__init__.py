"""Dask 的 ConductorCluster：每个 worker 是一个作业；scale、adapt、Client(cluster) 照 Dask 的用。"""

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from distributed.deploy.spec import ProcessInterface, SpecCluster
from distributed.scheduler import Scheduler

from scns_conductor.client import AsyncClient, Problem

__all__ = ["ConductorCluster", "WorkerJob"]


class WorkerJob(ProcessInterface):
    """一个 worker 的作业。"""

    def __init__(
        self,
        scheduler: str,
        name: str | None = None,
        *,
        client: Mapping[str, Any],
        job: Mapping[str, Any],
        python: str,
        worker_options: tuple[str, ...],
    ) -> None:
        super().__init__(scheduler=scheduler, name=name)
        words = [python, "-m", "distributed.cli.dask_worker", scheduler, "--name", str(name), "--no-nanny"]
        words += ["--nthreads", str(job["cpus_per_task"]), "--death-timeout", "120", *worker_options]
        self._script = f"#!/bin/bash\nexec {shlex.join(words)}\n"
        self._client, self._job = client, job
        self.job_id = ""

    async def start(self) -> None:
        """提交作业；不等它启动。"""
        async with AsyncClient(**self._client) as client:
            self.job_id = await client.submit(self._job, self._script)
        await super().start()

    async def close(self) -> None:
        """取消作业；已经结束、已经清理的也行。"""
        if self.job_id:
            async with AsyncClient(**self._client) as client:
                try:
                    await client.cancel(self.job_id)
                except Problem as error:
                    if error.status != 404:
                        raise
        await super().close()


class ConductorCluster(SpecCluster):
    """worker 是作业的 Dask 集群；调度器在这里。

    每个 worker 要 cpus 个 CPU、memory 内存（如 "4G"）、至多跑 time_limit（Slurm 的写法）；
    job 是别的提交字段（如 partition）。
    host 是调度器听的地址，节点要连得到；python 是节点上的解释器；worker_options 是 dask worker 的别的选项。
    client 是连系统的参数（url、token），缺省自己找。其余的给 SpecCluster。
    """

    def __init__(
        self,
        n_workers: int = 0,
        *,
        cpus: int = 1,
        memory: str = "2G",
        time_limit: str | None = None,
        job: Mapping[str, Any] | None = None,
        host: str | None = None,
        python: str = sys.executable,
        worker_options: tuple[str, ...] = (),
        client: Mapping[str, Any] | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        wanted = {
            "name": "dask-worker", "cpus_per_task": cpus, "memory_per_node": memory, "time_limit": time_limit,
            # 断了的 worker 由 Dask 再要，不必重新排队。
            "requeue": False, **(job or {}),
        }  # fmt: skip
        worker = {
            "cls": WorkerJob,
            "options": {
                "client": {"patience_s": 300, "reconnect_s": 300, **(client or {})},
                "job": {name: value for name, value in wanted.items() if value is not None},
                "python": python,
                "worker_options": worker_options,
            },
        }
        scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", **(scheduler_options or {})}}
        if host is not None:
            scheduler["options"]["host"] = host
        super().__init__(scheduler=scheduler, worker=worker, **{"name": "ConductorCluster", **options})
        if n_workers:
            self.scale(n_workers)
