"""采样：运行中作业的用量；没有 cgroup 时，内存与进程数的上限也在这里执行。"""

from __future__ import annotations

from scns_conductor.worker.host.process_table import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.task import JobGroup, Task
    from scns_conductor.worker.shepherd.timers import Timer
    from scns_conductor.worker.wire.process_usage import Usage

SOFT_LIMIT_CHECK_S = 1.0
USAGE_CHECK_S = 10.0


class Sampler:
    """有作业时定期采样，没有作业时什么也不做。"""

    def __init__(self, keeper: JobKeeper) -> None:
        self._keeper = keeper
        self._next: Timer | None = None
        self._sampled_boot_s = 0.0

    def arm(self) -> None:
        """排好下一次；已经排了就不再排。"""
        if self._next is None:
            self._next = self._keeper.timers.at(boot_now() + self._period_s(), self._tick, None)

    def hasten(self) -> None:
        """刚启动的要看得勤：不等排在十秒之后的那一次。"""
        if self._next is not None:
            self._keeper.timers.cancel([self._next])
            self._next = None
        self.arm()

    def _period_s(self) -> float:
        groups = [group for group in self._keeper.groups.values() if not group.waiting]
        soft = any((group.cgroup is None and _has_limits(group)) or _has_soft_steps(group) for group in groups)
        watched = any(task.record.oom_kill_step for group in groups for task in group.live_tasks)
        return SOFT_LIMIT_CHECK_S if soft or watched else USAGE_CHECK_S

    def _tick(self, _: None) -> None:
        self._next = None
        if self._keeper.groups:
            # 代理刚问过的不再采：/proc 里进程多的机器上，看一遍不便宜。
            if boot_now() - self._sampled_boot_s >= self._period_s() / 2:
                self.sample()
                self.sample_steps()
            self._end_killed_steps()
            self.arm()

    def _end_killed_steps(self) -> None:
        """--oom-kill-step：里面有进程因内存超限被内核杀了的，这一步（脚本则是作业）全部结束。

        用的是计数，不是 v2 的 memory.oom.group：那会把作业里别的步、步的主人一起杀掉。
        """
        for group in list(self._keeper.groups.values()):
            for task in group.live_tasks:
                if not task.record.oom_kill_step or task.record.cause or group.cause:
                    continue
                if self._keeper.endings.oom_kills(task) <= task.oom_seen:
                    continue
                if task.is_holder:
                    self._keeper.commands.stop(group, "oom", "内存超限，被内核杀死", 0)
                else:
                    self._keeper.commands.kill_tasks(task)

    def sample(self) -> dict[JobGroup, tuple[Usage, int]]:
        """每个作业此刻的用量与进程数；超过上限而没有 cgroup 约束的，立即结束。"""
        self._sampled_boot_s = boot_now()
        samples = self._keeper.containment.sample(
            [group for group in self._keeper.groups.values() if not group.waiting]
        )
        for group, (usage, processes) in samples.items():
            group.sampled.raise_to(usage)
            if group.cause is None:
                self._enforce(group, usage, processes)
        return samples

    def sample_steps(self) -> dict[Task, Usage]:
        """每个作业步此刻的用量（不算它的主人自己）；超过自己的内存上限而没有 cgroup 约束的，立即结束。"""
        steps = [
            task
            for group in self._keeper.groups.values()
            for task in group.live_tasks
            if not task.is_holder and task.pid
        ]
        if not steps:
            return {}
        samples = self._keeper.containment.sample_steps(steps)
        for task, usage in samples.items():
            task.sampled.raise_to(usage)
            limit = task.record.step_memory_bytes
            if limit and not task.cgroup_limited and usage.max_rss_kb * 1024 > limit:
                self._keeper.commands.stop_step(task, 0, cause="oom")
        return samples

    def _enforce(self, group: JobGroup, usage: Usage, processes: int) -> None:
        memory = group.record.memory_bytes if group.record is not None else None
        if memory and not self._by_cgroup(group, "memory") and usage.max_rss_kb * 1024 > memory:
            message = f"内存 {usage.max_rss_kb // 1024} MiB 超过上限 {memory // 1024**2} MiB"
            self._keeper.commands.stop(group, "oom", message, 0)
            return
        limit = group.record.pids_max if group.record is not None else None
        if limit and not self._by_cgroup(group, "pids") and processes > limit:
            self._keeper.commands.stop(group, "killed", f"进程数 {processes} 超过上限 {limit}", 0)

    def _by_cgroup(self, group: JobGroup, controller: str) -> bool:
        return group.cgroup is not None and self._keeper.containment.enforces(controller)


def _has_soft_steps(group: JobGroup) -> bool:
    return any(task.record.step_memory_bytes and not task.cgroup_limited for task in group.live_tasks)


def _has_limits(group: JobGroup) -> bool:
    return group.record is not None and bool(group.record.memory_bytes or group.record.pids_max)
