"""作业依赖的写法与判定（sbatch(1) 的 --dependency）：afterok:12:13,afterany:14，或以 ? 分隔表示任一。"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from scns_conductor.core.array_spec import CONSECUTIVE, Stride, TaskRange, difference, intersection, union
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

    @property
    def singleton(self) -> bool:
        """要等同名的。"""
        return any(condition.kind == "singleton" for condition in self.conditions)

    @property
    def on_start(self) -> bool:
        """要等别的作业启动。"""
        return any(condition.kind == "after" for condition in self.conditions)


class Outcome(Enum):
    """判定：可以运行、还要等、永远不会满足。"""

    SATISFIED = "satisfied"
    WAITING = "waiting"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class TargetState:
    """所依赖的作业（数组则是其中的一部分任务）里状态相同的一组。

    tasks 是这些数组任务的序号，不是数组则为 None，stride 由序号得任务号；
    started_at 是其中最晚的开始（Unix 秒），没有开始过的是 None。
    """

    state: JobState
    tasks: tuple[TaskRange, ...] | None = None
    started_at: float | None = None
    stride: Stride = CONSECUTIVE


@dataclass(frozen=True, slots=True)
class Judgement:
    """判定。ready 是可以运行的任务，不是数组的作业则为 None；wake_at 是到时要再看的时刻（Unix 秒）。"""

    outcome: Outcome
    ready: tuple[TaskRange, ...] | None = None
    wake_at: float | None = None
    # 还等着哪些作业。
    unmet: tuple[int, ...] = ()


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


# 不是数组的作业当作只有一个任务。
_ALL = (TaskRange(0, 1),)


@dataclass(frozen=True, slots=True)
class _Part:
    """一个条件：哪些任务已满足，哪些永远不会满足；其余的还要等。"""

    ready: tuple[TaskRange, ...] = ()
    never: tuple[TaskRange, ...] = ()
    wake_at: float | None = None
    unmet: tuple[int, ...] = ()


def evaluate(
    dependency: Dependency,
    states: Callable[[int], Collection[TargetState]],
    *,
    now: float,
    singleton_busy: bool,
    own_tasks: Sequence[TaskRange] | None = None,
    own_stride: Stride = CONSECUTIVE,
) -> Judgement:
    """states(作业号) 给出这个作业（数组则是全部任务）的现状，不存在则为空；now 是 Unix 秒。

    own_tasks 是依赖者自己还没有启动的数组任务的序号：aftercorr 按任务号逐个对应。
    不存在的作业：Slurm 里早已清除，afterany、afterok 一类按满足处理不安全，这里按“永远不会满足”。
    """
    own = _ALL if own_tasks is None else tuple(own_tasks)
    parts = []
    for condition in dependency.conditions:
        if condition.kind == "singleton":
            parts.append(_Part(ready=() if singleton_busy else own))
        for target in condition.targets:
            groups = list(states(target.job_id))
            numbered = any(group.tasks is not None for group in groups)
            if condition.kind == "aftercorr" and own_tasks is not None and numbered and target.task_id is None:
                parts.append(_corresponding(target, groups, own, own_stride))
            else:
                parts.append(_target(condition.kind, target, groups, own, now))
    ready, never = parts[0].ready, parts[0].never
    for part in parts[1:]:
        if dependency.any_of:
            ready, never = union(ready, part.ready), intersection(never, part.never)
        else:
            ready, never = intersection(ready, part.ready), union(never, part.never)
    wakes = [part.wake_at for part in parts if part.wake_at is not None]
    outcome = Outcome.WAITING
    if ready:
        outcome = Outcome.SATISFIED
    elif never == own:
        outcome = Outcome.NEVER
    unmet = tuple(dict.fromkeys(number for part in parts for number in part.unmet))
    return Judgement(outcome, None if own_tasks is None else ready, min(wakes, default=None), unmet)


def _target(kind: str, target: Target, groups: list[TargetState], own: tuple[TaskRange, ...], now: float) -> _Part:
    if target.task_id is not None and any(group.tasks is not None for group in groups):
        groups = [group for group in groups if _covers(group, target.task_id)]
    outcome, wake_at = _target_outcome(kind, groups, target.delay_s, now)
    return _Part(
        own if outcome is Outcome.SATISFIED else (),
        own if outcome is Outcome.NEVER else (),
        wake_at,
        () if outcome is Outcome.SATISFIED else (target.job_id,),
    )


def _corresponding(target: Target, groups: list[TargetState], own: tuple[TaskRange, ...], own_stride: Stride) -> _Part:
    """aftercorr：自己的任务只看对方的同号任务。"""
    good: tuple[TaskRange, ...] = ()
    waiting: tuple[TaskRange, ...] = ()
    for group in groups:
        if group.state == JobState.COMPLETED:
            good = union(good, _matching(group, own_stride))
        elif group.state not in TERMINAL_STATES:
            waiting = union(waiting, _matching(group, own_stride))
    ready = intersection(own, good)
    never = difference(difference(own, ready), waiting)
    return _Part(ready, never, unmet=() if ready == own else (target.job_id,))


def _matching(group: TargetState, own_stride: Stride) -> tuple[TaskRange, ...]:
    """对方的任务在自己这里的序号。"""
    return own_stride.slots_of(group.stride, group.tasks or ())


def _covers(group: TargetState, task_id: int) -> bool:
    wanted = group.stride.slots([TaskRange(task_id, task_id + 1)])
    return bool(intersection(group.tasks or (), wanted))


def _target_outcome(kind: str, groups: list[TargetState], delay_s: int, now: float) -> tuple[Outcome, float | None]:
    if not groups:
        return Outcome.NEVER, None
    states = {group.state for group in groups}
    pending = JobState.PENDING in states
    if kind == "after":
        # 没有启动就被取消的也算“已开始或已取消”（sbatch(1)）。
        begun = [group.started_at for group in groups if group.started_at is not None]
        if pending:
            return Outcome.WAITING, None
        due = max(begun, default=now) + delay_s if begun else now
        return (Outcome.SATISFIED, None) if now >= due else (Outcome.WAITING, due)
    waiting = pending or not states.isdisjoint(ACTIVE_STATES)
    ended = states & TERMINAL_STATES
    failed = bool(ended - {JobState.COMPLETED})
    if kind in ("afterok", "aftercorr") and failed:
        return Outcome.NEVER, None
    if waiting:
        return Outcome.WAITING, None
    if kind == "afternotok" and not failed:
        return Outcome.NEVER, None
    return Outcome.SATISFIED, None
