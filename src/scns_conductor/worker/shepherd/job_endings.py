"""作业步怎样结束：回收退出的进程，杀尽余下的，写下结束，收走 cgroup 与脚本。"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from scns_conductor.worker.host import process_table
from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.shepherd.own_log import log
from scns_conductor.worker.shepherd.records import end_record
from scns_conductor.worker.wire.process_usage import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.task import JobGroup, Task

FIRST_KILL_CHECK_S = 0.01
LAST_KILL_CHECK_S = 1.0
ADOPTED_TOLERANCE_S = 1.5
# SIGKILL 之后一分钟还在的进程（不可中断的 I/O）不再等：如实记下，由代理排空节点。
UNKILLABLE_AFTER_ROUNDS = 66


class JobEndings:
    """JobKeeper 的一部分。"""

    def __init__(self, keeper: JobKeeper) -> None:
        self._keeper = keeper
        self._doomed_cgroups: list[Any] = []

    def reap(self) -> None:
        """回收全部已退出的子进程。读写字节要在回收之前从 /proc 读。"""
        finished: list[Task] = []
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if info is None:
                break
            io_bytes = process_table.read_io_bytes(info.si_pid)
            meter = process_table.OwnIoMeter() if io_bytes is None else None
            pid, status, rusage = os.wait4(info.si_pid, 0)
            if meter is not None:
                io_bytes = meter.difference()
            usage = Usage()
            usage.user_s, usage.system_s, usage.max_rss_kb = rusage.ru_utime, rusage.ru_stime, rusage.ru_maxrss
            if io_bytes is not None:
                usage.read_bytes, usage.written_bytes = io_bytes
            self._keeper.note_scripts()
            task = self._keeper.tasks_by_pid.pop(pid, None)
            if task is None:
                if not self._keeper.sweeper.reaped(pid):
                    self._keeper.containment.reaped_orphan(pid, usage)
                continue
            task.status = status
            task.usage = usage
            task.fault = self._keeper.spawner.take_fault(pid)
            if status != 0 and task.group.cause is None and process_table.machine_stops():
                # 不是它自己失败：关机的 SIGTERM 先到它。
                task.group.cause = "reboot"
            finished.append(task)
        for task in finished:
            self._task_gone(task)

    def adopted_gone(self, task: Task) -> None:
        """接管来的进程退出了；还没有人回收它就看得见退出码，否则已无从得知。"""
        self._keeper.tasks_by_pid.pop(task.pid or 0, None)
        stat = process_table.read_stat(task.pid or 0)
        started_boot_s = task.record.started_boot_s or 0.0
        if stat is not None and abs(stat.start_s - started_boot_s) <= ADOPTED_TOLERANCE_S:
            self.read_zombie(task, stat)
        self._task_gone(task)

    def read_zombie(self, task: Task, stat: process_table.ProcessStat) -> None:
        """从僵尸的 /proc 记录里取退出码与 CPU 时间；看不到就什么也不做。"""
        status = process_table.zombie_status(stat, task.record.uid)
        if status is not None:
            task.status = status
            task.usage.user_s, task.usage.system_s = stat.user_s, stat.system_s

    def _task_gone(self, task: Task) -> None:
        task.reaped = True
        self._keeper.journal.note(task.key, ended_unix_s=time.time(), ended_boot_s=boot_now())
        group = task.group
        if task.is_holder and self._steps_in_grace(group):
            # 占位的进程一收到 SIGTERM 就死了，作业步还有它们的宽限：等它们做完，或到时由 force_kill 杀尽。
            group.ending = True
        elif task.is_holder or not group.live_tasks:
            group.ending = group.ending or task.is_holder
            self.settle(group)
        else:
            self.emit_end(task)
            self._keeper.containment.signal(self._keeper.containment.step_pids(task), signal.SIGKILL)
        ended = self._keeper.journal.running.get(task.key)
        if ended is not None:
            # 还有别的进程没有死，结束记录稍后才写：先记下这一个何时结束。
            self._keeper.journal.update(task.key, ended_unix_s=ended.ended_unix_s, ended_boot_s=ended.ended_boot_s)

    def _steps_in_grace(self, group: JobGroup) -> bool:
        """已经请它结束、还没有到杀的时候，而且还有作业步在跑。"""
        now = boot_now()
        return group.cause is not None and any((task.record.kill_boot_s or now) > now for task in group.live_tasks)

    def settle(self, group: JobGroup) -> None:
        """占位进程没了：杀尽余下的，然后写下结束、删掉 cgroup 与脚本。"""
        if self._keeper.groups.get(group.identity) is not group:
            return
        group.ending = True
        # 接管来的又没有 cgroup，只能靠环境里的标记认：正在 exec 的进程此刻环境是空的，过一会儿再看一遍。
        unsure = group.adopted and group.cgroup is None and group.kill_rounds == 0
        if (unsure or self._keeper.containment.has_survivors(group)) and group.kill_rounds < UNKILLABLE_AFTER_ROUNDS:
            group.kill_rounds += 1
            for task in group.live_tasks:
                # 作业先结束了：还在跑的作业步是随它取消的，不是自己失败。
                if not task.record.cause:
                    self._keeper.journal.update(task.key, cause="cancel")
            self._disown(group)
            self._keeper.containment.kill(group)
            self.again(group, self.settle)
            return
        if group.live_tasks and group.kill_rounds < UNKILLABLE_AFTER_ROUNDS:
            group.kill_rounds += 1
            self.again(group, self.settle)
            return
        del self._keeper.groups[group.identity]
        self._keeper.timers.cancel(group.timers)
        last = [task for task in group.tasks.values() if task.key in self._keeper.journal.running]
        for task in sorted(last, key=lambda task: task.is_holder):
            self.emit_end(task)
        if self._keeper.chains.gone(group):
            self._keeper.followed += len(last)
        # 空了的目录不急：链上的下一个先跑起来。
        if group.cgroup is not None:
            self.drop_cgroup(group.cgroup)

    def left_behind(self, group: JobGroup) -> bool:
        """有杀不掉的进程，还占着它的那一份。"""
        return group.kill_rounds >= UNKILLABLE_AFTER_ROUNDS

    def _disown(self, group: JobGroup) -> None:
        """接管时没认出来（正在 exec）的进程也在要杀的之中：先记下它算 unseen，免得下一个牧守进程看见它死于 SIGKILL。"""
        unseen = [task for task in group.tasks.values() if group.adopted and task.reaped and task.status is None]
        for task in unseen:
            if not task.record.cause:
                self._keeper.journal.update(task.key, cause="unseen")
        if unseen:
            with contextlib.suppress(OSError):
                self._keeper.journal.flush()

    def drop_cgroup(self, cgroup: Any) -> None:
        if not cgroup.remove():
            self._doomed_cgroups.append(cgroup)
            if len(self._doomed_cgroups) == 1:
                self._keeper.timers.at(boot_now() + 0.05, self._drop_doomed, None)

    @property
    def has_doomed_cgroups(self) -> bool:
        """还有没删掉的 cgroup（里面的进程刚死、还没有消失）；这时退出会把目录留下。"""
        return bool(self._doomed_cgroups)

    def _drop_doomed(self, _: None) -> None:
        doomed, self._doomed_cgroups = self._doomed_cgroups, []
        for cgroup in doomed:
            cgroup.kill()
            if not cgroup.remove():
                self._doomed_cgroups.append(cgroup)
        if self._doomed_cgroups:
            self._keeper.timers.at(boot_now() + LAST_KILL_CHECK_S, self._drop_doomed, None)

    def emit_end(self, task: Task) -> None:
        record, group = task.record, task.group
        self._keeper.timers.cancel(task.timers)
        task.timers.clear()
        if record.script_path and (record.script_aside or self._keeper.sweeper.needed):
            self._keeper.sweeper.add(record.script_path, record.script_inode)
        elif record.script_path:
            # 没有 cgroup 就不能确知没有逃走的后代还在读它。
            quiet = group.cgroup is not None and group.kill_rounds < UNKILLABLE_AFTER_ROUNDS
            try:
                self._keeper.spawner.scripts.discard(record.script_path, record.script_inode, reusable=quiet)
            except OSError as error:
                log(f"script_unlink_failed path={record.script_path} error={error.strerror}")
        if task.is_holder:
            task.usage.add(group.orphan_usage)
            task.usage.raise_to(group.sampled)
        else:
            task.usage.raise_to(task.sampled)
        end = end_record(
            task,
            boot_id=self._keeper.journal.boot_id,
            out_of_memory=self._was_out_of_memory(task),
            unkillable=self.left_behind(group),
        )
        if task.cgroup_limited and group.cgroup is not None:
            group.cgroup.drop_step(task.step)
        self._keeper.new_ends.append(self._keeper.journal.end(end))
        self._keeper.remember(task.key)

    def _was_out_of_memory(self, task: Task) -> bool:
        group = task.group
        if group.cause == "oom" or task.record.cause == "oom":
            return True
        return self.oom_kills(task) > 0

    def oom_kills(self, task: Task) -> int:
        """它所在的控制组里，因内存超限的杀死有过几次；看不到是 0。"""
        cgroup = task.group.cgroup
        if cgroup is None:
            return 0
        try:
            return cgroup.oom_kills() + (cgroup.oom_kills(task.step) if task.cgroup_limited else 0)
        except OSError as error:
            log(f"oom_events_unreadable job={task.group.job_id} error={error.strerror}")
            return 0

    def again(self, group: JobGroup, action: Callable[[Any], None]) -> None:
        """过一会儿再看一遍；看过的次数越多隔得越久。"""
        delay = min(LAST_KILL_CHECK_S, FIRST_KILL_CHECK_S * 2**group.kill_rounds)
        self._keeper.timers.at(boot_now() + delay, action, group)
