"""Parsl 的 ConductorProvider：每个 block 是一个作业，经 HTTP 提交、查询、取消，不必装 Slurm 的命令。"""

from collections.abc import Mapping, Sequence
from typing import Any

from parsl.jobs.states import JobState, JobStatus
from parsl.launchers import SingleNodeLauncher
from parsl.launchers.base import Launcher
from parsl.providers.base import ExecutionProvider
from parsl.providers.errors import SubmitException
from parsl.utils import RepresentationMixin

from scns_conductor.client import Client, ClientError

__all__ = ["ConductorProvider"]

STATES = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "SUSPENDED": JobState.HELD,
    "COMPLETED": JobState.COMPLETED,
    "CANCELLED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
}


class ConductorProvider(ExecutionProvider, RepresentationMixin):
    """一个 block 要 nodes_per_block 个节点，每个 cores_per_node 个 CPU、mem_per_node GB 内存，至多跑 walltime。

    walltime 是 Slurm 的写法；job 是别的提交字段（如 partition）；worker_init 是起 worker 之前的几行 shell；
    其余的意思同 Parsl 别的 provider。
    """

    def __init__(
        self,
        *,
        client: Client | None = None,
        job: Mapping[str, Any] | None = None,
        nodes_per_block: int = 1,
        cores_per_node: int | None = None,
        mem_per_node: float | None = None,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        walltime: str = "00:10:00",
        worker_init: str = "",
        launcher: Launcher | None = None,
    ) -> None:
        self.client = client or Client(patience_s=60, reconnect_s=60)
        self.job = dict(job or {})
        self.nodes_per_block, self.cores_per_node, self.mem_per_node = nodes_per_block, cores_per_node, mem_per_node
        self.init_blocks, self.min_blocks, self.max_blocks = init_blocks, min_blocks, max_blocks
        self.parallelism, self.walltime, self.worker_init = parallelism, walltime, worker_init
        self.launcher = launcher or SingleNodeLauncher()
        self.script_dir: str | None = None
        self.resources: dict[object, Any] = {}

    @property
    def label(self) -> str:
        """这种 provider 的名字。"""
        return "scns"

    @property
    def status_polling_interval(self) -> int:
        """隔几秒查一遍；一遍只是一个请求。"""
        return 5

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.auto") -> str:
        """提交一个 block，返回作业号；服务器不收抛 SubmitException。"""
        job: dict[str, Any] = {
            "name": job_name, "minimum_nodes": self.nodes_per_block, "time_limit": self.walltime, "requeue": False,
        }  # fmt: skip
        environment: dict[str, str] = {}
        if self.cores_per_node is not None:
            job |= {"ntasks_per_node": 1, "cpus_per_task": self.cores_per_node}
            environment["PARSL_CORES"] = str(self.cores_per_node)
        if self.mem_per_node is not None:
            job["memory_per_node"] = f"{int(self.mem_per_node * 1024)}M"
            environment["PARSL_MEMORY_GB"] = str(self.mem_per_node)
        job |= self.job
        job["environment"] = {**environment, **job.get("environment", {})}
        wrapped = self.launcher(command, tasks_per_node, self.nodes_per_block)
        try:
            job_id = self.client.submit(job, f"#!/bin/bash\n{self.worker_init}\n{wrapped}\n")
        except ClientError as error:
            raise SubmitException(job_name, str(error)) from error
        self.resources[job_id] = {"job_id": job_id, "status": JobStatus(JobState.PENDING)}
        return job_id

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """各作业的状态；问不到的照上次的。"""
        if not job_ids:
            return []
        wanted = [str(job_id) for job_id in job_ids]
        try:
            found = {job.job_id: job for job in self.client.jobs(job_id=wanted, fields="state,error_msg")}
        except ClientError:
            found = {}
        for job_id, job in found.items():
            state = STATES.get(job.state, JobState.FAILED)
            self.resources[job_id]["status"] = JobStatus(state, message=job.error_msg)
        return [self.resources[job_id]["status"] for job_id in wanted]

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """取消，一个请求；取消了的是真。"""
        wanted = [str(job_id) for job_id in job_ids]
        _, errors = self.client.control("cancel", wanted)
        for job_id in wanted:
            if job_id not in errors:
                self.resources[job_id]["status"] = JobStatus(JobState.CANCELLED)
        return [job_id not in errors for job_id in wanted]
