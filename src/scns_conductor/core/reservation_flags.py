"""预留的标志里带着数的：PURGE_COMP=时长（闲了多久就清掉），TIME_FLOAT=秒（总是从此刻起多久之后开始）。纯函数。"""

from collections.abc import Collection
from datetime import datetime, timedelta

from scns_conductor.core.units import format_duration, parse_time_limit

PURGE, FLOAT = "PURGE_COMP", "TIME_FLOAT"
# 挑好的节点不换；结束之后，排队的作业不再等它。
STATIC, NO_HOLD = "STATIC_ALLOC", "NO_HOLD_JOBS_AFTER"
# 许用它的人也可以删除它。
USER_DELETE = "USER_DELETE"
_REPLACING = frozenset({"REPLACE", "REPLACE_DOWN"})
# 没有写多久的（scontrol(1)）。
PURGE_AFTER_S = 300


def replaces_down(flags: Collection[str]) -> bool:
    """停着的节点换一个：写了 REPLACE 一类的；系统挑的而没有写 STATIC_ALLOC 的也是（维护的不换）。"""
    return not _REPLACING.isdisjoint(flags) or {STATIC, "MAINT", "SPEC_NODES", "PART_NODES"}.isdisjoint(flags)


def _text(flags: Collection[str], name: str) -> str | None:
    return next((flag.partition("=")[2] for flag in flags if flag.partition("=")[0] == name), None)


def purge_flag(word: str) -> str:
    """PURGE_COMP[=时长] -> 写定的样子；时长的写法同 --time，写错抛 ValueError。"""
    _, equals, text = word.partition("=")
    seconds = parse_time_limit(text) if equals else PURGE_AFTER_S
    if not seconds:
        raise ValueError(f"PURGE_COMP 的时长 {text!r} 不合适；例如 PURGE_COMP=10:00")
    return f"{PURGE}={format_duration(seconds)}"


def purge_after_s(flags: Collection[str]) -> int | None:
    """闲了多少秒就清掉；没有写是 None。"""
    text = _text(flags, PURGE)
    return None if text is None else parse_time_limit(text)


def with_float(flags: Collection[str], offset_s: float) -> list[str]:
    """写了 TIME_FLOAT 的，记下离此刻多久（秒）。"""
    return [f"{FLOAT}={max(0, int(offset_s))}" if flag.partition("=")[0] == FLOAT else flag for flag in flags]


def floated(start: datetime, end: datetime, flags: Collection[str], now: datetime) -> tuple[datetime, datetime] | None:
    """TIME_FLOAT 的此刻的（开始，结束）；不是的是 None。"""
    offset = _text(flags, FLOAT)
    if offset is None:
        return None
    begin = now + timedelta(seconds=int(offset))
    return begin, begin + (end - start)
