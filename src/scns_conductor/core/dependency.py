"""作业依赖的写法与判定（sbatch(1) 的 --dependency）：afterok:12:13,afterany:14，或以 ? 分隔表示任一。"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from scns_conductor.core.states import ACTIVE_STATES, TERMINAL_STATES, JobState

KINDS = ("after", "afterany", "afternotok", "afterok", "aftercorr", "afterburstbuffer", "singleton", "expand")
SUPPORTED = ("after", "afterany", "afternotok", "afterok", "aftercorr", "singleton")
_TARGET = re.compile(r"^(\d{1,18})(?:_(\d{1,9}|\*))?(?:\+(\d{1,7}))?$")


@dataclass(frozen=True, slots=True)
class Target:
    """所依赖的作业；task_id 是数组任务号，None 是整个作业；delay_s 是 after 的延迟。"""

    job_id: int
    task_id: int | None = None
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """一个条件：对 targets 逐个要求 kind。singleton 没有 targets。"""

    kind: str
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependency:
    """全部条件；any_of 为真时满足其一即可。"""

    conditions: tuple[Condition, ...]
    any_of: bool = False

    @property
    def job_ids(self) -> frozenset[int]:
        """涉及的作业号。"""
        return frozenset(target.job_id for condition in self.conditions for target in condition.targets)


class Outcome(Enum):
    """判定：可以运行、还要等、永远不会满足。"""

    SATISFIED = "satisfied"
    WAITING = "waiting"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class TaskState:
    """所依赖的一个作业（或数组任务）的现状；时刻是 Unix 秒。"""

    state: JobState
    exit_status: int | None = None
    exit_signal: int | None = None
    start_time: float | None = None
    task_id: int | None = None
    # 还有没有启动的数组任务。
    unstarted: bool = False


def parse_dependency(text: str) -> Dependency:
    """解析；写法有误、, 与 ? 混用、不支持的种类都抛 ValueError（中文原因）。"""
    if "," in text and "?" in text:
        raise ValueError("依赖里的 ,（全部）与 ?（任一）不能混用")
    any_of = "?" in text
    conditions = tuple(_condition(part.strip()) for part in re.split(r"[,?]", text))
    return Dependency(conditions, any_of)


def _condition(text: str) -> Condition:
    kind, *words = text.split(":")
    if kind == "singleton":
        if words:
            raise ValueError("singleton 之后不写作业号")
        return Condition("singleton")
    # Slurm 的老写法：只有作业号等同 afterany。
    if re.fullmatch(r"\d+", kind):
        kind, words = "afterany", [kind, *words]
    if kind not in SUPPORTED:
        known = "、".join(SUPPORTED)
        raise ValueError(f"{'不支持' if kind in KINDS else '无法识别'}的依赖 {kind!r}；可用 {known}")
    if not words:
        raise ValueError(f"{kind} 之后要写作业号，例如 {kind}:12")
    targets = []
    for word in words:
        match = _TARGET.match(word)
        if match is None or int(match[1]) == 0 or (match[3] and kind != "after"):
            raise ValueError(f"依赖 {text!r} 里的作业号 {word!r} 无法识别；例如 afterok:12:13_4 或 after:12+5（分钟）")
        task = int(match[2]) if match[2] and match[2] != "*" else None
        targets.append(Target(int(match[1]), task, int(match[3] or 0) * 60))
    return Condition(kind, tuple(targets))


def evaluate(
    dependency: Dependency,
    states: Callable[[int], Collection[TaskState]],
    *,
    now: float,
    singleton_busy: bool,
    own_task_id: int | None = None,
) -> Outcome:
    """states(作业号) 给出这个作业（数组则是全部任务）的现状，不存在则为空；now 是 Unix 秒。

    不存在的作业：Slurm 里早已清除，afterany、afterok 一类按满足处理不安全，这里按“永远不会满足”。
    """
    found = [
        _outcome(condition, states, now=now, singleton_busy=singleton_busy, own_task_id=own_task_id)
        for condition in dependency.conditions
    ]
    if dependency.any_of:
        if Outcome.SATISFIED in found:
            return Outcome.SATISFIED
        return Outcome.WAITING if Outcome.WAITING in found else Outcome.NEVER
    if Outcome.NEVER in found:
        return Outcome.NEVER
    return Outcome.WAITING if Outcome.WAITING in found else Outcome.SATISFIED


def _outcome(
    condition: Condition,
    states: Callable[[int], Collection[TaskState]],
    *,
    now: float,
    singleton_busy: bool,
    own_task_id: int | None,
) -> Outcome:
    if condition.kind == "singleton":
        return Outcome.WAITING if singleton_busy else Outcome.SATISFIED
    worst = Outcome.SATISFIED
    for target in condition.targets:
        tasks = list(states(target.job_id))
        wanted = target.task_id
        if condition.kind == "aftercorr" and own_task_id is not None:
            wanted = own_task_id
        if wanted is not None and any(task.task_id is not None for task in tasks):
            chosen = [task for task in tasks if task.task_id == wanted]
            if not chosen and any(task.unstarted for task in tasks):
                worst = Outcome.WAITING
                continue
            tasks = chosen
        found = _target_outcome(condition.kind, tasks, target.delay_s, now)
        if found is Outcome.NEVER:
            return found
        if found is Outcome.WAITING:
            worst = found
    return worst


def _target_outcome(kind: str, tasks: list[TaskState], delay_s: int, now: float) -> Outcome:
    if not tasks:
        return Outcome.NEVER
    if kind == "after":
        begun = [task.start_time for task in tasks if task.start_time is not None]
        if len(begun) == len(tasks) and not any(task.unstarted for task in tasks):
            return Outcome.SATISFIED if now >= max(begun) + delay_s else Outcome.WAITING
        # 没有启动就被取消的也算“已开始或已取消”（sbatch(1)）。
        waiting = any(task.state == JobState.PENDING or task.unstarted for task in tasks)
        return Outcome.WAITING if waiting else Outcome.SATISFIED
    pending = any(task.state == JobState.PENDING or task.state in ACTIVE_STATES or task.unstarted for task in tasks)
    ended = [task for task in tasks if task.state in TERMINAL_STATES]
    good = [task for task in ended if task.state == JobState.COMPLETED]
    if kind in ("afterok", "aftercorr"):
        if len(good) < len(ended):
            return Outcome.NEVER
        return Outcome.WAITING if pending else Outcome.SATISFIED
    if kind == "afternotok":
        if pending:
            return Outcome.WAITING
        return Outcome.SATISFIED if len(good) < len(ended) else Outcome.NEVER
    return Outcome.WAITING if pending else Outcome.SATISFIED
