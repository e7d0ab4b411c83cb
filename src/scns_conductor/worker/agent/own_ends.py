"""代理自己造的结束：没有进程可等的作业（被拒、没有启动就取消、找不到进程）也走收尾的路。"""

import time
from typing import Protocol

from scns_conductor.worker.agent.end_causes import cause_of_request
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.launch_spec import task_key


class AllocationToEnd(Protocol):
    """一条没有启动、有人要求结束的分配。"""

    @property
    def job_id(self) -> int:
        """作业号。"""

    @property
    def restart_count(self) -> int:
        """第几次尝试。"""

    @property
    def launch_id(self) -> int | None:
        """哪一次启动。"""

    @property
    def requested_end_state(self) -> str | None:
        """要求的去向。"""


class OwnEnds:
    """boot_id 是这次开机。"""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id

    def make(
        self,
        owner: tuple[int, int],
        launch_id: int | None,
        cause: str,
        message: str | None = None,
        *,
        on_node: bool = False,
        hold: bool = False,
    ) -> EndRecord:
        """owner 是（作业号，尝试）；它此刻结束，原因是 cause。"""
        job_id, attempt = owner
        failed = cause == "launch_failed"
        return EndRecord(
            key=task_key(job_id, attempt, "batch"),
            job_id=job_id,
            attempt=attempt,
            launch_id=launch_id,
            step="batch",
            cause=cause,
            message=message,
            on_node=on_node,
            hold=hold,
            exit_status=1 if failed else None,
            exit_signal=0 if failed else None,
            boot_id=self._boot_id,
            ended_boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        )

    def unstarted(self, job: AllocationToEnd) -> EndRecord:
        """还没有启动就有人要求结束：照要求的去向。"""
        cause = cause_of_request(str(job.requested_end_state))
        return self.make((job.job_id, job.restart_count), job.launch_id, cause)
