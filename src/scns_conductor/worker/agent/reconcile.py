"""核对：数据库说本节点该有什么，牧守进程说真有什么，两者之差就是要做的事。

用于启动时的恢复、丢了的总线消息、取消、挂起、改时限：消息只是提醒，数据库才是依据。
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from scns_conductor.core.states import JobState
from scns_conductor.statements.node_jobs import HELD_ALLOCATIONS
from scns_conductor.worker.agent.end_causes import cause_of_request
from scns_conductor.worker.wire.launch_spec import split_key
from scns_conductor.worker.wire.shepherd_messages import RunningStep


@dataclass(frozen=True, slots=True)
class HeldAllocation:
    """数据库里本节点尚未释放的一条分配。restart_count 是分配的，current_attempt 是作业现在的。"""

    allocation_id: int
    job_id: int
    restart_count: int
    current_attempt: int
    node_index: int
    claimed: bool
    state: str
    requested_end_state: str | None
    requested_end_reason: str | None
    time_limit: int | None
    cpu_ids: list[int] | None
    gres_ids: dict[str, list[int]] | None
    claimed_before_boot: bool
    requested_end_grace: int | None = None
    launch_id: int | None = None
    no_kill: bool = False
    relay_chain: int | None = None
    # 运行脚本的节点在等别的节点开机。
    waits: bool = False

    def launched(self, task: "RunningTask") -> bool:
        """task 是不是这条分配的作业启动的；旧版启动的没有 launch_id，只能按作业号与尝试认。"""
        same = task.launch_id is None or self.launch_id is None or task.launch_id == self.launch_id
        return same and self.restart_count == self.current_attempt


@dataclass(frozen=True, slots=True)
class RunningTask:
    """牧守进程手里的一个作业步。launch_id 是哪一次启动（旧版启动的没有）；foreign 是已知不属于这个数据库、要留着的。"""

    job_id: int
    attempt: int
    step: str
    pid: int | None
    suspended: bool
    cause: str | None
    time_limit_s: float | None
    launch_id: int | None = None
    foreign: bool = False

    @property
    def owner(self) -> tuple[int, int]:
        """（作业号，尝试）。"""
        return self.job_id, self.attempt


@dataclass(frozen=True, slots=True)
class Launch:
    """没有认领过：认领并启动。"""

    job_id: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """没有启动就被要求结束：认领而不启动，直接写结束。"""

    job_id: int


@dataclass(frozen=True, slots=True)
class Kill:
    """结束正在运行的；grace_s 为 None 取作业自己的宽限。"""

    job_id: int
    attempt: int
    cause: str
    message: str | None
    grace_s: float | None
    launch_id: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """数据库说在这里运行，牧守进程却不知道：节点故障。"""

    job_id: int
    attempt: int
    message: str
    launch_id: int | None = None


@dataclass(frozen=True, slots=True)
class Suspend:
    """数据库说挂起了。"""

    job_id: int
    attempt: int
    launch_id: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """数据库说在运行，实际挂着。"""

    job_id: int
    attempt: int
    launch_id: int | None = None


@dataclass(frozen=True, slots=True)
class SetTimeLimit:
    """时限改过了；None 表示不限。"""

    job_id: int
    attempt: int
    limit_s: float | None
    launch_id: int | None = None


Action = Launch | Abandon | Kill | Lost | Suspend | Resume | SetTimeLimit

# 不属于本节点的：这个原因杀掉的要等它们都死了，节点才算恢复。
STALE = "stale"


def held_allocations(
    connection: Connection, node_name: str, job_ids: Sequence[int] | None, boot_time: float
) -> list[HeldAllocation]:
    """本节点尚未释放的分配；job_ids 为 None 表示全部。boot_time 是数据库时钟下的开机时刻。"""
    rows = connection.execute(
        HELD_ALLOCATIONS,
        {"node": node_name, "job_ids": list(job_ids) if job_ids is not None else None, "boot_time": boot_time},
    ).mappings()
    return [HeldAllocation(**row) for row in rows]


def parse_running(steps: Iterable[RunningStep]) -> list[RunningTask]:
    """牧守进程手里的作业步。"""
    found = []
    for step in steps:
        job_id, attempt, name, launch_id = split_key(step.key)
        found.append(
            RunningTask(
                *(job_id, attempt, name, step.pid, step.suspended, step.cause, step.time_limit_s),
                launch_id,
                step.foreign,
            )
        )
    return found


def decide(
    held: Sequence[HeldAllocation],
    running: Sequence[RunningTask],
    ended: Collection[tuple[int, int]],
    preparing: Collection[tuple[int, int]],
) -> list[Action]:
    """要做的事，先杀后启。

    ended 是牧守进程里还没有确认的结束；preparing 是正在跑 prolog 的。两者都既不算丢失，也不算多余。
    """
    actions: list[Action] = []
    rows = {(row.job_id, row.restart_count): row for row in held}
    tasks: dict[tuple[int, int], list[RunningTask]] = {}
    strays: set[tuple[int, int, int | None]] = set()
    for task in running:
        row = rows.get(task.owner)
        if row is not None and row.launched(task):
            tasks.setdefault(task.owner, []).append(task)
        elif not task.foreign:
            strays.add((*task.owner, task.launch_id))
    for job_id, attempt, launch_id in strays:
        actions.append(Kill(job_id, attempt, STALE, "分配已经不属于本节点", 0.0, launch_id))
    for row in held:
        owner = (row.job_id, row.restart_count)
        if row.restart_count == row.current_attempt:
            actions.extend(_decide_one(row, tasks.get(owner, []), owner in ended, owner in preparing))
    return actions


def _decide_one(row: HeldAllocation, tasks: list[RunningTask], ended: bool, preparing: bool) -> list[Action]:
    if not row.claimed:
        if row.requested_end_state is not None:
            return [Abandon(row.job_id)]
        return [Launch(row.job_id)] if row.state == JobState.RUNNING and not row.waits else []
    if not tasks:
        if ended or preparing:
            return []
        if row.node_index == 0:
            return [Lost(row.job_id, row.restart_count, "节点代理找不到这个作业的进程", row.launch_id)]
        if row.claimed_before_boot and not row.no_kill:
            return [Lost(row.job_id, row.restart_count, "作业所在的一个节点重启了", row.launch_id)]
        return []
    launch_id = tasks[0].launch_id
    if row.requested_end_state is not None:
        if all(task.cause is not None for task in tasks):
            return []
        cause = cause_of_request(row.requested_end_state)
        grace_s = None if row.requested_end_grace is None else float(row.requested_end_grace)
        return [Kill(row.job_id, row.restart_count, cause, row.requested_end_reason, grace_s, launch_id)]
    actions: list[Action] = []
    suspended = any(task.suspended for task in tasks)
    if row.state == JobState.SUSPENDED and not suspended:
        actions.append(Suspend(row.job_id, row.restart_count, launch_id))
    if row.state == JobState.RUNNING and suspended:
        actions.append(Resume(row.job_id, row.restart_count, launch_id))
    holder = next((task for task in tasks if task.step in ("batch", "extern")), None)
    if holder is not None and holder.time_limit_s != row.time_limit:
        actions.append(SetTimeLimit(row.job_id, row.restart_count, row.time_limit, launch_id))
    return actions
