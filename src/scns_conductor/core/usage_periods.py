"""一段时间拆成汇总里的格：整月、整日（UTC），两头是整小时。"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Period(StrEnum):
    """汇总的一格多长；都从 UTC 的整点起。"""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Stretch(NamedTuple):
    """period 长的几格，从 since 到 until（不含）。"""

    period: Period
    since: datetime
    until: datetime


def whole_hours(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """放宽到整点（UTC）：汇总最细是一小时，sreport(1) 也取整。"""
    first, last = since.astimezone(UTC), until.astimezone(UTC)
    floor = last.replace(minute=0, second=0, microsecond=0)
    return first.replace(minute=0, second=0, microsecond=0), floor if floor == last else floor + HOUR


def stretches(since: datetime, until: datetime) -> list[Stretch]:
    """从 since 到 until（都要是整点，UTC）的格，不重不漏，尽量少。"""
    return [stretch for stretch in _split(since, until) if stretch.since < stretch.until]


def _split(since: datetime, until: datetime) -> Iterator[Stretch]:
    first_day, last_day = _ceil_day(since), _floor_day(until)
    if first_day > last_day:
        yield Stretch(Period.HOUR, since, until)
        return
    yield Stretch(Period.HOUR, since, first_day)
    first_month, last_month = _ceil_month(first_day), last_day.replace(day=1)
    if first_month > last_month:
        yield Stretch(Period.DAY, first_day, last_day)
    else:
        yield Stretch(Period.DAY, first_day, first_month)
        yield Stretch(Period.MONTH, first_month, last_month)
        yield Stretch(Period.DAY, last_month, last_day)
    yield Stretch(Period.HOUR, last_day, until)


def recent(now: datetime, window: timedelta, fine: timedelta) -> list[Stretch]:
    """到 now 为止的 window 这么久（放宽到整格）：最近的 fine 用小时，再早的用日。"""
    edge = _floor_day(now - min(fine, window))
    since = (now - window).replace(minute=0, second=0, microsecond=0)
    until = now.replace(minute=0, second=0, microsecond=0) + HOUR
    if since >= edge:
        return [Stretch(Period.HOUR, since, until)]
    return [Stretch(Period.DAY, _floor_day(since), edge), Stretch(Period.HOUR, edge, until)]


def _floor_day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _ceil_day(moment: datetime) -> datetime:
    floor = _floor_day(moment)
    return floor if floor == moment else floor + DAY


def _ceil_month(moment: datetime) -> datetime:
    floor = moment.replace(day=1)
    return floor if floor == moment else (floor + 32 * DAY).replace(day=1)


def start_of(period: Period, moment: datetime) -> datetime:
    """moment（UTC）所在的那一格从何时起。"""
    if period == Period.HOUR:
        return moment.replace(minute=0, second=0, microsecond=0)
    return _floor_day(moment) if period == Period.DAY else _floor_day(moment).replace(day=1)


def end_of(period: Period, moment: datetime) -> datetime:
    """到 moment（UTC，不含）为止的最后一格到何时。"""
    start = start_of(period, moment)
    if start == moment:
        return moment
    if period == Period.MONTH:
        return _ceil_month(_ceil_day(moment))
    return start + (DAY if period == Period.DAY else HOUR)
