"""接管：旧牧守进程死了，按它的日志找回仍在运行的作业，继续看时限、继续等结束。"""

from __future__ import annotations

import contextlib
import time

from scns_conductor.worker.host import process_table
from scns_conductor.worker.host.cgroup import job_cgroup_name
from scns_conductor.worker.host.process_table import boot_now
from scns_conductor.worker.shepherd.task import JobGroup, Task
from scns_conductor.worker.wire.launch_spec import JOB_KEY_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.shepherd.keeper import JobKeeper

# 记下的启动时刻与 /proc 里的开始时刻之差的上限：后者只精确到 1/100 秒，前者在创建之后才取。
START_TOLERANCE_S = 1.5


def adopt(keeper: JobKeeper, boot_id: str) -> None:
    """仍在运行的接着管；已经没了的记为 unseen，重启过机器的记为 reboot；来历不明的 cgroup 清掉。"""
    journal = keeper.journal
    rebooted = journal.boot_id is not None and journal.boot_id != boot_id
    journal.boot_id = boot_id
    for end in journal.ends.values():
        keeper.remember(end.key)
    leftovers = {cgroup.name: cgroup for cgroup in keeper.containment.leftovers()}
    for record in list(journal.running.values()):
        group_id = record.group_id
        group = keeper.groups.setdefault(group_id, JobGroup(*group_id))
        task = Task(record, group)
        group.tasks[task.step] = task
        # 重启过的机器上没有旧进程可找；按环境标记去找只会白费功夫。
        group.adopted = not rebooted
        group.foreign = group.foreign or record.foreign
        group.cgroup = group.cgroup or leftovers.pop(job_cgroup_name(*group_id), None)
        if group.cgroup is not None and record.memory_bytes:
            # 旧牧守进程也许死在启动与写上限之间。
            with contextlib.suppress(OSError):
                group.cgroup.limit_memory(record.memory_bytes)
        if record.waiting:
            # 从来没有启动过：交还。
            group.cause = "give_back"
            task.pid, task.reaped = None, True
            continue
        if record.chain is not None:
            keeper.chains.adopt(group, record.chain)
        if rebooted:
            group.cause = "reboot"
            task.pid, task.reaped = None, True
            continue
        if record.kill_boot_s is not None:
            group.cause, group.message = record.cause, record.message
        group.suspended_boot_s = record.suspended_boot_s
        _find_process(keeper, task)
    for cgroup in leftovers.values():
        cgroup.kill()
        keeper.endings.drop_cgroup(cgroup)
    for group in list(keeper.groups.values()):
        _resume_duty(keeper, group)


def _find_process(keeper: JobKeeper, task: Task) -> None:
    pid = task.record.pid or _find_unrecorded(keeper, task)
    stat = process_table.read_stat(pid) if pid else None
    started_boot_s = task.record.started_boot_s
    # 进程号与开始时刻都对得上才是它：号会被重用，开机以来的秒数不会。
    if stat is None or started_boot_s is None or abs(stat.start_s - started_boot_s) > START_TOLERANCE_S:
        task.pid, task.reaped = None, True
        return
    if stat.state in "ZX":
        # 代理是 subreaper，留着它没有回收：退出码还看得见。
        keeper.endings.read_zombie(task, stat)
        task.reaped = True
        return
    task.pid = stat.pid
    keeper.watch(task)


def _find_unrecorded(keeper: JobKeeper, task: Task) -> int | None:
    """记下了意图、没来得及记进程号：按环境标记找会话首进程，最早的那个；另立会话的后代也带着标记。

    首进程可能已经结束，只剩这样的后代：那时它是过继给同一个父进程的僵尸。分不清是哪个僵尸就当没有看见，绝不猜。
    """
    table, marker = process_table.snapshot(), keeper.containment.marker_of(task.key)
    marked = [
        stat
        for stat in table.values()
        if stat.pid == stat.session and process_table.environment_value(stat.pid, JOB_KEY_VARIABLE) == marker
    ]
    if not marked:
        return None
    leader = min(marked, key=lambda stat: (stat.start_s, stat.pid))
    script = task.record.script_path
    if script and script not in process_table.arguments(leader.pid):
        recorded = {record.pid for record in keeper.journal.running.values()}
        ended = [
            stat
            for stat in table.values()
            if stat.state == "Z"
            and stat.pid == stat.session
            and stat.parent == leader.parent
            and stat.start_s <= leader.start_s
            and stat.pid not in recorded
        ]
        if len(ended) > 1:
            return None
        leader = ended[0] if ended else leader
    limit_s = task.record.time_limit_s
    keeper.journal.update(
        task.key,
        pid=leader.pid,
        started_boot_s=leader.start_s,
        started_unix_s=time.time() - (boot_now() - leader.start_s),
        deadline_boot_s=leader.start_s + limit_s if limit_s is not None else None,
    )
    return leader.pid


def _resume_duty(keeper: JobKeeper, group: JobGroup) -> None:
    holder = group.holder
    if not group.live_tasks or (holder is not None and holder.reaped):
        keeper.endings.settle(group)
        return
    for task in list(group.tasks.values()):
        if task.reaped:
            keeper.endings.emit_end(task)
    if group.record is not None and group.record.kill_boot_s is not None:
        group.timers.append(keeper.timers.at(group.record.kill_boot_s, keeper.commands.force_kill, group))
