"""全部作业步的主人：启动在这里，时限、终止、结束各在 deadlines、job_commands、job_endings。"""

from __future__ import annotations

import time

from scns_conductor.worker.host.cgroup import job_cgroup_name
from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.shepherd.chains import Chains
from scns_conductor.worker.shepherd.deadlines import Deadlines
from scns_conductor.worker.shepherd.job_commands import JobCommands
from scns_conductor.worker.shepherd.job_endings import JobEndings
from scns_conductor.worker.shepherd.launch_fault import LaunchFault
from scns_conductor.worker.shepherd.own_log import log
from scns_conductor.worker.shepherd.records import step_record
from scns_conductor.worker.shepherd.sampling import Sampler
from scns_conductor.worker.shepherd.script_sweeper import ScriptSweeper
from scns_conductor.worker.shepherd.task import JobGroup, Task
from scns_conductor.worker.shepherd.timers import Timers
from scns_conductor.worker.wire.launch_spec import HOLDER_STEPS, JOB_KEY_VARIABLE, MEMORY_ENTRANCE_VARIABLE, LaunchSpec
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scns_conductor.worker.host.cgroup import Entrance
    from scns_conductor.worker.shepherd.containment import Containment
    from scns_conductor.worker.shepherd.journal import Journal
    from scns_conductor.worker.shepherd.records import StepRecord
    from scns_conductor.worker.shepherd.spawn import Spawner
    from scns_conductor.worker.wire.end_record import EndRecord

RECENT_KEYS = 5_000


