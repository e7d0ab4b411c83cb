"""图：利用率、排队长度、甘特图。要装可选依赖 plots（matplotlib）；格式由文件扩展名定（png、svg）。

图里的文字用英文：matplotlib 自带的字体没有汉字。
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scns_conductor.core.errors import ConductorError
from scns_conductor.simulator.lanes import Rectangle, assign_lanes
from scns_conductor.simulator.metrics import Columns, Steps, busy_cpus, queue_length, started_columns
from scns_conductor.simulator.workload import TraceJob

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOUR_S = 3600
DAY_S = 86400
# 曲线超过这么多个台阶就按时间平均到这么多格，免得文件过大、线条糊成一片。
MAX_CURVE_POINTS = 1200
USER_COLOURS = 20

Window = tuple[float, float]
Outcome = tuple[Sequence[TraceJob], Sequence[float | None]]


class PlotsUnavailable(ConductorError):
    """没有装 matplotlib。"""

    def __init__(self) -> None:
        super().__init__(
            detail="画图需要 matplotlib，请安装：pip install 'scns-conductor[plots]'",
            code="plots_unavailable",
            status=500,
        )


def busiest_window(jobs: Sequence[TraceJob], starts: Sequence[float | None], length_s: float) -> Window:
    """以排队最长的时刻为中心、长 length_s 的时间窗。"""
    _, columns = started_columns(jobs, starts)
    queue = queue_length(columns)
    peak_s = float(queue.times_s[int(queue.values.argmax())])
    begin_s = max(float(columns.submit_s.min()), peak_s - length_s / 2)
    return begin_s, begin_s + length_s


def plot_utilization(path: Path, outcomes: Mapping[str, Outcome], machine_cpus: int, window: Window | None) -> None:
    """各策略占用的 CPU 比例随时间的变化。"""
    _plot_curves(path, outcomes, "busy CPUs (%)", busy_cpus, 100 / machine_cpus, window)


def plot_queue(path: Path, outcomes: Mapping[str, Outcome], window: Window | None) -> None:
    """各策略排队的作业数随时间的变化。"""
    _plot_curves(path, outcomes, "jobs waiting", queue_length, 1.0, window)


def plot_gantt(path: Path, title: str, outcome: Outcome, machine_cpus: int, window: Window) -> None:
    """甘特图：横轴时间，纵轴处理器，一块一个作业，颜色按用户。"""
    jobs, starts = outcome
    rectangles = assign_lanes(jobs, starts, machine_cpus, window)
    figure, axes = _figure(10, 5)
    from matplotlib.collections import PolyCollection

    origin_s, scale_s, unit = _time_axis(jobs, window)
    colours = _user_colours(rectangles)
    axes.add_collection(
        PolyCollection(
            [_corners(rectangle, origin_s, scale_s, window) for rectangle in rectangles],
            facecolors=[colours[rectangle.user] for rectangle in rectangles],
            edgecolors="white",
            linewidths=0.15,
        )
    )
    axes.set_xlim((window[0] - origin_s) / scale_s, (window[1] - origin_s) / scale_s)
    axes.set_ylim(0, machine_cpus)
    axes.set_ylabel("processor")
    axes.set_xlabel(f"{unit} since first submit")
    axes.set_title(title)
    _save(figure, path)


def _corners(rectangle: Rectangle, origin_s: float, scale_s: float, window: Window) -> list[tuple[float, float]]:
    left = (max(rectangle.begin_s, window[0]) - origin_s) / scale_s
    right = (min(rectangle.end_s, window[1]) - origin_s) / scale_s
    low, high = rectangle.first_cpu, rectangle.first_cpu + rectangle.cpus
    return [(left, low), (left, high), (right, high), (right, low)]


def _user_colours(rectangles: Sequence[Rectangle]) -> dict[str, Any]:
    import matplotlib

    palette = matplotlib.colormaps["tab20"]
    users = sorted({rectangle.user for rectangle in rectangles})
    return {user: palette(index % USER_COLOURS) for index, user in enumerate(users)}


def _plot_curves(
    path: Path, outcomes: Mapping[str, Outcome], label: str, curve: Any, factor: float, window: Window | None
) -> None:
    figure, axes = _figure(10, 4)
    unit = "days"
    for name, (jobs, starts) in outcomes.items():
        _, columns = started_columns(jobs, starts)
        span = window or _span(columns)
        origin_s, scale_s, unit = _time_axis(jobs, span)
        steps = _coarsen(curve(columns), span)
        axes.step((steps.times_s - origin_s) / scale_s, steps.values * factor, where="post", label=name, linewidth=0.9)
        axes.set_xlim((span[0] - origin_s) / scale_s, (span[1] - origin_s) / scale_s)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    axes.set_xlabel(f"{unit} since first submit")
    axes.legend(loc="upper right", fontsize=8)
    _save(figure, path)


def _span(columns: Columns) -> Window:
    begin_s, end_s = float(columns.submit_s.min()), float(columns.end_s.max())
    return begin_s, max(end_s, begin_s + 1)


def _time_axis(jobs: Sequence[TraceJob], window: Window) -> tuple[float, float, str]:
    """(原点, 每格秒数, 单位名)：短于三天用小时，否则用天。"""
    hours = window[1] - window[0] < 3 * DAY_S
    return float(jobs[0].submit_s), float(HOUR_S if hours else DAY_S), "hours" if hours else "days"


def _coarsen(steps: Steps, window: Window) -> Steps:
    """截到时间窗内；台阶太多时换成等宽格子上的时间平均（面积不变）。"""
    begin_s, end_s = window
    first = max(0, int(np.searchsorted(steps.times_s, begin_s, side="right")) - 1)
    last = int(np.searchsorted(steps.times_s, end_s, side="right"))
    if last - first <= MAX_CURVE_POINTS:
        return Steps(steps.times_s[first:last], steps.values[first:last])
    edges = np.linspace(begin_s, end_s, MAX_CURVE_POINTS + 1)
    area = _area_until(steps, edges)
    return Steps(edges[:-1], np.diff(area) / np.diff(edges))


def _area_until(steps: Steps, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """阶梯函数从头到各时刻的积分。"""
    widths = np.diff(steps.times_s)
    total = np.concatenate([[0.0], np.cumsum(widths * steps.values[:-1])])
    index = np.clip(np.searchsorted(steps.times_s, at_s, side="right") - 1, 0, len(steps.times_s) - 1)
    beyond = np.maximum(0.0, at_s - steps.times_s[index])
    area: NDArray[np.float64] = total[index] + beyond * steps.values[index]
    return area


def _figure(width: float, height: float) -> "tuple[Figure, Any]":
    try:
        import matplotlib
    except ImportError as error:
        raise PlotsUnavailable from error
    matplotlib.use("Agg")
    # SVG 里的元素编号固定下来，同样的输入得到同样的文件。
    matplotlib.rcParams["svg.hashsalt"] = "scns"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: "Figure", path: Path) -> None:
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    figure.savefig(path, metadata=metadata)
