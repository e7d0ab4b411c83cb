"""圈住作业：找出一个作业的全部进程，向它们发信号、冻结、杀尽。

有 cgroup 时以 cgroup 为准；没有时靠三件事：牧守进程是 subreaper（后代逃不出它的子树）、
会话号、环境里的 SCNS_JOB_KEY。后者尽力而为，capabilities 会如实说明。
"""

from __future__ import annotations

import contextlib
import os
import signal

from scns_conductor.worker.host.cgroup import CgroupLimits, job_cgroup_name
from scns_conductor.worker.host.process_table import (
    ProcessStat,
    descendants,
    environment_value,
    own_children,
    read_io_bytes,
    snapshot,
    stats_of,
)
from scns_conductor.worker.host.subreaper import become_subreaper
from scns_conductor.worker.shepherd.task import JobGroup, Task
from scns_conductor.worker.wire.launch_spec import JOB_KEY_VARIABLE
from scns_conductor.worker.wire.process_usage import Usage
from scns_conductor.worker.wire.shepherd_messages import Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from scns_conductor.worker.host.cgroup import CgroupTree, JobCgroup
    from scns_conductor.worker.wire.launch_spec import LaunchSpec

_STOP_ROUNDS = 10
# （哪一项，哪些实现算没有做到，怎样说）。
_SHORTCOMINGS = (
    ("memory", ("sampled",), "内存上限靠每秒采样，短时间可以超过"),
    ("pids", ("sampled",), "进程数上限靠每秒采样"),
    ("cpus", ("affinity",), "绑核只是亲和性，作业可以自己改"),
    ("devices", ("none",), "GPU 设备没有隔离，只设了可见性变量"),
    ("kill_all", ("subreaper", "session"), "抹掉全部痕迹的后代可能逃脱"),
    ("suspend", ("sigstop",), "挂起靠 SIGSTOP，作业的父进程看得见"),
    ("users", ("same",), "作业都以启动代理的用户运行"),
)


