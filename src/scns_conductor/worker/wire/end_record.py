"""一个作业步的结束：牧守进程写进日志、推给代理，代理写进数据库。"""

from __future__ import annotations

from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS
from scns_conductor.worker.wire.process_usage import Usage
from scns_conductor.worker.wire.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class EndRecord(Record):
    """id 是牧守进程的日志里的编号，确认时用；代理自己造的（没有启动的作业）没有。

    unix_s 是那时的日历秒，boot_s 是开机以来的秒数（只在 boot_id 相同时可比）。cause 见 agent/end_causes.py。
    exit_status 为 None 表示没有人看见它怎样结束。on_node：失败是节点的错；hold：重新排队之后保留。
    unkillable：有杀不掉的进程；queued：在接力的链上等过，真的开始比数据库里记的晚。
    uid、gid、groups 为 None 表示没有换用户。
    """

    old_names: ClassVar[dict[str, str]] = {
        "started_unix_s": "started_at",
        "started_boot_s": "started_boot",
        "ended_unix_s": "ended_at",
        "ended_boot_s": "ended_boot",
    }

    key: str
    job_id: int
    attempt: int
    step: str
    cause: str
    id: int | None = None
    launch_id: int | None = None
    pid: int | None = None
    started_unix_s: float | None = None
    started_boot_s: float | None = None
    ended_unix_s: float | None = None
    ended_boot_s: float | None = None
    boot_id: str | None = None
    usage: Usage | None = None
    exit_status: int | None = None
    exit_signal: int | None = None
    message: str | None = None
    on_node: bool = False
    hold: bool = False
    unkillable: bool = False
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None
    stdout: str | None = None
    stderr: str | None = None
    queued: bool | None = None

    @property
    def owner(self) -> tuple[int, int]:
        """（作业号，尝试）。"""
        return self.job_id, self.attempt

    @property
    def is_holder(self) -> bool:
        """它结束就是作业在本节点上结束。"""
        return self.step in HOLDER_STEPS
