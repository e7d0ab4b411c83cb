"""对一个作业做的事：请它结束、发信号、挂起与恢复。"""

from __future__ import annotations

import signal

from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.shepherd.job_endings import FIRST_KILL_CHECK_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.task import JobGroup, Task


class JobCommands:
    """JobKeeper 的一部分。"""

    def __init__(self, keeper: JobKeeper) -> None:
        self._keeper = keeper

    def kill_step(self, task: Task) -> None:
        """宽限过了还在的作业步。"""
        if not task.reaped:
            self._keeper.containment.signal(self._keeper.containment.step_pids(task), signal.SIGKILL)

    def stop(self, group: JobGroup, cause: str, message: str | None, grace_s: float | None) -> None:
        """结束一个作业：SIGTERM，grace_s 秒后 SIGKILL（None 取作业自己的）。重复调用只会提前，不会推迟。"""
        if group.waiting:
            self._keeper.chains.withdraw(group, cause, message)
            return
        now = boot_now()
        if grace_s is None:
            grace_s = group.record.grace_s if group.record is not None else 0.0
        kill_boot_s = now + grace_s
        first = group.cause is None
        if first:
            group.cause, group.message = cause, message
        for task in group.live_tasks:
            previous_s = task.record.kill_boot_s
            kill_boot_s = min(kill_boot_s, previous_s) if previous_s is not None else kill_boot_s
            self._keeper.journal.update(task.key, cause=group.cause, message=group.message, kill_boot_s=kill_boot_s)
        if kill_boot_s > now:
            if group.suspended_boot_s is not None:
                self.resume(group)
            if first:
                pids = self._keeper.containment.pids(group)
                self._keeper.containment.signal(pids, signal.SIGTERM)
                self._keeper.containment.signal(pids, signal.SIGCONT)
            group.timers.append(self._keeper.timers.at(kill_boot_s, self.force_kill, group))
        else:
            self.force_kill(group)

    def stop_step(self, task: Task, grace_s: float | None, *, cause: str = "killed") -> None:
        """只结束一个作业步。"""
        self._keeper.journal.update(task.key, cause=task.record.cause or cause)
        self._keeper.containment.signal(self._keeper.containment.step_pids(task), signal.SIGTERM)
        wait_s = float(task.record.grace_s) if grace_s is None else grace_s
        task.timers.append(self._keeper.timers.at(boot_now() + wait_s, self.kill_step, task))

    def kill_tasks(self, task: Task) -> None:
        """内存超限的一步：任务全部 SIGKILL，它的主人留下来报告结局。"""
        self._keeper.journal.update(task.key, cause="oom")
        pids = self._keeper.containment.step_pids(task) - {task.pid}
        self._keeper.containment.signal(pids, signal.SIGKILL)

    def force_kill(self, group: JobGroup) -> None:
        """杀尽，反复直到没有；占位进程的结束经回收路径到来。"""
        if self._keeper.groups.get(group.identity) is not group:
            return
        self._keeper.containment.kill(group)
        group.suspended_boot_s = None
        group.kill_rounds += 1
        if group.ending or not group.live_tasks:
            self._keeper.endings.settle(group)
        else:
            self._keeper.endings.again(group, self.force_kill)

    def signal(self, group: JobGroup, number: int, target: str) -> int:
        """target：batch 只给脚本自身，steps 给各作业步，step:N 给一个，all 给全部进程；返回送到几个进程。

        job 是 Slurm 的缺省：有作业步时只给作业步，不给脚本（没有处理它的 shell 会被它杀死）；没有时给全部进程。
        一个作业步的主人会把信号转给它的任务；SIGKILL 它转不了，按结束这一步办：先 SIGTERM，宽限之后杀尽。
        """
        if target == "batch":
            return self._keeper.containment.signal(
                [task.pid for task in group.live_tasks if task.is_holder and task.pid], number
            )
        if target.startswith("step:"):
            task = group.tasks.get(target.removeprefix("step:"))
            if task is None or task.reaped or task.pid is None:
                return 0
            if number == signal.SIGKILL:
                self.stop_step(task, None)
                return 1
            return self._keeper.containment.signal([task.pid], number)
        if target in ("steps", "job"):
            # 只给作业步的主人：由它转，任务各收到一次。
            owners = [task.pid for task in group.live_tasks if not task.is_holder and task.pid]
            if owners or target == "steps":
                return self._keeper.containment.signal(owners, number)
        return self._keeper.containment.signal(self._keeper.containment.pids(group), number)

    def disown(self, group: JobGroup) -> None:
        """数据库不认识它了，留着它跑完；此后不指明 launch_id 的操作都碰不到它。还没有轮到的不再启动。"""
        if group.waiting:
            self._keeper.chains.withdraw(group, "stale", None)
            return
        group.foreign = True
        for task in group.live_tasks:
            self._keeper.journal.update(task.key, foreign=True)

    def suspend(self, group: JobGroup) -> None:
        """挂起；挂起的时间不计入时限。"""
        if group.suspended_boot_s is not None or group.ending or group.cause is not None:
            return
        group.suspended_boot_s = boot_now()
        for task in group.live_tasks:
            self._keeper.journal.update(task.key, suspended_boot_s=group.suspended_boot_s)
        if group.waiting:
            return
        if not self._keeper.containment.suspend(group):
            self._keeper.timers.at(boot_now() + FIRST_KILL_CHECK_S, self._freeze_again, group)

    def _freeze_again(self, group: JobGroup) -> None:
        if group.suspended_boot_s is not None and not self._keeper.containment.suspend(group):
            self._keeper.timers.at(boot_now() + FIRST_KILL_CHECK_S, self._freeze_again, group)

    def resume(self, group: JobGroup) -> None:
        """恢复，时限顺延挂起的时间。"""
        if group.suspended_boot_s is None:
            return
        pause_s = boot_now() - group.suspended_boot_s
        group.suspended_boot_s = None
        if group.waiting:
            for task in group.live_tasks:
                self._keeper.journal.update(task.key, suspended_boot_s=None)
            return
        self._keeper.containment.resume(group)
        for task in group.live_tasks:
            deadline_s = task.record.deadline_boot_s
            moved_s = deadline_s + pause_s if deadline_s is not None else None
            self._keeper.journal.update(task.key, suspended_boot_s=None, deadline_boot_s=moved_s)
            self._keeper.deadlines.arm(task)
