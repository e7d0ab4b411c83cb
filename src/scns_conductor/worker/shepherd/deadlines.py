"""时限与到时限之前的提醒。时刻都是开机秒数，不受校时影响。"""

from __future__ import annotations

import signal

from scns_conductor.worker.host.process_table import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.task import Task


class Deadlines:
    """JobKeeper 的一部分。"""

    def __init__(self, keeper: JobKeeper) -> None:
        self._keeper = keeper

    def arm(self, task: Task) -> None:
        """排好一个作业步的时限与提醒；时限改了、顺延了再排一次，旧的到点时看记录里现在的。"""
        record = task.record
        assert record.started_boot_s is not None
        if record.warn_in_s is not None and not record.warned:
            task.timers.append(self._keeper.timers.at(record.started_boot_s + record.warn_in_s, self._warn_step, task))
        deadline_boot_s = record.deadline_boot_s
        if deadline_boot_s is None:
            return
        task.timers.append(self._keeper.timers.at(deadline_boot_s, self._on_deadline, task))
        if task.is_holder and record.warn_signal and not record.warned:
            task.timers.append(self._keeper.timers.at(deadline_boot_s - record.warn_before_s, self._on_warning, task))

    def _due(self, task: Task, before_s: float) -> bool:
        """挂起会推迟时限：旧的定时器到点时，以记录里现在的时限为准。"""
        return (
            not task.reaped
            and task.record.deadline_boot_s is not None
            and task.group.suspended_boot_s is None
            and boot_now() >= task.record.deadline_boot_s - before_s - 0.001
        )

    def _on_deadline(self, task: Task) -> None:
        if not self._due(task, 0):
            return
        limit = task.record.time_limit_s
        if task.is_holder:
            self._keeper.commands.stop(task.group, "timeout", f"超过时限 {limit:g} 秒", task.record.grace_s)
        else:
            self._keeper.containment.signal(self._keeper.containment.step_pids(task), signal.SIGTERM)
            self._keeper.journal.update(task.key, cause="timeout")
            task.timers.append(
                self._keeper.timers.at(boot_now() + task.record.grace_s, self._keeper.commands.kill_step, task)
            )

    def _on_warning(self, task: Task) -> None:
        record = task.record
        if record.warn_signal is None or record.warned or not self._due(task, record.warn_before_s):
            return
        self._keeper.journal.update(task.key, warned=True)
        self._keeper.commands.signal(task.group, record.warn_signal, "batch" if record.warn_batch_only else "job")

    def _warn_step(self, task: Task) -> None:
        """脚本在别的节点上：作业快到时限了，本节点上的作业步自己提醒。"""
        number = task.record.warn_signal
        if number is not None and not task.reaped and task.pid and not task.record.warned:
            self._keeper.journal.update(task.key, warned=True)
            self._keeper.containment.signal([task.pid], number)

    def set_time_limit(self, task: Task | None, limit_s: float | None) -> None:
        """改正在运行的作业（它的 holder）、作业步的时限（从它的开始算起）；已经超过的立即按超时处理。"""
        if task is None or task.reaped or task.record.time_limit_s == limit_s:
            return
        record = task.record
        if task.group.waiting:
            self._keeper.journal.update(task.key, time_limit_s=limit_s)
            return
        # 挂起过的作业时限已经顺延，顺延的部分要保留。
        start_s = record.started_boot_s
        if record.deadline_boot_s is not None and record.time_limit_s is not None:
            start_s = record.deadline_boot_s - record.time_limit_s
        deadline_s = start_s + limit_s if limit_s is not None and start_s is not None else None
        self._keeper.journal.update(task.key, time_limit_s=limit_s, deadline_boot_s=deadline_s)
        self.arm(task)
