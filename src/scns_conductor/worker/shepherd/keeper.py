"""作业步的一生：启动、时限、终止、挂起、回收、记下结束、接管。时刻 boot 是开机以来的秒数，不受校时影响。"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from scns_conductor.worker.host import process_table
from scns_conductor.worker.host.cgroup import job_cgroup_name
from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.shepherd.launch_fault import LaunchFault
from scns_conductor.worker.shepherd.records import end_record, step_record
from scns_conductor.worker.shepherd.sampling import Sampler
from scns_conductor.worker.shepherd.task import JobGroup, Task
from scns_conductor.worker.shepherd.timers import Timers
from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS, JOB_KEY_VARIABLE, LaunchSpec
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer
from scns_conductor.worker.wire.usage import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scns_conductor.worker.shepherd.containment import Containment
    from scns_conductor.worker.shepherd.journal import Journal
    from scns_conductor.worker.shepherd.spawn import Spawner
    from scns_conductor.worker.wire.end_record import EndRecord

RECENT_KEYS = 5_000
FIRST_KILL_CHECK_S = 0.01
LAST_KILL_CHECK_S = 1.0
ADOPTED_TOLERANCE_S = 1.5
# SIGKILL 之后一分钟还在的进程（不可中断的 I/O）不再等：如实记下，由代理排空节点。
UNKILLABLE_AFTER_ROUNDS = 66


def log(message: str) -> None:
    """写进牧守进程自己的日志文件（标准错误）。"""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}", file=sys.stderr, flush=True)


class JobKeeper:
    """全部作业步的主人。新的结束记录先进 new_ends，日志落盘后由主循环推给代理。"""

    def __init__(
        self,
        journal: Journal,
        containment: Containment,
        spawner: Spawner,
        tasks_by_pid: dict[int, Task],
        watch_pidfd: Callable[[Task], None],
    ) -> None:
        self.journal = journal
        self.containment = containment
        self.groups: dict[tuple[int, int, int | None], JobGroup] = {}
        self.new_ends: list[EndRecord] = []
        self._spawner = spawner
        self._tasks_by_pid = tasks_by_pid
        self._watch_pidfd = watch_pidfd
        self._recent: dict[str, None] = {}
        self.timers = Timers()
        self._doomed_cgroups: list[Any] = []
        self.sampler = Sampler(self)

    # ---- 启动 ----

    def launch(self, specs: list[LaunchSpec]) -> list[LaunchAnswer]:
        """启动一批；同一个键只启动一次，重复的如实回答它现在的状态。失败变成结束记录。"""
        answers: list[LaunchAnswer] = []
        fresh: list[LaunchSpec] = []
        for spec in specs:
            known = self.state_of(spec.key)
            if known is not None:
                answers.append(LaunchAnswer(key=spec.key, state=known, duplicate=True))
                continue
            fresh.append(spec)
            self.journal.launch(step_record(spec))
        try:
            self.journal.flush()
        except OSError as error:
            fault = LaunchFault(f"节点的日志写不进去：{error.strerror}", on_node=True)
            for spec in fresh:
                answers.append(self._refuse(spec, fault))
            return answers
        try:
            answers.extend(self._launch_one(spec) for spec in fresh)
        finally:
            self._spawner.come_home()
        return answers

    def watch(self, task: Task) -> None:
        """接管一个活着的进程：它不是自己的子进程，由 watch_pidfd 去等。"""
        self._tasks_by_pid[task.pid or 0] = task
        self._watch_pidfd(task)
        self._arm(task)
        self.sampler.arm()

    def state_of(self, key: str) -> str | None:
        """running 或 ended；没见过（或早已确认、忘了）返回 None。"""
        if key in self.journal.running:
            return "running"
        return "ended" if key in self._recent else None

    def _launch_one(self, spec: LaunchSpec) -> LaunchAnswer:
        record = self.journal.running[spec.key]
        group_id = (spec.job_id, spec.attempt, spec.launch_id)
        # 旧版启动的作业没有 launch_id：它的作业步仍归它。
        group = self.groups.get(group_id)
        if group is None and spec.step not in HOLDER_STEPS:
            group = self.groups.get((spec.job_id, spec.attempt, None))
        is_new = group is None
        if group is None:
            group = self.groups[group_id] = JobGroup(*group_id)
        task = Task(record, group)
        try:
            if group.ending or group.cause is not None:
                raise LaunchFault("作业正在结束，不能再启动作业步")
            if is_new:
                group.cgroup = self._make_cgroup(spec)
            group.tasks[spec.step] = task
            spec.env[JOB_KEY_VARIABLE] = self.containment.marker_of(spec.key)
            if spec.script is not None:
                # 启动失败也要靠它收走；启动成了随进程号一起落盘。
                record.script_inode = self._spawner.scripts.write(spec)
            paths = self._limit_step(task, spec)
            pid = self._spawner.spawn(spec, group.cgroup, fresh=is_new, step_paths=paths)
        except Exception as error:  # 一份坏的说明只是一个作业的失败，不能带走看着全部作业的牧守进程
            if isinstance(error, LaunchFault):
                fault = error
            else:
                log(f"launch_error key={spec.key} error={error!r}")
                fault = LaunchFault(f"启动说明不能用：{error}")
            group.tasks[spec.step] = task
            task.fault = fault
            task.reaped = True
            record.started_unix_s, record.started_boot_s = time.time(), boot_now()
            if task.is_holder or not group.live_tasks:
                self.settle(group)
            else:
                self.emit_end(task)
            return LaunchAnswer(key=spec.key, state="ended", error=fault.message)
        started_boot_s, started_unix_s = boot_now(), time.time()
        task.pid = pid
        self._tasks_by_pid[pid] = task
        self.journal.update(
            spec.key,
            pid=pid,
            started_unix_s=started_unix_s,
            started_boot_s=started_boot_s,
            deadline_boot_s=started_boot_s + spec.time_limit_s if spec.time_limit_s is not None else None,
            cgroup=group.cgroup.name if group.cgroup else None,
            script_inode=record.script_inode,
        )
        self._arm(task)
        self.sampler.arm()
        return LaunchAnswer(key=spec.key, state="running", pid=pid, started_unix_s=started_unix_s)

    def _make_cgroup(self, spec: LaunchSpec) -> Any:
        try:
            return self.containment.create(spec)
        except FileExistsError:
            # 同一尝试上一次的目录还没删净（例如刚接管过）。
            return self.containment.attach(job_cgroup_name(spec.job_id, spec.attempt, spec.launch_id))
        except OSError as error:
            raise LaunchFault(f"节点不能为作业建立 cgroup：{error.strerror}", on_node=True) from error

    def _limit_step(self, task: Task, spec: LaunchSpec) -> list[str] | None:
        """作业步自己的内存上限：有 cgroup 时是它自己的目录，否则靠采样。"""
        cgroup = task.group.cgroup
        if spec.step_memory_bytes is None or cgroup is None:
            return None
        try:
            paths: list[str] | None = cgroup.limit_step(spec.step, spec.step_memory_bytes)
        except OSError as error:
            raise LaunchFault(f"节点不能为作业步设内存上限：{error.strerror}") from error
        task.cgroup_limited = paths is not None
        return paths

    def _refuse(self, spec: LaunchSpec, fault: LaunchFault) -> LaunchAnswer:
        record = self.journal.running[spec.key]
        task = Task(record, JobGroup(spec.job_id, spec.attempt, spec.launch_id))
        task.fault = fault
        record.started_unix_s, record.started_boot_s = time.time(), boot_now()
        self.emit_end(task)
        return LaunchAnswer(key=spec.key, state="ended", error=fault.message)

    # ---- 时限与终止 ----

    def _arm(self, task: Task) -> None:
        record = task.record
        assert record.started_boot_s is not None
        if record.warn_in_s is not None and not record.warned:
            task.timers.append(self.timers.at(record.started_boot_s + record.warn_in_s, self._warn_step, task))
        deadline_boot_s = record.deadline_boot_s
        if deadline_boot_s is None:
            return
        task.timers.append(self.timers.at(deadline_boot_s, self._on_deadline, task))
        if task.is_holder and record.warn_signal and not record.warned:
            task.timers.append(self.timers.at(deadline_boot_s - record.warn_before_s, self._on_warning, task))

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
            self.stop(task.group, "timeout", f"超过时限 {limit:g} 秒", task.record.grace_s)
        else:
            self.containment.signal(self.containment.step_pids(task), signal.SIGTERM)
            self.journal.update(task.key, cause="timeout")
            task.timers.append(self.timers.at(boot_now() + task.record.grace_s, self._kill_step, task))

    def _on_warning(self, task: Task) -> None:
        record = task.record
        if record.warn_signal is None or record.warned or not self._due(task, record.warn_before_s):
            return
        self.journal.update(task.key, warned=True)
        self.signal(task.group, record.warn_signal, "batch" if record.warn_batch_only else "job")

    def _warn_step(self, task: Task) -> None:
        """脚本在别的节点上：作业快到时限了，本节点上的作业步自己提醒。"""
        number = task.record.warn_signal
        if number is not None and not task.reaped and task.pid and not task.record.warned:
            self.journal.update(task.key, warned=True)
            self.containment.signal([task.pid], number)

    def _kill_step(self, task: Task) -> None:
        if not task.reaped:
            self.containment.signal(self.containment.step_pids(task), signal.SIGKILL)

    def stop(self, group: JobGroup, cause: str, message: str | None, grace_s: float | None) -> None:
        """结束一个作业：SIGTERM，grace_s 秒后 SIGKILL（None 取作业自己的）。重复调用只会提前，不会推迟。"""
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
            self.journal.update(task.key, cause=group.cause, message=group.message, kill_boot_s=kill_boot_s)
        if kill_boot_s > now:
            if group.suspended_boot_s is not None:
                self.resume(group)
            if first:
                pids = self.containment.pids(group)
                self.containment.signal(pids, signal.SIGTERM)
                self.containment.signal(pids, signal.SIGCONT)
            self.timers.at(kill_boot_s, self.force_kill, group)
        else:
            self.force_kill(group)

    def stop_step(self, task: Task, grace_s: float | None, *, cause: str = "killed") -> None:
        """只结束一个作业步。"""
        self.journal.update(task.key, cause=task.record.cause or cause)
        self.containment.signal(self.containment.step_pids(task), signal.SIGTERM)
        wait_s = float(task.record.grace_s) if grace_s is None else grace_s
        task.timers.append(self.timers.at(boot_now() + wait_s, self._kill_step, task))

    def force_kill(self, group: JobGroup) -> None:
        """杀尽，反复直到没有；占位进程的结束经回收路径到来。"""
        if self.groups.get(group.identity) is not group:
            return
        self.containment.kill(group)
        group.suspended_boot_s = None
        group.kill_rounds += 1
        if group.ending or not group.live_tasks:
            self.settle(group)
        else:
            self._again(group, self.force_kill)

    def _again(self, group: JobGroup, action: Callable[[Any], None]) -> None:
        delay = min(LAST_KILL_CHECK_S, FIRST_KILL_CHECK_S * 2**group.kill_rounds)
        self.timers.at(boot_now() + delay, action, group)

    def signal(self, group: JobGroup, number: int, target: str) -> int:
        """target：batch 只给脚本自身，steps 给各作业步，step:N 给一个，all 给全部进程；返回送到几个进程。

        job 是 Slurm 的缺省：有作业步时只给作业步，不给脚本（没有处理它的 shell 会被它杀死）；没有时给全部进程。
        一个作业步的主人会把信号转给它的任务；SIGKILL 它转不了，按结束这一步办：先 SIGTERM，宽限之后杀尽。
        """
        if target == "batch":
            return self.containment.signal(
                [task.pid for task in group.live_tasks if task.is_holder and task.pid], number
            )
        if target.startswith("step:"):
            task = group.tasks.get(target.removeprefix("step:"))
            if task is None or task.reaped or task.pid is None:
                return 0
            if number == signal.SIGKILL:
                self.stop_step(task, None)
                return 1
            return self.containment.signal([task.pid], number)
        if target in ("steps", "job"):
            # 只给作业步的主人：由它转，任务各收到一次。
            owners = [task.pid for task in group.live_tasks if not task.is_holder and task.pid]
            if owners or target == "steps":
                return self.containment.signal(owners, number)
        return self.containment.signal(self.containment.pids(group), number)

    def disown(self, group: JobGroup) -> None:
        """数据库不认识它了，留着它跑完；此后不指明 launch_id 的操作都碰不到它。"""
        group.foreign = True
        for task in group.live_tasks:
            self.journal.update(task.key, foreign=True)

    def suspend(self, group: JobGroup) -> None:
        """挂起；挂起的时间不计入时限。"""
        if group.suspended_boot_s is not None or group.ending or group.cause is not None:
            return
        group.suspended_boot_s = boot_now()
        for task in group.live_tasks:
            self.journal.update(task.key, suspended_boot_s=group.suspended_boot_s)
        if not self.containment.suspend(group):
            self.timers.at(boot_now() + FIRST_KILL_CHECK_S, self._freeze_again, group)

    def _freeze_again(self, group: JobGroup) -> None:
        if group.suspended_boot_s is not None and not self.containment.suspend(group):
            self.timers.at(boot_now() + FIRST_KILL_CHECK_S, self._freeze_again, group)

    def resume(self, group: JobGroup) -> None:
        """恢复，时限顺延挂起的时间。"""
        if group.suspended_boot_s is None:
            return
        pause_s = boot_now() - group.suspended_boot_s
        group.suspended_boot_s = None
        self.containment.resume(group)
        for task in group.live_tasks:
            deadline_s = task.record.deadline_boot_s
            moved_s = deadline_s + pause_s if deadline_s is not None else None
            self.journal.update(task.key, suspended_boot_s=None, deadline_boot_s=moved_s)
            self._arm(task)

    def set_time_limit(self, group: JobGroup, limit_s: float | None) -> None:
        """改正在运行的作业的时限（从它的开始算起）；已经超过的立即按超时处理。"""
        holder = group.holder
        if holder is None or holder.reaped or holder.record.time_limit_s == limit_s:
            return
        record = holder.record
        # 挂起过的作业时限已经顺延，顺延的部分要保留。
        start_s = record.started_boot_s
        if record.deadline_boot_s is not None and record.time_limit_s is not None:
            start_s = record.deadline_boot_s - record.time_limit_s
        deadline_s = start_s + limit_s if limit_s is not None and start_s is not None else None
        self.journal.update(holder.key, time_limit_s=limit_s, deadline_boot_s=deadline_s)
        self._arm(holder)

    # ---- 结束 ----

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
            task = self._tasks_by_pid.pop(pid, None)
            if task is None:
                self.containment.reaped_orphan(pid, usage)
                continue
            task.status = status
            task.usage = usage
            task.fault = self._spawner.take_fault(pid)
            finished.append(task)
        for task in finished:
            self._task_gone(task)

    def adopted_gone(self, task: Task) -> None:
        """接管来的进程退出了；还没有人回收它就看得见退出码，否则已无从得知。"""
        self._tasks_by_pid.pop(task.pid or 0, None)
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
        self.journal.note(task.key, ended_unix_s=time.time(), ended_boot_s=boot_now())
        group = task.group
        if task.is_holder and self._steps_in_grace(group):
            # 占位的进程一收到 SIGTERM 就死了，作业步还有它们的宽限：等它们做完，或到时由 force_kill 杀尽。
            group.ending = True
        elif task.is_holder or not group.live_tasks:
            group.ending = group.ending or task.is_holder
            self.settle(group)
        else:
            self.emit_end(task)
            self.containment.signal(self.containment.step_pids(task), signal.SIGKILL)
        ended = self.journal.running.get(task.key)
        if ended is not None:
            # 还有别的进程没有死，结束记录稍后才写：先记下这一个何时结束。
            self.journal.update(task.key, ended_unix_s=ended.ended_unix_s, ended_boot_s=ended.ended_boot_s)

    def _steps_in_grace(self, group: JobGroup) -> bool:
        """已经请它结束、还没有到杀的时候，而且还有作业步在跑。"""
        now = boot_now()
        return group.cause is not None and any((task.record.kill_boot_s or now) > now for task in group.live_tasks)

    def settle(self, group: JobGroup) -> None:
        """占位进程没了：杀尽余下的，然后写下结束、删掉 cgroup 与脚本。"""
        if self.groups.get(group.identity) is not group:
            return
        group.ending = True
        # 接管来的又没有 cgroup，只能靠环境里的标记认：正在 exec 的进程此刻环境是空的，过一会儿再看一遍。
        unsure = group.adopted and group.cgroup is None and group.kill_rounds == 0
        if (unsure or self.containment.has_survivors(group)) and group.kill_rounds < UNKILLABLE_AFTER_ROUNDS:
            group.kill_rounds += 1
            for task in group.live_tasks:
                # 作业先结束了：还在跑的作业步是随它取消的，不是自己失败。
                if not task.record.cause:
                    self.journal.update(task.key, cause="cancel")
            self._disown(group)
            self.containment.kill(group)
            self._again(group, self.settle)
            return
        if group.live_tasks and group.kill_rounds < UNKILLABLE_AFTER_ROUNDS:
            group.kill_rounds += 1
            self._again(group, self.settle)
            return
        del self.groups[group.identity]
        for task in sorted(group.tasks.values(), key=lambda task: task.is_holder):
            if task.key in self.journal.running:
                self.emit_end(task)
        if group.cgroup is not None:
            self.drop_cgroup(group.cgroup)

    def _disown(self, group: JobGroup) -> None:
        """接管时没认出来（正在 exec）的进程也在要杀的之中：先记下它算 unseen，免得下一个牧守进程看见它死于 SIGKILL。"""
        unseen = [task for task in group.tasks.values() if group.adopted and task.reaped and task.status is None]
        for task in unseen:
            if not task.record.cause:
                self.journal.update(task.key, cause="unseen")
        if unseen:
            with contextlib.suppress(OSError):
                self.journal.flush()

    def drop_cgroup(self, cgroup: Any) -> None:
        if not cgroup.remove():
            self._doomed_cgroups.append(cgroup)
            if len(self._doomed_cgroups) == 1:
                self.timers.at(boot_now() + 0.05, self._drop_doomed, None)

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
            self.timers.at(boot_now() + LAST_KILL_CHECK_S, self._drop_doomed, None)

    def emit_end(self, task: Task) -> None:
        record, group = task.record, task.group
        self.timers.cancel(task.timers)
        task.timers.clear()
        if record.script_path:
            # 没有 cgroup 就不能确知没有逃走的后代还在读它。
            quiet = group.cgroup is not None and group.kill_rounds < UNKILLABLE_AFTER_ROUNDS
            try:
                self._spawner.scripts.discard(record.script_path, record.script_inode, reusable=quiet)
            except OSError as error:
                log(f"script_unlink_failed path={record.script_path} error={error.strerror}")
        if task.is_holder:
            task.usage.add(group.orphan_usage)
            task.usage.raise_to(group.sampled)
        else:
            task.usage.raise_to(task.sampled)
        end = end_record(
            task,
            boot_id=self.journal.boot_id,
            out_of_memory=self._was_out_of_memory(task),
            unkillable=group.kill_rounds >= UNKILLABLE_AFTER_ROUNDS,
        )
        if task.cgroup_limited and group.cgroup is not None:
            group.cgroup.drop_step(task.step)
        self.new_ends.append(self.journal.end(end))
        self.remember(task.key)

    def _was_out_of_memory(self, task: Task) -> bool:
        group = task.group
        if group.cause == "oom" or task.record.cause == "oom":
            return True
        if group.cgroup is None:
            return False
        try:
            kills = group.cgroup.oom_kills()
            if task.cgroup_limited:
                kills += group.cgroup.oom_kills(task.step)
            return kills > 0
        except OSError as error:
            log(f"oom_events_unreadable job={group.job_id} error={error.strerror}")
            return False

    def remember(self, key: str) -> None:
        self._recent[key] = None
        if len(self._recent) > RECENT_KEYS:
            del self._recent[next(iter(self._recent))]
