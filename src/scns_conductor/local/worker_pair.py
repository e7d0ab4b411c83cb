"""scns worker：节点代理与调度候选各一个进程，死了的重启，一起停下；日志写到自己的标准错误。"""

import os
import subprocess
import sys

from scns_conductor.local.child import start_child
from scns_conductor.local.supervisor import Service, StopRequested, Supervisor

MODULES = {"scheduler": "scns_conductor.worker.scheduler.process", "agent": "scns_conductor.worker.agent.process"}


def run_worker_pair() -> int:
    """在前台运行，直到收到停机信号；运行中的作业由牧守进程看着，不受影响。"""
    supervisor = Supervisor()
    services = [_service(name, module) for name, module in MODULES.items()]
    try:
        for service in services:
            supervisor.start(service)
        while True:
            supervisor.wait(3600)
    except StopRequested:
        pass
    finally:
        # 先停调度，不再启动作业，再停代理。
        for service in services:
            supervisor.stop(service)
        supervisor.close()
    return 0


def _service(name: str, module: str) -> Service:
    def spawn() -> "subprocess.Popen[bytes]":
        return start_child([sys.executable, "-m", module], log=None, environment=dict(os.environ))

    return Service(name, spawn, None)
