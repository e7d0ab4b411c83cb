"""几个服务在前台各是一个进程，死了的重启，一起停下；日志写到自己的标准错误。scns worker --scheduler 与 scns api 用。"""

import os
import subprocess
import sys

from scns_conductor.local.child import start_child
from scns_conductor.local.supervisor import Service, StopRequested, Supervisor

MODULES = {
    "scheduler": "scns_conductor.worker.scheduler.process",
    "agent": "scns_conductor.worker.agent.process",
    "background": "scns_conductor.worker.background.process",
    "api": "scns_conductor.api",
}
# 设置有误：改好之前再启动也没有用。
BAD_SETTINGS = 2
LOOK_S = 0.5


def run_services(*names: str) -> int:
    """在前台运行，直到收到停机信号，或最后一个（主要的那个）因设置有误退出；返回退出码。

    运行中的作业由牧守进程看着，不受影响。
    """
    supervisor = Supervisor()
    services = [_service(name) for name in names]
    try:
        for service in services:
            supervisor.start(service)
        while not supervisor.wait_until(lambda: services[-1].exit_code == BAD_SETTINGS, 3600, LOOK_S):
            pass
        return BAD_SETTINGS
    except StopRequested:
        return 0
    finally:
        # 先停调度，不再启动作业，再停别的。
        for service in services:
            supervisor.stop(service)
        supervisor.close()


def _service(name: str) -> Service:
    def spawn() -> "subprocess.Popen[bytes]":
        return start_child([sys.executable, "-m", MODULES[name]], log=None, environment=dict(os.environ))

    return Service(name, spawn, None)


if __name__ == "__main__":
    sys.exit(run_services(*sys.argv[1:]))
