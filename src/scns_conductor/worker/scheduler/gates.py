"""还不能排的作业：为什么、谁、何时能排（保留、开始时刻、依赖、预留、数组的 %、分区与单个作业的上限）。"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.dependency import Condition, Outcome
from scns_conductor.core.states import TERMINAL_STATES, JobState
from scns_conductor.core.units import format_duration
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS
from scns_conductor.scheduling.eligibility import Ineligible, ineligible
from scns_conductor.scheduling.explain import Gate, Holder, holder_of
from scns_conductor.statements.explanations import LAST_HOLD, PARENTS, SAME_NAME
from scns_conductor.statements.queue import JOB_LABELS
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.waiting_job import Waiting

# 依赖的依赖至多看这么多层；一个条件至多说出几个作业。
MOST_DEPTH = 5
MOST_NAMED = 5

_HELD_BY = {
    "submit": "提交时就写了保留",
    "hold": "保留的",
    "update": "修改时保留的",
    "requeue": "重新排队时保留的",
    "launch_failed": "启动失败之后自动保留的",
}

# (排队的作业, 第几层) -> 预计 (开始, 结束)，说不准是 None。
Predict = Callable[[Waiting, int], tuple[float, float] | None]


@dataclass(slots=True)
class Gates:
    """找原因；predict 由解释给：所依赖的作业也在排队时，它自己的预计。"""

    connection: Connection
    memory: QueueMemory
    now: float
    predict: Predict

    def of(self, waiting: Waiting, depth: int = 0) -> Gate | None:
        """还不能排的原因；能排是 None。"""
        job, memory = waiting.job, self.memory
        if job.reason is None and job.available > 0:
            return None
        if job.reason is None:
            return self._throttled(waiting)
        match job.reason:
            case "Dependency" | "DependencyNeverSatisfied":
                return self._dependency(waiting, depth)
            case _ if waiting.request.hold is not None:
                return Gate(job.reason, tuple(self._held(waiting)))
        found = ineligible(waiting.request, memory.cluster.partitions, self.now, memory.cluster.reservations)
        return self._plain(waiting, found)

    def _plain(self, waiting: Waiting, found: Ineligible | None) -> Gate:
        """到时刻自己就好的说何时；别的只说原因。"""
        job, reason = waiting.job, waiting.job.reason
        assert reason is not None
        message = job.message or f"原因是 {reason}"
        opens_at = None if found is None or found.reason != reason else found.wake_at
        if opens_at is not None:
            message += f"，{self._when(opens_at)}才到"
        return Gate(reason, (message,), opens_at)

    def _when(self, moment: float) -> str:
        return f"{format_duration(max(0, math.ceil(moment - self.now)))} 之后"

    def _held(self, waiting: Waiting) -> Iterable[str]:
        job_id, admin = waiting.job.job_id, waiting.request.hold == "admin"
        row = self.connection.execute(LAST_HOLD, {"job_id": job_id}).one_or_none()
        if waiting.request.hold == "launch_failed":
            yield str(waiting.job.message)
        if row is not None:
            since = format_duration(max(0.0, self.now - row.at))
            yield f"被保留着：{since} 之前 {row.actor} {_HELD_BY.get(row.cause, '保留的')}"
        else:
            yield "被保留着"
        yield f"放行：scns release {self._label(job_id)}" + ("（管理员保留的，要管理员放行）" if admin else "")

    def _label(self, job_id: int) -> str:
        """命令里怎样写它：数组任务是 8_1，它自己的号哪里也不显示。"""
        return self._labels([job_id])[0]

    def _labels(self, job_ids: Sequence[int]) -> list[str]:
        rows = self.connection.execute(JOB_LABELS, {"job_ids": list(job_ids)})
        known = {row.job_id: row.label for row in rows}
        return [known.get(job_id, str(job_id)) for job_id in job_ids]

    def _throttled(self, waiting: Waiting) -> Gate:
        """数组同时运行的任务到了上限：等有一个结束。"""
        running = self.memory.tasks_running(waiting.array_job_id or waiting.job.job_id)
        holders = [self._holder(job_id) for job_id in sorted(running)]
        ends = [holder.end for holder in holders if holder.end is not None]
        holders.sort(key=lambda holder: (holder.end is None, holder.end or 0.0))
        line = f"数组同时运行的任务至多 {waiting.array_limit} 个（%{waiting.array_limit}），正在运行 {len(running)} 个"
        return Gate("JobArrayTaskLimit", (line,), min(ends, default=None), waiting_for=tuple(holders))

    def _holder(self, job_id: int) -> Holder:
        job = self.memory.cluster.running.get(job_id)
        if job is None:
            return Holder(job_id, None)
        return holder_of(self.memory.cluster, job)

    # ---- 依赖 ----

    def _dependency(self, waiting: Waiting, depth: int) -> Gate:
        dependency, job = waiting.dependency, waiting.job
        assert dependency is not None
        assert job.reason is not None
        never = waiting.request.dependency is Outcome.NEVER
        lines, moments, holders = [], [], []
        for condition in dependency.conditions:
            found = (
                self._singleton(waiting, depth) if condition.kind == "singleton" else self._targets(condition, depth)
            )
            lines += found.lines
            holders += found.holders
            if found.moment is not None:
                moments.append(found.moment)
        known = [moment for moment in moments if moment < math.inf]
        opens_at: float | None
        if never:
            opens_at = None
            label = self._label(job.job_id)
            lines.append(f"依赖不会满足了：请取消（scns cancel {label}），或改依赖（scns update {label} dependency=…）")
        elif dependency.any_of:
            opens_at = min(known, default=None)
        else:
            opens_at = max(moments, default=self.now) if len(known) == len(moments) else None
        return Gate(job.reason, tuple(lines), opens_at, waiting_for=tuple(holders))

    def _targets(self, condition: Condition, depth: int) -> "_Awaited":
        wanted = [target.job_id for target in condition.targets]
        rows = self.connection.execute(PARENTS, {"job_ids": wanted}).all()
        found = _Awaited()
        for target in condition.targets:
            own = [row for row in rows if target.job_id in (row.job_id, row.array_job_id)]
            if not own:
                found.lines.append(f"所依赖的作业 {target.job_id} 不存在了（{condition.kind}）")
                continue
            unmet = [row for row in own if not _met(condition.kind, row.state)]
            moment = self.now
            for row in unmet[:MOST_NAMED]:
                words, ends, holder = self._parent(condition.kind, row, depth)
                found.lines.append(words)
                if holder is not None:
                    found.holders.append(holder)
                moment = max(moment, math.inf if ends is None else ends + target.delay_s)
            if unmet:
                found.moment = moment if found.moment is None else max(found.moment, moment)
        return found

    def _parent(self, kind: str, row: Any, depth: int) -> tuple[str, float | None, Holder | None]:
        """所依赖的一个作业：怎么说，何时能满足，它自己。"""
        label = f"{row.label}（{row.user_name}）"
        if row.state in TERMINAL_STATES:
            code = f"（退出码 {row.exit_status}:{row.exit_signal}）" if row.exited else ""
            return f"所依赖的作业 {label} 已经 {row.state}{code}，{kind} 不会满足", None, None
        start, end = self._planned(row.job_id, depth)
        moment = start if kind == "after" else end
        word = "开始" if kind == "after" else "结束"
        # 还在排队的，开始只是预计。
        when = f"，何时{word}说不准"
        if moment is not None:
            later = self._when(moment)
            running = row.job_id in self.memory.cluster.running
            when = f"，至迟 {later}{word}" if running else f"，大约 {later}{word}"
        suspended = "（挂起了）" if row.state == JobState.SUSPENDED else ""
        reason = f"（{row.reason}）" if row.state == JobState.PENDING and row.reason not in (None, "None") else ""
        text = f"等待所依赖的作业 {label}（{kind}）：现在 {row.state}{suspended}{reason}{when}"
        return text, moment, self._holder(row.job_id)

    def _planned(self, job_id: int, depth: int) -> tuple[float | None, float | None]:
        """一个还没有完的作业预计 (何时开始, 何时结束)。"""
        running = self.memory.cluster.running.get(job_id)
        if running is not None:
            return running.start_time, None if running.expected_end >= NEVER_ENDS else running.expected_end
        waiting = self.memory.waiting.get(job_id)
        if waiting is None or depth >= MOST_DEPTH or waiting.job.tasks is not None:
            return None, None
        found = self.predict(waiting, depth + 1)
        return (None, None) if found is None else (found[0], None if math.isinf(found[1]) else found[1])

    def _singleton(self, waiting: Waiting, depth: int) -> "_Awaited":
        """同名的一个接一个。"""
        values: Mapping[str, Any] = {
            "user_name": waiting.user_name, "name": waiting.name, "job_id": waiting.job.job_id,
        }  # fmt: skip
        job_ids = list(self.connection.scalars(SAME_NAME, values))
        found = _Awaited()
        if not job_ids:
            return found
        ends = [self._planned(job_id, depth)[1] for job_id in job_ids]
        found.moment = math.inf if None in ends else max(end for end in ends if end is not None)
        found.holders = [self._holder(job_id) for job_id in job_ids]
        shown = "、".join(self._labels(job_ids[:MOST_NAMED])) + (
            f" 等 {len(job_ids)} 个" if len(job_ids) > MOST_NAMED else ""
        )
        when = ""
        if found.moment < math.inf:
            later, running = self._when(found.moment), self.memory.cluster.running.keys() >= set(job_ids)
            when = f"，至迟 {later}都结束" if running else f"，大约 {later}都结束"
        found.lines.append(f"等待同名的作业（singleton，{waiting.name}）{shown}{when}")
        return found


@dataclass(slots=True)
class _Awaited:
    """一个条件在等的：何时都满足（没有在等的是 None，说不准是 inf）。"""

    lines: list[str] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    moment: float | None = None


def _met(kind: str, state: str) -> bool:
    """这个条件对一个到了 state 的作业满足了没有。"""
    if kind == "after":
        return state != JobState.PENDING
    if state not in TERMINAL_STATES:
        return False
    if kind in ("afterok", "aftercorr"):
        return state == JobState.COMPLETED
    return kind == "afterany" or state != JobState.COMPLETED
