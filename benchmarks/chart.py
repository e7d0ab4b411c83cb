"""结果 -> 一张 SVG：左边 (a)、(b) 每秒几个，右边 (c) 的 p50（对数）。手写，不依赖画图的库。"""

from collections.abc import Mapping
from math import log10
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

NAMES = {
    "xargs": "xargs（极限）",
    "scns": "SCNS-Conductor",
    "hyperqueue": "HyperQueue",
    "slurm": "Slurm（调过）",
    "slurm_default": "Slurm（缺省）",
    "rq": "纯 RQ",
}
COLOURS = {
    "xargs": "#b8b8b8",
    "scns": "#1a6fb0",
    "hyperqueue": "#e08a1e",
    "slurm": "#7a5195",
    "slurm_default": "#7a5195",
    "rq": "#6aa56a",
}
WIDTH = 760
LABEL = 130
BAR = 22
GAP = 8
TITLE = 34


def _panel(title: str, values: Mapping[str, float], top: int, *, log: bool, unit: str) -> tuple[list[str], int]:
    """一组横条；返回画的东西与下一组的顶。"""
    lines = [f'<text x="10" y="{top + 20}" class="t">{escape(title)}</text>']
    longest, shortest = max(values.values()), min(values.values())
    y = top + TITLE
    for who, value in values.items():
        share = value / longest
        if log and longest > shortest:
            # 最短的也画出一成来。
            share = 0.1 + 0.9 * log10(value / shortest) / log10(longest / shortest)
        length = max(2, round((WIDTH - LABEL - 110) * share))
        number = f"{value:,.1f}" if log else f"{value:,.0f}"
        lines += [
            f'<text x="{LABEL - 8}" y="{y + 16}" class="n">{escape(NAMES[who])}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{length}" height="{BAR}" fill="{COLOURS[who]}" rx="3"/>',
            f'<text x="{LABEL + length + 6}" y="{y + 16}" class="v">{number} {unit}</text>',
        ]
        y += BAR + GAP
    return lines, y + 8


def svg(scenarios: Mapping[str, Any]) -> str | None:
    """一张图；(a)、(b)、(c) 都没有量就没有图。"""
    panels = [
        ("(a) 一个数组的空作业，每秒几个（越长越好）", "a", False, "/s"),
        ("(b) 分别提交的空作业，每秒几个（越长越好）", "b", False, "/s"),
        ("(c) 提交到第一行 p50，毫秒，对数（越短越好）", "c", True, "ms"),
    ]
    body: list[str] = []
    top = 6
    for title, key, log, unit in panels:
        found = scenarios.get(key, {})
        values = {who: median(found[who]) for who in NAMES if found.get(who)}
        if values:
            lines, top = _panel(title, values, top, log=log, unit=unit)
            body += lines
    if not body:
        return None
    style = (
        "text{font-family:-apple-system,'Noto Sans CJK SC','Microsoft YaHei',sans-serif;fill:#222}"
        ".t{font-size:15px;font-weight:600}.n{font-size:13px;text-anchor:end}.v{font-size:13px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n'
    )