class JobKeeper:
    """全部作业步的主人。

    新的结束记录先进 new_ends，日志落盘后由主循环推给代理；其中 followed 个的资源已有链上的下一个接着用。
    """

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
        self.followed = 0
        self.spawner = spawner
        self.tasks_by_pid = tasks_by_pid
        self._watch_pidfd = watch_pidfd
        self._recent: dict[str, None] = {}
        self.timers = Timers()
        self.deadlines = Deadlines(self)
        self.commands = JobCommands(self)
        self.endings = JobEndings(self)
        self.sampler = Sampler(self)
        self.sweeper = ScriptSweeper(containment.helpers)
        self.chains = Chains(self)

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
            self.spawner.come_home()
        return answers

    def watch(self, task: Task) -> None:
        """接管一个活着的进程：它不是自己的子进程，由 watch_pidfd 去等。"""
        self.tasks_by_pid[task.pid or 0] = task
        if task.record.oom_kill_step:
            task.oom_seen = self.endings.oom_kills(task)
        self._watch_pidfd(task)
        self.deadlines.arm(task)
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
        if is_new and self.chains.wait(spec, task):
            return LaunchAnswer(key=spec.key, state="running")
        return self._start(spec, task, is_new=is_new)

    def start_next(self, spec: LaunchSpec, task: Task) -> None:
        """链上轮到它了。"""
        try:
            self._start(spec, task, is_new=True)
        finally:
            self.spawner.come_home()

    def _start(self, spec: LaunchSpec, task: Task, *, is_new: bool) -> LaunchAnswer:
        record, group = task.record, task.group
        try:
            if group.ending or group.cause is not None:
                raise LaunchFault("作业正在结束，不能再启动作业步")
            if group.waiting:
                raise LaunchFault("作业还没有轮到，不能启动作业步")
            if record.waiting:
                self._note_turn(record)
            if is_new:
                group.cgroup = self._make_cgroup(spec)
            group.tasks[spec.step] = task
            spec.env[JOB_KEY_VARIABLE] = self.containment.marker_of(spec.key)
            if spec.script is not None:
                self.sweeper.needed = bool(spec.opens_aside)
            if spec.script is not None and not spec.opens_aside:
                # 启动失败也要靠它收走；启动成了随进程号一起落盘。
                record.script_inode = self.spawner.scripts.write(spec)
            entrances = self._place_step(task, spec)
            pid = self.spawner.spawn(spec, group.cgroup, fresh=is_new, step_entrances=entrances)
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
                self.endings.settle(group)
            else:
                self.endings.emit_end(task)
            return LaunchAnswer(key=spec.key, state="ended", error=fault.message)
        started_boot_s, started_unix_s = boot_now(), time.time()
        task.pid = pid
        if record.oom_kill_step:
            task.oom_seen = 0 if is_new else self.endings.oom_kills(task)
            self.sampler.hasten()
        self.tasks_by_pid[pid] = task
        self.journal.update(
            spec.key,
            pid=pid,
            started_unix_s=started_unix_s,
            started_boot_s=started_boot_s,
            # 等着的时候时限也许改过。
            deadline_boot_s=started_boot_s + record.time_limit_s if record.time_limit_s is not None else None,
            cgroup=group.cgroup.name if group.cgroup else None,
            script_inode=record.script_inode,
        )
        self.deadlines.arm(task)
        self.sampler.arm()
        if group.suspended_boot_s is not None:
            # 还没有轮到就要它挂起。先出来：不然把自己也冻结了。
            self.spawner.come_home()
            group.suspended_boot_s = None
            self.commands.suspend(group)
        return LaunchAnswer(key=spec.key, state="running", pid=pid, started_unix_s=started_unix_s)

    def _note_turn(self, record: StepRecord) -> None:
        """轮到它了：落了盘才启动，接管的才知道它也许跑过。"""
        self.journal.update(record.key, waiting=False)
        try:
            self.journal.flush()
        except OSError as error:
            raise LaunchFault(f"节点的日志写不进去：{error.strerror}", on_node=True) from error

    def _make_cgroup(self, spec: LaunchSpec) -> Any:
        try:
            return self.containment.create(spec)
        except FileExistsError:
            # 同一尝试上一次的目录还没删净（例如刚接管过）。
            return self.containment.attach(job_cgroup_name(spec.job_id, spec.attempt, spec.launch_id))
        except OSError as error:
            raise LaunchFault(f"节点不能为作业建立 cgroup：{error.strerror}", on_node=True) from error

    def _place_step(self, task: Task, spec: LaunchSpec) -> list[Entrance] | None:
        """作业步的主人进哪些控制组（None 是作业的全部）；它不占作业的内存，任务由它放进去。没有 cgroup 时靠采样。"""
        cgroup = task.group.cgroup
        if task.is_holder or cgroup is None:
            return None
        try:
            placed = cgroup.place_step(spec.step, spec.step_memory_bytes)
        except OSError as error:
            raise LaunchFault(f"节点不能为作业步设内存上限：{error.strerror}") from error
        if placed is None:
            return None
        entrances: list[Entrance] = placed[0]
        spec.env[MEMORY_ENTRANCE_VARIABLE] = placed[1]
        task.cgroup_limited = spec.step_memory_bytes is not None
        return entrances

    def _refuse(self, spec: LaunchSpec, fault: LaunchFault) -> LaunchAnswer:
        record = self.journal.running[spec.key]
        task = Task(record, JobGroup(spec.job_id, spec.attempt, spec.launch_id))
        task.fault = fault
        record.started_unix_s, record.started_boot_s = time.time(), boot_now()
        self.endings.emit_end(task)
        return LaunchAnswer(key=spec.key, state="ended", error=fault.message)

    def note_scripts(self) -> None:
        """作业的进程自己写下的脚本：记下是哪一个，收走时认得出。"""
        self.spawner.hear()
        for pid, inode in self.spawner.take_scripts():
            task = self.tasks_by_pid.get(pid)
            if task is not None and task.key in self.journal.running:
                self.journal.update(task.key, script_inode=inode)

    def remember(self, key: str) -> None:
        """这个键结束过：再来的启动不再做。"""
        self._recent[key] = None
        if len(self._recent) > RECENT_KEYS:
            del self._recent[next(iter(self._recent))]
