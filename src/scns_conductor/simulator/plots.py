"""图：利用率、排队长度、甘特图。要装可选依赖 plots（matplotlib）；格式由文件扩展名定（png、svg）。

文字用中文；机器上没有汉字的字体时用英文（matplotlib 自带的字体没有汉字，会画成方框）。
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scns_conductor.core.errors import ConductorError
from scns_conductor.simulator.lanes import Rectangle, assign_lanes
from scns_conductor.simulator.metrics import (
    Columns,
    Steps,
    area_until,
    averages,
    busy_cpus,
    queue_length,
    started_columns,
)
from scns_conductor.simulator.report import ACTUAL, PolicyResult
from scns_conductor.simulator.workload import TraceJob

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOUR_S = 3600
DAY_S = 86400
# 作业的时刻不小于它的是 Unix 秒（2001 年起），踪迹的多半从 0 起。
EPOCH_S = 10**9
# 刻度的间隔。
TICKS_S = (
    *(10, 30, 60, 120, 300, 600, 1800, HOUR_S, 2 * HOUR_S, 4 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S),
    *(DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S),
)
# 曲线超过这么多个台阶就按时间平均到这么多格，免得文件过大、线条糊成一片。
MAX_CURVE_POINTS = 320
# 甘特图里用得最多的这么多个用户各有颜色，其余的同为灰色。
NAMED_USERS = 9
OTHERS_COLOUR = "#c9ced6"
CURVE_COLOURS = ("#2f6fbb", "#d1495b", "#2a9d6f", "#e09f3e", "#7a5195", "#3aa6b9", "#8d6e63", "#5c677d")
USER_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f")
# 有汉字的字体，先找到哪个用哪个。
CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Microsoft YaHei"),
    *("PingFang SC", "SimHei", "Noto Sans CJK JP", "Droid Sans Fallback"),
)
_WORDS = {
    "utilization": ("CPU 利用率（%）", "CPUs in use (%)"),
    "queue": ("排队的作业数", "jobs waiting"),
    "processor": ("处理器", "processor"),
    "hours": ("自第一次提交起的小时", "hours since first submit"),
    "days": ("自第一次提交起的天数", "days since first submit"),
    "clock": ("钟点", "clock time"),
    "since": ("自第一次提交起", "since first submit"),
    "average": ("平均 {:.1f}", "mean {:.1f}"),
    "user": ("用户 {}", "user {}"),
    "others": ("其余 {} 个用户", "{} other users"),
    "jobs": ("{} · {} 个作业", "{} · {} jobs"),
}

Window = tuple[float, float]
Outcome = tuple[Sequence[TraceJob], PolicyResult]


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


def load_matplotlib() -> Any:
    """matplotlib；没有装时抛 PlotsUnavailable。"""
    try:
        import matplotlib
    except ImportError as error:
        raise PlotsUnavailable from error
    return matplotlib


def chinese_font() -> str | None:
    """机器上有汉字的字体的名字；没有是 None。"""
    load_matplotlib()
    from matplotlib import font_manager

    present = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in present), None)


def plot_utilization(path: Path, outcomes: Mapping[str, Outcome], machine_cpus: int, window: Window | None) -> None:
    """各策略占用的 CPU 比例随时间的变化，一个策略一格。"""
    _plot_curves(path, outcomes, "utilization", busy_cpus, 100 / machine_cpus, window, apart=True)


def plot_queue(path: Path, outcomes: Mapping[str, Outcome], window: Window | None) -> None:
    """各策略排队的作业数随时间的变化。"""
    _plot_curves(path, outcomes, "queue", queue_length, 1.0, window, apart=False)


def plot_gantt(path: Path, title: str, outcome: Outcome, machine_cpus: int, window: Window) -> None:
    """甘特图：横轴时间，纵轴处理器，一块一个作业，颜色按用户。"""
    jobs, found = outcome
    rectangles = assign_lanes(jobs, found.starts, machine_cpus, window, found.walked, recorded=found.policy == ACTUAL)
    figure, (axes,), word = _figure(11, 5.2)
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    # 不比作业占的时间宽：五分钟的历史不画成七十二小时里的一条线。
    window = (window[0], max(window[0] + 60.0, min(window[1], max(each.end_s for each in rectangles))))
    origin_s, scale_s = 0.0, 1.0
    colours, others = _user_colours(rectangles, window)
    axes.add_collection(
        PolyCollection(
            [_corners(rectangle, origin_s, scale_s, window) for rectangle in rectangles],
            facecolors=[colours.get(rectangle.user, OTHERS_COLOUR) for rectangle in rectangles],
            edgecolors="white",
            linewidths=0.3,
        )
    )
    axes.set_xlim(window[0], window[1])
    axes.set_ylim(0, machine_cpus)
    axes.set_ylabel(word("processor"))
    epoch = jobs[0].submit_s >= EPOCH_S
    axes.set_xlabel(word("clock") if epoch else word("since"))
    ticks = clock_ticks(window, float(jobs[0].submit_s))
    axes.set_xticks(ticks, [clock_label(moment, window, jobs[0].submit_s) for moment in ticks])
    _number_jobs(axes, rectangles, machine_cpus, window)
    axes.set_title(word("jobs").format(title, len({rectangle.job_id for rectangle in rectangles})), loc="left")
    axes.grid(visible=False)
    patches = [Patch(color=colour, label=word("user").format(user)) for user, colour in colours.items()]
    if others:
        patches.append(Patch(color=OTHERS_COLOUR, label=word("others").format(others)))
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8.5, frameon=False)
    _save(figure, path)


def clock_ticks(window: Window, first_s: float = EPOCH_S) -> list[float]:
    """横轴的刻度：整的分、时、天，四到十二个；踪迹的秒从第一次提交（first_s）算起才是整的。"""
    origin = 0.0 if first_s >= EPOCH_S else first_s
    length = window[1] - window[0]
    step = next((step for step in TICKS_S if length / step <= 12), TICKS_S[-1])
    first = math.ceil((window[0] - origin) / step) * step + origin
    return [float(moment) for moment in np.arange(first, window[1] + 0.5, step)] or [window[0]]


def clock_label(moment_s: float, window: Window, first_s: float) -> str:
    """一个刻度：Unix 秒是当地的钟点（跨天的带日期），踪迹的秒是从第一次提交起的 天 时:分。"""
    seconds = window[1] - window[0] < 10 * 60
    if first_s >= EPOCH_S:
        moment = datetime.fromtimestamp(moment_s).astimezone()
        clock = f"{moment:%H:%M:%S}" if seconds else f"{moment:%H:%M}"
        return clock if window[1] - window[0] < DAY_S / 2 else f"{moment:%m-%d} {clock}"
    days, rest = divmod(int(moment_s - first_s), DAY_S)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}" + (f":{rest % 60:02d}" if seconds else "")
    return f"{days}d {clock}" if days else clock


def _number_jobs(axes: Any, rectangles: Sequence[Rectangle], machine_cpus: int, window: Window) -> None:
    """放得下字的块写上作业号。"""
    wide, high = (window[1] - window[0]) / 100, machine_cpus / 40
    for each in rectangles:
        begin, end = max(each.begin_s, window[0]), min(each.end_s, window[1])
        if end - begin >= wide * (len(each.job_id) + 0.5) and each.cpus >= high:
            middle = ((begin + end) / 2, each.first_cpu + each.cpus / 2)
            axes.text(*middle, each.job_id, ha="center", va="center", fontsize=7, color="white", clip_on=True)


def _corners(rectangle: Rectangle, origin_s: float, scale_s: float, window: Window) -> list[tuple[float, float]]:
    left = (max(rectangle.begin_s, window[0]) - origin_s) / scale_s
    right = (min(rectangle.end_s, window[1]) - origin_s) / scale_s
    low, high = rectangle.first_cpu, rectangle.first_cpu + rectangle.cpus
    return [(left, low), (left, high), (right, high), (right, low)]


def _user_colours(rectangles: Sequence[Rectangle], window: Window) -> tuple[dict[str, str], int]:
    """(用得最多的用户 -> 颜色，其余还有几个用户)；多少按窗口里的 CPU 秒算。"""
    used: defaultdict[str, float] = defaultdict(float)
    for each in rectangles:
        used[each.user] += each.cpus * (min(each.end_s, window[1]) - max(each.begin_s, window[0]))
    named = sorted(used, key=lambda user: (-used[user], user))[:NAMED_USERS]
    return dict(zip(named, USER_COLOURS, strict=False)), len(used) - len(named)


def _plot_curves(
    path: Path,
    outcomes: Mapping[str, Outcome],
    title: str,
    curve: Any,
    factor: float,
    window: Window | None,
    *,
    apart: bool,
) -> None:
    """apart：一个策略一格；否则画在一起。"""
    figure, panels, word = _figure(11, 1.2 + 1.9 * len(outcomes) if apart else 4, len(outcomes) if apart else 1)
    columns = {
        name: started_columns(jobs, found.starts, found.ends, found.ran_s)[1]
        for name, (jobs, found) in outcomes.items()
    }
    spans = {name: window or _span(found) for name, found in columns.items()}
    span = min(each[0] for each in spans.values()), max(each[1] for each in spans.values())
    jobs, _ = next(iter(outcomes.values()))
    origin_s, scale_s, unit = _time_axis(jobs, span)
    for number, (name, found) in enumerate(columns.items()):
        axes = panels[number % len(panels)]
        begin_s, end_s = spans[name]
        exact = curve(found)
        steps = _coarsen(exact, span)
        average = float(np.diff(area_until(exact, np.array([begin_s, end_s])))[0]) / (end_s - begin_s) * factor
        colour = CURVE_COLOURS[number % len(CURVE_COLOURS)]
        times, values = (steps.times_s - origin_s) / scale_s, steps.values * factor
        label = f"{name}: {word('average').format(average)}"
        axes.step(times, values, where="post", label=label, linewidth=1.1, color=colour)
        if apart or len(outcomes) == 1:
            axes.fill_between(times, values, step="post", color=colour, alpha=0.2, linewidth=0)
    for axes in panels:
        axes.set_xlim((span[0] - origin_s) / scale_s, (span[1] - origin_s) / scale_s)
        axes.set_ylim(bottom=0)
    panels[0].set_title(word(title), loc="left")
    panels[-1].set_xlabel(word(unit))
    figure.legend(loc="outside upper right", ncols=4, fontsize=9, frameon=False)
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
    return Steps(edges[:-1], averages(steps, edges))


class _Word:
    """图里的文字：有汉字的字体用中文，否则用英文。"""

    def __init__(self, *, chinese: bool) -> None:
        self.chinese = chinese

    def __call__(self, key: str) -> str:
        return _WORDS[key][0 if self.chinese else 1]


def _figure(width: float, height: float, rows: int = 1) -> "tuple[Figure, list[Any], _Word]":
    matplotlib = load_matplotlib()
    matplotlib.use("Agg")
    font = chinese_font()
    matplotlib.rcParams.update(
        {
            # SVG 里的元素编号固定下来，同样的输入得到同样的文件；文字画成线条，看图的机器不必有这个字体。
            "svg.hashsalt": "scns",
            "svg.fonttype": "path",
            "font.sans-serif": [*([font] if font else []), "DejaVu Sans"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#7b8494",
            "axes.titlesize": 11,
            "axes.grid": True,
            "grid.color": "#e6e9ee",
            "grid.linewidth": 0.8,
            "axes.axisbelow": True,
        }
    )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()
    return figure, panels, _Word(chinese=font is not None)


def _save(figure: "Figure", path: Path) -> None:
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    figure.savefig(path, metadata=metadata)
