"""目标：每一条由同一次运行里量到的数算出比值，说达到没有；缺一边的数就是没有量，不猜。"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

MIB_KB = 1024


@dataclass(frozen=True, slots=True)
class Goal:
    """一条目标。measured 是 None 表示这次没有量；at_least 为假时是越小越好。"""

    key: str
    text: str
    target: float
    measured: float | None
    unit: str = ""
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        """达到没有；没有量是 None。"""
        if self.measured is None:
            return None
        return self.measured >= self.target if self.at_least else self.measured <= self.target


def percentile(values: Sequence[float], percent: float) -> float:
    """最近秩法的百分位。"""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def _ratio(upper: Sequence[float] | None, lower: Sequence[float] | None) -> float | None:
    """各轮比值的中位数：轮流跑，机器一时快一时慢，比值里抵消掉；轮数不同时是中位数之比。"""
    if not upper or not lower:
        return None
    if len(upper) == len(lower):
        return median(one / other for one, other in zip(upper, lower, strict=True))
    return median(upper) / median(lower)


def _of_medians(upper: Sequence[float] | None, lower: Sequence[float] | None) -> float | None:
    return median(upper) / median(lower) if upper and lower else None


def _middle(values: Sequence[float] | None) -> float | None:
    return median(values) if values else None


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """found 是各项的结果（run.py 的 scenarios）。"""
    a, b, c, d = (found.get(key, {}) for key in "abcd")
    p99 = percentile(c["scns"], 99) if c.get("scns") else None
    listed = [
        *_everyday(found.get("k", {})),
        Goal("a", "数组 / 极限（xargs）", 0.55, _ratio(a.get("scns"), a.get("xargs"))),
        Goal("a", "数组 / HyperQueue", 1.5, _ratio(a.get("scns"), a.get("hyperqueue"))),
        Goal("b", "分别提交 / HyperQueue", 1.3, _ratio(b.get("scns"), b.get("hyperqueue"))),
        Goal("b", "分别提交 / Slurm", 8, _ratio(b.get("scns"), b.get("slurm"))),
        Goal("c", "p50 / HyperQueue 的 p50", 2, _of_medians(c.get("scns"), c.get("hyperqueue")), at_least=False),
        Goal("c", "p99", 40, p99, "ms", at_least=False),
        Goal("c", "Slurm（缺省设置）的 p50 / p50", 50, _of_medians(c.get("slurm_default"), c.get("scns"))),
        Goal("c", "Slurm（调到最快）的 p50 / p50", 50, _of_medians(c.get("slurm"), c.get("scns"))),
        Goal("d", "单个提交", 2000, _middle(d.get("single")), "个/秒"),
        Goal("d", "批量提交", 30000, _middle(d.get("batch")), "个/秒"),
        *_backlog(found.get("e", {})),
        *_history(found.get("f", {})),
        *_memory(found.get("e", {}), found.get("h", {})),
        *_debian(found.get("j", {})),
    ]
    return listed


def _everyday(k: Mapping[str, Any]) -> list[Goal]:
    listed = []
    for slots, each in k.get("slots", {}).items():
        rates, title = each["rates"], f"{slots} 个槽"
        least = 0.45 if int(slots) >= 64 else 0.40
        listed += [
            Goal("k", f"{title}，有上限的 / 极限（xargs）", least, _ratio(rates["all"], each["xargs"])),
            Goal("k", f"{title}，有上限的 / HyperQueue", 1.5, _ratio(rates["all"], each.get("hyperqueue_separate"))),
            Goal("k", f"{title}，数组 / HyperQueue", 1.5, _ratio(rates["array"], each.get("hyperqueue_array"))),
            Goal("k", f"{title}，没有上限的 / 有上限的", 1.15, _ratio(rates["bare"], rates["all"]), at_least=False),
        ]
    return listed


def _backlog(e: Mapping[str, Any]) -> list[Goal]:
    rate = delay = None
    if e:
        rate = _ratio(e["loaded"]["separate"], e["idle"]["separate"])
        delay = _of_medians(e["loaded"]["latency_ms"], e["idle"]["latency_ms"])
    return [
        Goal("e", "十万排队时的 (b) / 没有时的", 0.9, rate),
        Goal("e", "十万排队时 (c) 的 p50 / 没有时的", 1.1, delay, at_least=False),
    ]


def _history(f: Mapping[str, Any]) -> list[Goal]:
    worst = squeue = None
    name = "最慢的读"
    if f:
        each = {read: percentile(times, 99) for read, times in f["reads_ms"].items()}
        name = max(each, key=lambda read: each[read])
        worst, squeue = each[name], _middle(f["commands_s"].get("squeue（全部）"))
    return [
        Goal("f", f"每种读的 p99（最慢的是 {name}）", 30, worst, "ms", at_least=False),
        Goal("f", "squeue 列出十万个", 1.5, squeue, "秒", at_least=False),
    ]


def _memory(e: Mapping[str, Any], h: Mapping[str, Any]) -> list[Goal]:
    node = growth = None
    if h:
        last = h["snapshots"][-1]["memory"]
        node = sum(last[kind]["rss_kb"] for kind in ("代理", "牧守进程")) / MIB_KB
        growth = max(
            (last[kind]["rss_kb"] - h["snapshots"][1]["memory"][kind]["rss_kb"]) / MIB_KB
            for kind in ("API", "调度器", "代理", "牧守进程", "Valkey")
        )
    return [
        Goal("h", "代理 + 牧守进程（RSS）", 120, node, "MiB", at_least=False),
        Goal("h", "调度器每个排队的作业", 1024, e["bytes_per_pending_job"] if e else None, "字节", at_least=False),
        Goal("h", "十万个作业之后长得最多的进程", 8, growth, "MiB", at_least=False),
    ]


def _debian(j: Mapping[str, Any]) -> list[Goal]:
    array, separate, latency = (j.get(key, {}) for key in ("array", "separate", "latency_ms"))
    return [
        Goal("j", "数组：Debian 的 / 内嵌的", 0.9, _ratio(array.get("debian"), array.get("embedded"))),
        Goal("j", "分别提交：Debian 的 / 内嵌的", 0.9, _ratio(separate.get("debian"), separate.get("embedded"))),
        Goal(
            "j",
            "p50：Debian 的 / 内嵌的",
            1.1,
            _of_medians(latency.get("debian"), latency.get("embedded")),
            at_least=False,
        ),
    ]
