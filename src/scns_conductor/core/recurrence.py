"""重复的预留（scontrol(1) 的 HOURLY、DAILY、WEEKDAY、WEEKEND、WEEKLY）：每一次的开始与结束。纯函数。

除 HOURLY 外按本机时区的钟面时刻重复，夏令时前后钟面不变（Slurm 也是这样）。
"""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta

_HOUR = timedelta(hours=1)
_WEEK = timedelta(days=7)


def _days(count: int) -> Callable[[datetime], datetime]:
    # 去掉时区再加：加的是钟面的天数；astimezone 认本机的时区。
    return lambda start: (start.replace(tzinfo=None) + timedelta(days=count)).astimezone()


def _weekday(start: datetime) -> datetime:
    return _days({4: 3, 5: 2}.get(start.weekday(), 1))(start)


def _weekend(start: datetime) -> datetime:
    return _days({5: 1, 6: 6}.get(start.weekday(), 5 - start.weekday()))(start)


_NEXT: dict[str, Callable[[datetime], datetime]] = {
    "HOURLY": lambda start: start + _HOUR,
    "DAILY": _days(1),
    "WEEKDAY": _weekday,
    "WEEKEND": _weekend,
    "WEEKLY": _days(7),
}
# 一次至多这么长，不与下一次重叠。
LONGEST = {
    "HOURLY": _HOUR,
    "DAILY": timedelta(days=1),
    "WEEKDAY": timedelta(days=1),
    "WEEKEND": timedelta(days=1),
    "WEEKLY": timedelta(days=7),
}
RECURRING = tuple(_NEXT)


def recurrence(flags: Collection[str]) -> str | None:
    """怎样重复；不重复是 None。写了几种的抛 ValueError。"""
    found = [flag for flag in RECURRING if flag in flags]
    if len(found) > 1:
        raise ValueError(f"{found[0]} 与 {found[1]} 只能写一个")
    return found[0] if found else None


def occurrences(
    start: datetime, end: datetime, flags: Collection[str], now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """now 还没有结束的各次（开始，结束），从早到晚；重复的没有尽头，不重复的至多一次。时刻都带时区。"""
    kind, length = recurrence(flags), end - start
    if kind is None:
        if end > now:
            yield start, end
        return
    following, start = _NEXT[kind], start.astimezone()
    if kind == "HOURLY" and now > end:
        start += (now - end) // _HOUR * _HOUR
    elif now > end:
        # 早就开始了的不逐次数过来：各种重复都以一周为周期，留一周给夏令时。
        start = _days(7 * max(0, (now - end) // _WEEK - 1))(start)
    while True:
        if start + length > now:
            yield start, start + length
        start = following(start)


Recurring = tuple[datetime, datetime, Collection[str]]
# 两个都重复的，看这么久就够：各种重复都以一周为周期。
_ROUND = timedelta(days=8)


def collide(first: Recurring, second: Recurring) -> bool:
    """两个（开始，结束，标志）有没有同时的一次。"""
    horizon = max(first[0], second[0]) + _ROUND
    spans = [occurrences(start, end, flags, max(first[0], second[0])) for start, end, flags in (first, second)]
    one, other = (next(span, None) for span in spans)
    while one is not None and other is not None and max(one[0], other[0]) < horizon:
        if one[0] < other[1] and other[0] < one[1]:
            return True
        if one[1] <= other[1]:
            one = next(spans[0], None)
        else:
            other = next(spans[1], None)
    return False