class Containment:
    """tree 为 None 表示没有 cgroup。tasks_by_pid 由 JobKeeper 维护，这里只读。

    owner 认得出是哪个节点的：一台机器上可以有几个节点、几套系统，作业号会相同。
    """

    def __init__(self, tree: CgroupTree | None, detail: str, tasks_by_pid: dict[int, Task], owner: str) -> None:
        self._owner = owner
        self._tree = tree
        self._detail = detail
        self._tasks_by_pid = tasks_by_pid
        self._orphan_owner: dict[int, JobGroup] = {}
        self.subreaper = become_subreaper()
        # 牧守进程自己派出去的子进程：不是哪个作业的孤儿。
        self.helpers: set[int] = set()

    def marker_of(self, key: str) -> str:
        """作业步的进程在环境里带着的标记。"""
        return f"{key}@{self._owner}"

    def create(self, spec: LaunchSpec) -> JobCgroup | None:
        """为作业建 cgroup；没有 cgroup 时返回 None。失败抛 OSError。"""
        if self._tree is None:
            return None
        limits = CgroupLimits(
            memory_bytes=spec.memory_bytes,
            pids_max=spec.pids_max,
            cpu_ids=spec.cpu_ids,
            device_deny=spec.device_deny,
        )
        return self._tree.create(job_cgroup_name(spec.job_id, spec.attempt, spec.launch_id), limits)

    def attach(self, name: str) -> JobCgroup | None:
        """接管已有的 cgroup。"""
        return self._tree.attach(name) if self._tree is not None else None

    def leftovers(self) -> list[JobCgroup]:
        """旧牧守进程留下的全部作业 cgroup。"""
        return [self._tree.attach(name) for name in self._tree.leftovers()] if self._tree is not None else []

    def close(self) -> None:
        """删除节点的空目录。"""
        if self._tree is not None:
            self._tree.remove()

    def enforces(self, controller: str) -> bool:
        """这个控制器是否由 cgroup 约束。"""
        return self._tree is not None and controller in self._tree.controllers

    def capabilities(self) -> Capabilities:
        """每一种约束靠什么实现，哪些没有做到。"""
        root = os.geteuid() == 0
        found = Capabilities(
            cgroup_version=self._tree.version if self._tree else None,
            detail=self._detail,
            memory="cgroup" if self.enforces("memory") else "sampled",
            pids="cgroup" if self.enforces("pids") else "sampled",
            cpus="cgroup" if self.enforces("cpuset") else "affinity",
            devices="cgroup" if self.enforces("devices") else "none",
            kill_all="cgroup" if self._tree else ("subreaper" if self.subreaper else "session"),
            suspend="freezer" if self._tree else "sigstop",
            users="switch" if root else "same",
            not_enforced=[],
        )
        found.not_enforced = [text for name, weak, text in _SHORTCOMINGS if getattr(found, name) in weak]
        return found

    def pids(self, group: JobGroup, table: dict[int, ProcessStat] | None = None) -> set[int]:
        """作业此刻活着的全部进程（僵尸不算）。"""
        if group.cgroup is not None:
            return set(group.cgroup.pids())
        if table is None:
            table = snapshot()
        roots: set[int] = set()
        sessions: set[int] = set()
        for task in group.tasks.values():
            if task.pid is None:
                continue
            # 已回收的进程号若又有了主人，那是别人：内核重新用了这个号。
            if not task.reaped:
                roots.add(task.pid)
                sessions.add(task.pid)
            elif task.pid not in table:
                sessions.add(task.pid)
        roots.update(stat.pid for stat in table.values() if stat.session in sessions)
        roots.update(pid for pid in self._strays() if self._owns(group, pid, table))
        if group.adopted:
            roots.update(pid for pid in table if self._marked(group, pid))
        return descendants(table, roots) - {os.getpid()}

    def step_pids(self, task: Task, table: dict[int, ProcessStat] | None = None) -> set[int]:
        """一个作业步的进程：它的后代、它的会话，以及环境标记相同的。"""
        if table is None:
            table = self._table([task.group])
        roots = set() if task.reaped or task.pid is None else {task.pid}
        session_free = task.pid not in table or not task.reaped
        candidates = self.pids(task.group, table)
        roots.update(
            pid
            for pid in candidates
            if pid in table
            and ((session_free and table[pid].session == task.pid) or self._marker(pid) == self.marker_of(task.key))
        )
        return descendants(table, roots) - {os.getpid()}

    def has_survivors(self, group: JobGroup) -> bool:
        """作业的进程是否还有活着的；平常的结束只花一次小小的读。"""
        if group.cgroup is not None:
            return bool(group.cgroup.pids())
        if not group.adopted and self.subreaper and not group.live_tasks and not self._strays():
            return False
        return bool(self.pids(group))

    def _strays(self) -> set[int]:
        strays = own_children() - self._tasks_by_pid.keys() - self.helpers
        for pid in self._orphan_owner.keys() - strays:
            del self._orphan_owner[pid]
        return strays

    def _marker(self, pid: int) -> str | None:
        return environment_value(pid, JOB_KEY_VARIABLE)

    def _marked(self, group: JobGroup, pid: int) -> bool:
        marker = self._marker(pid)
        return (
            marker is not None
            and marker.startswith(f"{group.job_id}.{group.attempt}.")
            and marker.endswith(self.marker_of("" if group.launch_id is None else f".{group.launch_id}"))
        )

    def _owns(self, group: JobGroup, pid: int, table: dict[int, ProcessStat]) -> bool:
        """过继来的孤儿是不是这个作业的；会话和环境都抹掉的，归给同一用户唯一的作业。"""
        owner = self._orphan_owner.get(pid)
        if owner is not None:
            return owner is group
        stat = table.get(pid)
        if stat is None:
            return False
        by_session = self._tasks_by_pid.get(stat.session)
        if self._marked(group, pid) or (by_session is not None and by_session.group is group):
            self._orphan_owner[pid] = group
            return True
        if by_session is not None or self._marker(pid) is not None:
            return False
        others = {id(task.group) for task in self._tasks_by_pid.values() if task.group.cgroup is None} - {id(group)}
        return not others

    def reaped_orphan(self, pid: int, usage: Usage) -> None:
        """回收了一个孤儿，把用量记到它的作业上（不知道是谁的就算了）。"""
        owner = self._orphan_owner.pop(pid, None)
        if owner is not None:
            owner.orphan_usage.add(usage)

    def signal(self, pids: Iterable[int], number: int) -> int:
        """发信号，返回送到了几个进程。"""
        sent = 0
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                sent += 1
        return sent

    def kill(self, group: JobGroup) -> None:
        """SIGKILL 全部进程；调用者隔一会儿再看还有没有，直到没有。"""
        if group.cgroup is not None:
            group.cgroup.kill()
        else:
            self.signal(self._stop_all(group), signal.SIGKILL)

    def suspend(self, group: JobGroup) -> bool:
        """冻结全部进程；返回是否已经全部停下。"""
        if group.cgroup is not None:
            return group.cgroup.freeze(True)
        self._stop_all(group)
        return True

    def resume(self, group: JobGroup) -> None:
        """解冻。"""
        if group.cgroup is not None:
            group.cgroup.freeze(False)
        else:
            self.signal(self.pids(group), signal.SIGCONT)

    def _stop_all(self, group: JobGroup) -> set[int]:
        """逐轮 SIGSTOP，直到一轮里没有新进程：停住的进程不能再 fork。"""
        stopped: set[int] = set()
        for _ in range(_STOP_ROUNDS):
            found = self.pids(group)
            if found <= stopped:
                break
            self.signal(found - stopped, signal.SIGSTOP)
            stopped |= found
        return stopped

    def sample(self, groups: Collection[JobGroup]) -> dict[JobGroup, tuple[Usage, int]]:
        """每个作业活着的进程此刻的用量与进程数；max_rss_kb 是当前的总和。"""
        table = self._table(groups)
        answer = {}
        for group in groups:
            pids = self.pids(group, table)
            # 作业步的主人是系统的，不算作业用的。
            owners = {task.pid for task in group.live_tasks if not task.is_holder}
            answer[group] = (_usage_of(pids - owners, table), len(pids))
        return answer

    def sample_steps(self, tasks: Collection[Task]) -> dict[Task, Usage]:
        """每个作业步的任务此刻的用量；max_rss_kb 是当前的总和。"""
        table = self._table({task.group for task in tasks})
        return {task: _usage_of(self.step_pids(task, table) - {task.pid}, table) for task in tasks}

    def _table(self, groups: Collection[JobGroup]) -> dict[int, ProcessStat]:
        """看这些作业要读的进程：都有 cgroup 就只读它们的；有一个没有，就是机器上全部的。"""
        if any(group.cgroup is None for group in groups):
            return snapshot()
        return stats_of(pid for group in groups if group.cgroup is not None for pid in group.cgroup.pids())


def _usage_of(pids: Iterable[int | None], table: dict[int, ProcessStat]) -> Usage:
    usage = Usage()
    for pid in pids:
        stat = table.get(pid) if pid is not None else None
        if stat is None:
            continue
        usage.user_s += stat.user_s
        usage.system_s += stat.system_s
        usage.max_rss_kb += stat.rss_kb
        io_bytes = read_io_bytes(stat.pid)
        if io_bytes is not None:
            usage.read_bytes += io_bytes[0]
            usage.written_bytes += io_bytes[1]
    return usage
