"""牧守进程写下的记录：启动时记什么、结束时记什么。纯计算。"""

from __future__ import annotations

import os
import time

from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from scns_conductor.worker.shepherd.task import Task
    from scns_conductor.worker.wire.launch_spec import LaunchSpec


class StepRecord(Record):
    """启动了还没有结束的一个作业步：接管、时限与结束所需的一切；脚本与环境不进日志。

    启动之前写下说明里的；启动之后补上进程号、何时（日历秒与开机秒）、时限到点、所在的 cgroup。
    chain 是接力的链，waiting 是还没有轮到它（启动之前改成假，落了盘才启动）。
    script_aside：脚本的目录也许不答话，牧守进程自己不碰它。
    kill_boot_s 是 SIGKILL 的时刻，suspended_boot_s 是挂起的时刻；cause、message 是为什么要它结束；warned 是提醒过了。
    """

    old_names: ClassVar[dict[str, str]] = {
        "started_unix_s": "at",
        "started_boot_s": "boot",
        "deadline_boot_s": "deadline",
        "kill_boot_s": "kill_boot",
        "suspended_boot_s": "suspended_boot",
        "ended_unix_s": "ended_at",
        "ended_boot_s": "ended_boot",
    }

    key: str
    job_id: int
    attempt: int
    step: str
    launch_id: int | None = None
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None
    stdout: str | None = None
    stderr: str | None = None
    script_path: str | None = None
    script_aside: bool = False
    time_limit_s: float | None = None
    grace_s: float = 0.0
    warn_signal: int | None = None
    warn_before_s: float = 60.0
    warn_in_s: float | None = None
    warn_batch_only: bool = False
    memory_bytes: int | None = None
    step_memory_bytes: int | None = None
    pids_max: int | None = None
    pid: int | None = None
    started_unix_s: float | None = None
    started_boot_s: float | None = None
    deadline_boot_s: float | None = None
    cgroup: str | None = None
    script_inode: int | None = None
    warned: bool = False
    cause: str | None = None
    message: str | None = None
    kill_boot_s: float | None = None
    suspended_boot_s: float | None = None
    foreign: bool = False
    ended_unix_s: float | None = None
    ended_boot_s: float | None = None
    chain: int | None = None
    waiting: bool | None = None
    oom_kill_step: bool | None = None

    @property
    def group_id(self) -> tuple[int, int, int | None]:
        """它的作业在 JobKeeper.groups 里的键。"""
        return self.job_id, self.attempt, self.launch_id


def step_record(spec: LaunchSpec) -> StepRecord:
    """将要启动的。"""
    return StepRecord(
        key=spec.key,
        job_id=spec.job_id,
        attempt=spec.attempt,
        step=spec.step,
        launch_id=spec.launch_id,
        uid=spec.uid,
        gid=spec.gid,
        groups=spec.groups,
        stdout=spec.stdout,
        stderr=spec.stdout if spec.stderr is None else spec.stderr,
        script_path=spec.script_path,
        script_aside=bool(spec.opens_aside),
        time_limit_s=spec.time_limit_s,
        grace_s=spec.grace_s,
        warn_signal=spec.warn_signal,
        warn_before_s=spec.warn_before_s,
        warn_in_s=spec.warn_in_s,
        warn_batch_only=spec.warn_batch_only,
        memory_bytes=spec.memory_bytes,
        step_memory_bytes=spec.step_memory_bytes,
        pids_max=spec.pids_max,
        chain=spec.chain,
        waiting=None if spec.chain is None else True,
        oom_kill_step=spec.oom_kill_step,
    )


def end_record(task: Task, *, boot_id: str | None, out_of_memory: bool, unkillable: bool) -> EndRecord:
    """一个作业步的结束；时刻取回收它的那一刻，没有则取现在。"""
    record = task.record
    now_unix_s, now_boot_s = time.time(), boot_now()
    end = EndRecord(
        key=task.key,
        job_id=record.job_id,
        attempt=record.attempt,
        launch_id=task.group.launch_id,
        step=task.step,
        cause="",
        pid=task.pid,
        started_unix_s=now_unix_s if record.started_unix_s is None else record.started_unix_s,
        started_boot_s=now_boot_s if record.started_boot_s is None else record.started_boot_s,
        ended_unix_s=now_unix_s if record.ended_unix_s is None else record.ended_unix_s,
        ended_boot_s=now_boot_s if record.ended_boot_s is None else record.ended_boot_s,
        boot_id=boot_id,
        usage=task.usage,
        unkillable=unkillable,
        uid=record.uid,
        gid=record.gid,
        groups=record.groups,
        stdout=record.stdout,
        stderr=record.stderr,
        queued=None if record.chain is None else True,
    )
    _tell_outcome(end, task, out_of_memory)
    return end


def _tell_outcome(end: EndRecord, task: Task, out_of_memory: bool) -> None:
    """退出码、信号、原因、说明。exit_status 为 None 表示没有人看见它怎样结束。"""
    group = task.group
    if task.fault is not None:
        end.cause, end.message, end.on_node = "launch_failed", task.fault.message, task.fault.on_node
        end.exit_status, end.exit_signal = task.fault.status, 0
        return
    if task.status is not None:
        end.exit_signal = os.WTERMSIG(task.status) if os.WIFSIGNALED(task.status) else 0
        end.exit_status = os.WEXITSTATUS(task.status) if os.WIFEXITED(task.status) else 0
    end.message = group.message
    if out_of_memory:
        end.cause = "oom"
        end.message = group.message if group.cause == "oom" else "内存超限，被内核杀死"
        return
    end.cause = group.cause or task.record.cause or ("exit" if task.status is not None else "unseen")
    if end.cause == "unseen":
        end.message = "牧守进程不在期间作业结束，退出码未知"
    elif end.cause == "reboot":
        end.message = "节点重启，作业随之终止"
