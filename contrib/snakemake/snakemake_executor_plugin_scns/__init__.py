"""Snakemake 的执行器插件：snakemake --executor scns --jobs 100。每条规则（或一组）是一个作业，经 HTTP。

threads、mem_mb、runtime（分钟）、gpu、disk_mb 换成作业的要求；
scns_partition、scns_account、scns_qos、scns_constraint 是同名的字段。
"""

import os
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Optional

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from scns_conductor.client import TERMINAL_STATES, Client, ClientError

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

# 一次问这么多个作业；隔几秒问一遍，一遍只是一个请求。
ASK_MOST = 500
CHECK_S = 2

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1,
)


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """--scns-url：地址，缺省像 scns 命令那样自己找；令牌在 SCNS_TOKEN 或 client.json 里。"""

    url: Optional[str] = field(  # noqa: UP045  插件的注册只认 Optional
        default=None, metadata={"help": "SCNS-Conductor 的地址，缺省像 scns 命令那样自己找", "required": False}
    )


class Executor(RemoteExecutor):
    """把规则提交为作业，看着它们结束。"""

    def __post_init__(self) -> None:
        settings = self.workflow.executor_settings
        url = settings.url if settings is not None else None
        try:
            self.client = Client(url, os.environ.get("SCNS_TOKEN"), patience_s=300, reconnect_s=300)
        except ClientError as error:
            raise WorkflowError(str(error)) from error
        self.run_name = f"snakemake-{uuid.uuid4().hex[:8]}"

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """此刻能跑的成批提交，不是一条一个请求。"""
        for job in jobs:
            self.run_job_pre(job)
        wanted = ({"job": self.wanted(job), "script": f"#!/bin/bash\n{self.format_job_exec(job)}\n"} for job in jobs)
        try:
            for job, job_id in zip(jobs, self.client.submit_many(wanted), strict=True):
                self.report_job_submission(SubmittedJobInfo(job, external_jobid=job_id))
        except ClientError as error:
            raise WorkflowError(f"SCNS-Conductor 没有收下：{error}") from error

    def run_job(self, job: JobExecutorInterface) -> None:
        """一条规则。"""
        self.run_jobs([job])

    def wanted(self, job: JobExecutorInterface) -> dict[str, Any]:
        """规则的资源 -> 作业的要求。"""
        resources = job.resources
        log = os.path.join(os.getcwd(), ".snakemake", "scns_logs", self.run_name)
        os.makedirs(log, exist_ok=True)
        fields: dict[str, Any] = {
            "name": f"{self.run_name}.{job.name}"[:200],
            "comment": job.name,
            "current_working_directory": os.getcwd(),
            "standard_output": os.path.join(log, "%j.log"),
            "cpus_per_task": job.threads,
            # 断了由 Snakemake 按它的 --retries 再来。
            "requeue": False,
        }
        for name, wanted, form in (
            ("mem_mb", "memory_per_node", "{}M"),
            ("runtime", "time_limit", "{}"),
            ("disk_mb", "temporary_disk_per_node", "{}"),
            ("gpu", "tres_per_job", "gres/gpu:{}"),
            ("scns_partition", "partition", "{}"),
            ("scns_account", "account", "{}"),
            ("scns_qos", "qos", "{}"),
            ("scns_constraint", "constraints", "{}"),
        ):
            value = resources.get(name)
            # 要等输入才知道的还不是数：不写。
            if value not in (None, "", 0) and str(value) != "<TBD>":
                fields[wanted] = form.format(value)
        return fields

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """结束了的报告，没有结束的交回去；服务器暂时不在就都交回去。"""
        self.next_seconds_between_status_checks = CHECK_S
        found: dict[str, Any] = {}
        ids = [str(info.external_jobid) for info in active_jobs]
        async with self.status_rate_limiter:
            try:
                for first in range(0, len(ids), ASK_MOST):
                    rows = self.client.jobs(job_id=ids[first : first + ASK_MOST], fields="state,error_msg,exit_code")
                    found.update((row.job_id, row) for row in rows)
            except ClientError as error:
                self.logger.warning(f"问不到作业的状态，过一会儿再问：{error}")
        for info in active_jobs:
            row = found.get(str(info.external_jobid))
            if row is None or row.state not in TERMINAL_STATES:
                yield info
            elif row.state == "COMPLETED":
                self.report_job_success(info)
            else:
                why = row.error_msg or f"退出码 {row.exit_code}"
                self.report_job_error(info, msg=f"作业 {info.external_jobid} {row.state}：{why}")

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """全部取消，一个请求。"""
        if active_jobs:
            self.client.control("cancel", [str(info.external_jobid) for info in active_jobs])
