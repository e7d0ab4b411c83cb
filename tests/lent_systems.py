"""几个文件合用的系统：要的节点一样、只差运行时设置的，用完恢复原样，不各起一套（一套要五秒 CPU）。

要杀它、停它、弄乱节点的测试自己用 start_system 起一个。
"""

import contextlib
import socket
from pathlib import Path
from typing import Any

from running_system import RunningSystem, forget_jobs, start_system, wait_until

# test_mail 的邮件服务器在这个端口上听；轮到它之前先占着。
SMTP_DOOR = socket.create_server(("127.0.0.1", 0))
# 样子 -> scns up 的选项，与几个文件都要、运行时又改不了的设置。
SHAPES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "1x2": (("--nodes", "1", "--cpus", "2", "--memory", "4G"), {}),
    "1x4": (
        ("--nodes", "1", "--cpus", "4", "--memory", "4G"),
        {
            "SCNS_KILL_WAIT_S": "2",
            "SCNS_JOB_SAMPLE_INTERVAL_S": "0.2",
            "SCNS_WEBHOOKS": "true",
            "SCNS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
            "SCNS_WEBHOOK_TIMEOUT_S": "3",
            "SCNS_SMTP_HOST": "127.0.0.1",
            "SCNS_SMTP_PORT": str(SMTP_DOOR.getsockname()[1]),
            "SCNS_MAIL_FROM": "scns@cluster.example",
            "SCNS_MAIL_DOMAIN": "site.example",
            "SCNS_MAIL_HOURLY_LIMIT": "30",
        },
    ),
    "2x2": (
        ("--nodes", "2", "--cpus", "2", "--memory", "4G"),
        {
            "SCNS_KILL_WAIT_S": "2",
            "SCNS_RECONCILE_INTERVAL_S": "1",
            "SCNS_JOB_SAMPLE_INTERVAL_S": "0.5",
            "SCNS_HEARTBEAT_INTERVAL_S": "0.5",
        },
    ),
    "2x4": (
        ("--nodes", "2", "--cpus", "4", "--memory", "8G", "--gpus", "4"),
        {"SCNS_WEBHOOKS": "true", "SCNS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"},
    ),
    "3x4": (("--nodes", "3", "--cpus", "4", "--memory", "8G", "--gpus", "2"), {}),
}
# 文件 -> 用哪一种。xdist 把一种的几个文件交给同一个进程。
USERS = {
    "test_apply": "1x2", "test_priority_live": "1x2", "test_relay_chains": "1x2", "test_sacctmgr": "1x2",
    "test_time_slices": "1x2", "test_wait_breakdown": "1x2",
    "test_backup": "1x4", "test_easy_predicted": "1x4", "test_limits_live": "1x4", "test_mail": "1x4",
    "test_preemption_qos": "1x4", "test_retention": "1x4", "test_suspend_frees": "1x4", "test_webhooks": "1x4",
    "test_job_samples": "2x2", "test_preemption": "2x2", "test_reservations": "2x2",
    "test_het_jobs": "2x4", "test_import_history": "2x4", "test_slurm_gpus": "2x4", "test_srun": "2x4",
    "test_step_options": "2x4",
    "test_job_fields": "3x4", "test_scheduler_live": "3x4", "test_step_placement": "3x4",
    # 这几个用 conftest.py 的 watched_system。
    "test_logging": "watched", "test_metrics": "watched", "test_tls_proxy": "watched",
}  # fmt: skip


class LentSystems:
    """已经起了的；第一次有人要才起。"""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[RunningSystem, Any, contextlib.ExitStack]] = {}

    def lend(self, shape: str) -> RunningSystem:
        """借出一套；用完 take_back。"""
        if shape not in self._running:
            options, environment = SHAPES[shape]
            with contextlib.ExitStack() as stack:
                system = stack.enter_context(start_system(self._folder / shape, *options, environment=environment))
                status, pristine = system.call("GET", "/cluster/export")
                assert status == 200, pristine
                self._running[shape] = system, pristine, stack.pop_all()
        return self._running[shape][0]

    def take_back(self, shape: str) -> None:
        """恢复原样：没有作业，分区、QOS、账户、许可证、设置都如初，节点都能用。用户与用量还在。"""
        system, pristine, _ = self._running[shape]
        forget_jobs(system)
        for name in [found["name"] for found in system.call("GET", "/reservations")[1]["reservations"]]:
            system.call("DELETE", f"/reservations/{name}")
        for node in system.call("GET", "/nodes")[1]["nodes"]:
            if node["features"] or node["topology"]:
                system.call("PATCH", f"/nodes/{node['name']}", {"features": [], "topology": ""})
        status, answer = system.call("POST", "/cluster/apply?prune=true", pristine)
        assert status == 200, answer

        def usable() -> bool:
            return {node["state"] for node in system.call("GET", "/nodes")[1]["nodes"]} == {"IDLE"}

        wait_until(usable, what="节点都能用")

    def end(self, shape: str) -> None:
        """不会再有人要它了：停下，闲着的也要 CPU。"""
        self._running.pop(shape)[2].close()

    def close(self) -> None:
        """全部停下。"""
        for shape in list(self._running):
            self.end(shape)


def set_up(system: RunningSystem, **settings: Any) -> RunningSystem:
    """运行时的设置：从现在起照它。"""
    status, answer = system.call("POST", "/cluster/apply", {"settings": settings})
    assert status == 200, answer
    return system
