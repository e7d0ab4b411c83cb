"""输出：JSON、并排的表、CSV 与开始时刻文件。只把结果变成文字，不求值。"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from scns_conductor.core.errors import ConductorError
from scns_conductor.language import told
from scns_conductor.simulator.machine import Machine
from scns_conductor.simulator.metrics import SLOWDOWN_THRESHOLD_S, Metrics
from scns_conductor.simulator.power import PowerUse
from scns_conductor.simulator.rlscheduler import QuirkyResult
from scns_conductor.simulator.trace import Trace
from scns_conductor.simulator.workload import Span, TraceJob, Workload

# 实际的那一行叫什么。
ACTUAL = "actual"
# 清洗的账目：英文码 -> 给人看的中文。
NOTE_TEXTS = {
    "malformed_lines": "坏行，已跳过",
    "ignored_steps": "作业步，不算作业",
    "ignored_not_finished": "还没有结束，不算进结果",
    "ignored_never_started": "从未运行，已跳过",
    "dropped_no_run_time": "运行时间 <= 0 或未知，已去掉",
    "dropped_no_processors": "没有处理器数，已去掉",
    "dropped_negative_submit": "提交时刻为负，已去掉",
    "renamed_duplicate_id": "作业号重复，已另编号（#2、#3……）",
    "killed_at_limit": "运行超过时限，在时限处截断",
    "capped_to_machine": "要的处理器超过机器，截到机器大小",
    "reordered_by_submit": "文件没有按提交时刻排序，已重排",
    "killed_at_capped_limit": "因 --cap-time-limit 被提前杀掉",
}
_TABLE = (
    ("avg_bounded_slowdown", "平均有界慢化", "{:.3f}"),
    ("avg_wait_s", "平均等待(s)", "{:.1f}"),
    ("p95_wait_s", "95%等待(s)", "{:.0f}"),
    ("max_wait_s", "最长等待(s)", "{:.0f}"),
    ("utilization", "利用率", "{:.4f}"),
    ("makespan_s", "总时长(s)", "{:.0f}"),
    ("jobs", "作业", "{:d}"),
)

_JOB_COLUMNS = (
    *("policy", "job", "user", "account", "cpus", "submit_s", "limit_s", "run_s"),
    *("start_s", "end_s", "wait_s", "bounded_slowdown"),
)
_USER_COLUMNS = ("user", "jobs", "cpu_hours", "avg_wait_s", "max_wait_s", "avg_bounded_slowdown")


class OutputUnwritable(ConductorError):
    """结果文件写不了。"""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(detail=f"无法写 {path}：{error.strerror or error}", code="output_unwritable", status=500)


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """一个策略的结果。starts 与作业一一对应；never_started 是作业号 -> 原因码。"""

    policy: str
    metrics: Metrics
    starts: Sequence[float | None]
    never_started: Mapping[str, str]
    passes: int
    elapsed_s: float
    # 节能时省的与费的；不节能是 None。
    power: PowerUse | None = None
    # 停过、没有做完的（作业的下标）何时结束，没有做完的跑了多久，真的在走的各段（记录里的不知道）。
    ends: Mapping[int, float] = field(default_factory=dict)
    ran_s: Mapping[int, float] = field(default_factory=dict)
    walked: Mapping[int, Sequence[Span]] = field(default_factory=dict)


def as_json(trace: Trace, workload: Workload, machine: Machine, results: Sequence[PolicyResult]) -> dict[str, Any]:
    """`--json` 的内容。policies 下各键是固定的接口，其余只增不减。"""
    return {
        "trace": {
            "source": trace.source,
            "jobs": len(workload.jobs),
            "notes": dict(workload.notes),
            "bad_lines": [asdict(line) for line in trace.bad_lines],
        },
        "machine": {"nodes": machine.nodes, "cpus": machine.cpus, "gpus": machine.gpus},
        "policies": {result.policy: _policy_json(result) for result in results},
    }


def _policy_json(result: PolicyResult) -> dict[str, Any]:
    values = asdict(result.metrics)
    values["users"] = {user.pop("user"): user for user in values["users"]}
    values["never_started"] = dict(result.never_started)
    values["passes"] = result.passes
    values["elapsed_s"] = round(result.elapsed_s, 3)
    if result.power is not None:
        values["power"] = asdict(result.power)
    return values


def as_table(machine: Machine, workload: Workload, results: Sequence[PolicyResult]) -> str:
    """给人看的并排表；一行一个策略。"""
    rows = [[told(title) for title in ("策略", *(title for _, title, _ in _TABLE))]]
    for result in results:
        rows.append([result.policy, *(text.format(getattr(result.metrics, key)) for key, _, text in _TABLE)])
    lines = [told(f"机器：{machine.describe()}；作业 {len(workload.jobs)} 个"), _aligned(rows)]
    lines += [told(_power_line(result.policy, result.power)) for result in results if result.power is not None]
    for result in results:
        if result.never_started:
            job_id, reason = next(iter(result.never_started.items()))
            never = len(result.never_started)
            lines.append(told(f"{result.policy}：{never} 个作业始终不能启动，例如 {job_id}（{reason}）"))
    return "\n".join(lines)


def _power_line(policy: str, use: PowerUse) -> str:
    share = use.off_s / use.total_s if use.total_s else 0.0
    return (
        f"{policy}：关着 {use.off_s / 3600:.0f} 节点·小时（全部的 {share:.1%}），开机 {use.boots} 次，"
        f"{use.delayed} 个作业等了开机，一共 {use.delay_s / 3600:.1f} 小时"
    )


def as_rlscheduler_table(rows: Mapping[str, Mapping[str, QuirkyResult]]) -> str:
    """RLScheduler 的一份踪迹：回填的方式 -> 启发式 -> 结果；每格是平均有界慢化与利用率。"""
    names = list(next(iter(rows.values())))
    cells = [[told("回填"), *names]]
    for backfill, found in rows.items():
        cells.append(
            [backfill, *(f"{cell.avg_bounded_slowdown:.2f} ({cell.utilization:.3f})" for cell in found.values())]
        )
    return _aligned(cells)


def note_lines(trace: Trace, workload: Workload) -> list[str]:
    """清洗账目，每条一行；坏行附上最前面几行的原因。"""
    lines = [f"{NOTE_TEXTS.get(code, code)}：{count}" for code, count in sorted(workload.notes.items())]
    lines += [f"  第 {bad.line} 行：{bad.reason}" for bad in trace.bad_lines[:5]]
    return lines


def write_starts(path: Path, jobs: Sequence[TraceJob], results: Sequence[PolicyResult]) -> None:
    """开始时刻：`job,start_s`；多于一个策略时后面加 policy 列。没有启动的作业不写。"""
    several = len(results) > 1
    with _writer(path) as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["job", "start_s", *(["policy"] if several else [])])
        for result in results:
            for job, start in zip(jobs, result.starts, strict=True):
                if start is not None:
                    rows.writerow([job.job_id, _plain(start), *([result.policy] if several else [])])


def write_jobs_csv(path: Path, jobs: Sequence[TraceJob], results: Sequence[PolicyResult]) -> None:
    """逐个作业的明细（CSV）：每个策略下的开始、结束、等待与有界慢化。"""
    with _writer(path) as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(_JOB_COLUMNS)
        for result in results:
            for place, (job, start) in enumerate(zip(jobs, result.starts, strict=True)):
                if start is None:
                    continue
                wait_s, end = start - job.submit_s, result.ends.get(place, start + job.run_s)
                run_s = result.ran_s.get(place, job.run_s)
                slowdown = max(1.0, (end - job.submit_s) / max(run_s, SLOWDOWN_THRESHOLD_S))
                shape = (job.job_id, job.user, job.account, job.cpus, job.submit_s, job.limit_s, _plain(run_s))
                rows.writerow([result.policy, *shape, _plain(start), _plain(end), _plain(wait_s), f"{slowdown:.6f}"])


def write_users_csv(path: Path, results: Sequence[PolicyResult]) -> None:
    """逐个用户的指标（CSV），每个策略下一行。"""
    with _writer(path) as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["policy", *_USER_COLUMNS])
        for result in results:
            for user in result.metrics.users:
                rows.writerow([result.policy, *(getattr(user, column) for column in _USER_COLUMNS)])


@contextmanager
def _writer(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open("w", encoding="utf-8", newline="") as out:
            yield out
    except OSError as error:
        raise OutputUnwritable(path, error) from error


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """第一列靠左，其余靠右。"""
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            _pad(cell, width, right=column > 0) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _width(text: str) -> int:
    """终端里的宽度：汉字占两格。"""
    return sum(2 if ord(character) > 0x2E7F else 1 for character in text)


def _pad(text: str, width: int, *, right: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap
