"""进度条与会动的表：Jupyter 里是 HTML，终端里用 rich（装了的话），不是终端就只在有变化时写一行。"""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from scns_conductor.client.job_states import TERMINAL_STATES
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.client.answers import Job

# (完成了几个, 总共几个；不知道总数是 None)。
Report = Callable[[int, int | None], None]
Progress = bool | Report
# 表里至多列这么多个作业；全部的都在合计里。
ROWS_MOST = 40
# 列出来的先后。
_ORDER = ("RUNNING", "SUSPENDED", "PENDING")


class Bar(Protocol):
    """一个进度条。"""

    def advance(self, count: int) -> None:
        """又完成了 count 个。"""

    def close(self) -> None:
        """到此为止。"""


class Table(Protocol):
    """一张会动的表。"""

    def show(self, jobs: "Sequence[Job]") -> None:
        """换成这些作业。"""

    def close(self) -> None:
        """到此为止，最后的样子留着。"""


def bar_for(progress: Progress, title: str, total: int | None) -> Bar:
    """progress 是真就显示，是函数就报给它，是假就什么也不做。"""
    if progress is False:
        return _Quiet()
    if callable(progress):
        return _Told(progress, total)
    if in_notebook():
        return _HtmlBar(title, total)
    if sys.stderr.isatty():
        try:
            return _RichBar(title, total)
        except ImportError:
            pass
    return _PlainBar(title, total)


def table_for() -> Table:
    """照此刻的环境。"""
    if in_notebook():
        return _HtmlTable()
    if sys.stdout.isatty():
        try:
            return _RichTable()
        except ImportError:
            pass
    return _PlainTable()


def in_notebook() -> bool:
    """在 Jupyter 的内核里。"""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def ordered(jobs: "Sequence[Job]") -> "list[Job]":
    """在跑的在前，再是排队的，再是结束了的。"""
    ranks = {state: rank for rank, state in enumerate(_ORDER)}
    return sorted(jobs, key=lambda job: ranks.get(job.state, len(ranks)))


def counts(jobs: "Sequence[Job]") -> str:
    """各状态几个。"""
    return " · ".join(f"{state} {number}" for state, number in sorted(Counter(job.state for job in jobs).items()))


def fraction_of(job: "Job", now: datetime) -> float | None:
    """走了时限的几成（0 到 1）；没有时限、还没有开始的是 None。"""
    if job.state in TERMINAL_STATES:
        return 1.0
    if job.start_time is None or not job.time_limit:
        return None
    # 两边的钟可以差一点。
    return min(1.0, max(0.0, (now - job.start_time).total_seconds() / job.time_limit))


def elapsed_text(job: "Job", now: datetime) -> str:
    """跑了多久，时:分:秒；还没有开始的是空的。"""
    if job.start_time is None:
        return ""
    seconds = max(0, int(((job.end_time or now) - job.start_time).total_seconds()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def label_of(job: "Job") -> str:
    """作业号；数组任务是 12_3，还没有启动的是 12_[0-9]。"""
    if job.array_job_id is not None and job.array_task_id is not None:
        return f"{job.array_job_id}_{job.array_task_id}"
    return f"{job.job_id}_[{job.array_remaining}]" if job.array_remaining else job.job_id


class _Quiet:
    def advance(self, count: int) -> None:
        return

    def close(self) -> None:
        return


class _Told:
    def __init__(self, report: Report, total: int | None) -> None:
        self._report, self._total, self._done = report, total, 0

    def advance(self, count: int) -> None:
        self._done += count
        self._report(self._done, self._total)

    def close(self) -> None:
        return


class _PlainBar:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done = title, total, 0

    def advance(self, count: int) -> None:
        self._done += count

    def close(self) -> None:
        print(f"{told(self._title)} {self._done}" + (f"/{self._total}" if self._total else ""), file=sys.stderr)


class _RichBar:
    def __init__(self, title: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(told(title), total=total)
        self._bar.start()

    def advance(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def close(self) -> None:
        self._bar.stop()


class _Html:
    """笔记本里的一块，原地更新。"""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, html: str) -> None:
        place: Any = importlib.import_module("IPython.display")
        if self._handle is None:
            self._handle = place.display(place.HTML(html), display_id=True)
        else:
            self._handle.update(place.HTML(html))


class _HtmlBar:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done, self._place = title, total, 0, _Html()

    def advance(self, count: int) -> None:
        from scns_conductor.client.html import bar_html

        self._done += count
        self._place.update(bar_html(self._title, self._done, self._total))

    def close(self) -> None:
        return


class _HtmlTable:
    def __init__(self) -> None:
        self._place = _Html()

    def show(self, jobs: "Sequence[Job]") -> None:
        from scns_conductor.client.html import jobs_html

        self._place.update(jobs_html(jobs))

    def close(self) -> None:
        return


class _RichTable:
    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(auto_refresh=False)
        self._live.start()

    def show(self, jobs: "Sequence[Job]") -> None:
        self._live.update(rich_table(jobs), refresh=True)

    def close(self) -> None:
        self._live.stop()


def rich_table(jobs: "Sequence[Job]") -> Any:
    """rich 的一张表。"""
    from rich.progress_bar import ProgressBar
    from rich.table import Table as RichTable
    from rich.text import Text

    now = datetime.now(UTC)
    ended = sum(job.state in TERMINAL_STATES for job in jobs)
    table = RichTable(caption=f"{ended}/{len(jobs)} · {counts(jobs)}")
    for title in ("作业", "名字", "状态", "原因", "用时", "时限"):
        table.add_column(told(title))
    for job in ordered(jobs)[:ROWS_MOST]:
        fraction = fraction_of(job, now)
        bar = "" if fraction is None else ProgressBar(total=1.0, completed=fraction, width=20)
        words = (label_of(job), job.name, job.state, job.reason if job.reason != "None" else "", elapsed_text(job, now))
        table.add_row(*map(Text, words), bar)
    return table


class _PlainTable:
    def __init__(self) -> None:
        self._said = ""

    def show(self, jobs: "Sequence[Job]") -> None:
        now = counts(jobs)
        if now != self._said:
            self._said = now
            print(now, flush=True)

    def close(self) -> None:
        return
