"""牧守进程写下的记录：启动时记什么、结束时记什么。纯计算。"""

from __future__ import annotations

import os
import time

from scns_conductor.worker.host.process_table import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scns_conductor.worker.shepherd.task import Task
    from scns_conductor.worker.wire.launch_spec import LaunchSpec


def journal_record(spec: LaunchSpec) -> dict[str, Any]:
    """接管、时限与结束所需的一切；脚本与环境不进日志。"""
    names = (
        "job_id",
        "attempt",
        "launch_id",
        "step",
        "uid",
        "gid",
        "groups",
        "stdout",
        "stderr",
        "script_path",
        "time_limit_s",
        "grace_s",
        "warn_signal",
        "warn_before_s",
        "warn_in_s",
        "warn_batch_only",
        "memory_bytes",
        "step_memory_bytes",
        "pids_max",
    )
    record: dict[str, Any] = {"key": spec.key}
    for name in names:
        value = getattr(spec, name)
        if value is not None:
            record[name] = value
    if spec.stderr is None:
        record["stderr"] = spec.stdout
    return record


def _outcome(task: Task, out_of_memory: bool) -> dict[str, Any]:
    """退出码、信号、原因、说明。exit_status 为 None 表示没有人看见它怎样结束。"""
    group = task.group
    if task.fault is not None:
        return {
            "exit_status": task.fault.status,
            "exit_signal": 0,
            "cause": "launch_failed",
            "on_node": task.fault.on_node,
            "message": task.fault.message,
        }
    status: int | None = None
    number: int | None = None
    if task.status is not None:
        number = os.WTERMSIG(task.status) if os.WIFSIGNALED(task.status) else 0
        status = os.WEXITSTATUS(task.status) if os.WIFEXITED(task.status) else 0
    message = group.message
    if out_of_memory:
        cause = "oom"
        message = message if group.cause == "oom" else "内存超限，被内核杀死"
    else:
        cause = group.cause or task.record.get("cause") or ("exit" if task.status is not None else "unseen")
        if cause == "unseen":
            message = "牧守进程不在期间作业结束，退出码未知"
        elif cause == "reboot":
            message = "节点重启，作业随之终止"
    return {"exit_status": status, "exit_signal": number, "cause": cause, "message": message}


def end_record(task: Task, *, boot_id: str | None, out_of_memory: bool) -> dict[str, Any]:
    """一个作业步的结束；时刻取回收它的那一刻，没有则取现在。"""
    record, group = task.record, task.group
    now_wall, now_boot = time.time(), boot_now()
    return {
        "key": task.key,
        "job_id": group.job_id,
        "attempt": group.attempt,
        "launch_id": group.launch_id,
        "step": task.step,
        "pid": task.pid,
        "started_at": record.get("at", now_wall),
        "started_boot": record.get("boot", now_boot),
        "ended_at": record.get("ended_at", now_wall),
        "ended_boot": record.get("ended_boot", now_boot),
        "boot_id": boot_id,
        "usage": task.usage.to_wire(),
        **_outcome(task, out_of_memory),
        **{name: record.get(name) for name in ("uid", "gid", "groups", "stdout", "stderr")},
    }
