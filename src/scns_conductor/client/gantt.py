"""作业的甘特图。要 matplotlib（pip install 'scns-conductor[notebook]'）。"""

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scns_conductor.client.live_display import label_of

if TYPE_CHECKING:
    from scns_conductor.client.answers import Job

# 一行一个作业，多于这么多个时只画最近的。
ROWS_MOST = 200
_WAIT_COLOUR, _BAD_COLOUR = "#d9dce1", "#d1495b"
_COLOURS = {"COMPLETED": "#2a9d6f", "RUNNING": "#2f6fbb", "SUSPENDED": "#e09f3e", "PENDING": _WAIT_COLOUR}


def gantt(jobs: "Iterable[Job]", *, axes: Any = None, now: datetime | None = None) -> Any:
    """一行一个作业：浅的是排队，深的是在跑（颜色是状态）；返回 matplotlib 的 Axes，笔记本里直接看得到。

    作业要有 name、state、submit_time、start_time、end_time、array_job_id、array_task_id、array_remaining。
    没有 matplotlib 抛 ImportError，一个作业也没有抛 ValueError。
    """
    from matplotlib.patches import Patch

    # 它没有写类型。
    dates: Any = import_module("matplotlib.dates")
    shown = sorted(jobs, key=lambda job: job.submit_time)[-ROWS_MOST:]
    if not shown:
        raise ValueError("没有作业可画")
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(10, 1 + 0.25 * len(shown)), layout="constrained")
    until = now or datetime.now(UTC)

    def bar(row: int, begin: datetime, end: datetime, colour: str) -> None:
        left = dates.date2num(begin)
        axes.barh(row, dates.date2num(end) - left, left=left, height=0.7, color=colour)

    for row, job in enumerate(shown):
        # 从来没有开始就结束了的（取消），排到结束。
        bar(row, job.submit_time, job.start_time or job.end_time or until, _WAIT_COLOUR)
        if job.start_time is not None:
            bar(row, job.start_time, job.end_time or until, _COLOURS.get(job.state, _BAD_COLOUR))
    axes.set_yticks(range(len(shown)), [f"{label_of(job)} {job.name}" for job in shown], fontsize="small")
    axes.invert_yaxis()
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    states = sorted({job.state for job in shown if job.start_time is not None})
    patches = [Patch(color=_COLOURS.get(state, _BAD_COLOUR), label=state) for state in states]
    axes.legend(handles=[Patch(color=_WAIT_COLOUR, label="PENDING"), *patches], fontsize="small")
    return axes
