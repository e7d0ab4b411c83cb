"""crontab 的时刻：五个字段（crontab(5)）或 @daily 一类的名字，按某个时区的钟面。

夏令时同 Debian 的 cron：分与时都写定的，跳过的钟点在拨快之后立刻做，重复的只做第一次；写 * 的照钟面，重复的两遍都做。
"""

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

# scrontab(1)。
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@elevenses": "0 11 * * *",
    "@noon": "0 12 * * *",
    "@fika": "0 15 * * *",
    "@teatime": "0 16 * * *",
}
_LINE = re.compile(r"\s*(@[a-z]+|\S+(?:\s+\S+){4})\s+(\S.*?)\s*", re.IGNORECASE)


def schedule_and_command(line: str) -> tuple[str, str]:
    """crontab 的一行 ->（时刻的写法，命令）；不是五个字段加命令、时刻写错抛 ValueError（中文原因）。"""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("应是五个字段（分 时 日 月 星期）或 @daily 一类的名字，再加命令")
    schedule = " ".join(found[1].split())
    check_schedule(schedule)
    return schedule, found[2]


def check_schedule(schedule: str) -> None:
    """写错了、永远没有那样的一天抛 ValueError（中文原因）。"""
    next_run(schedule, "UTC", datetime(2000, 1, 1, tzinfo=UTC))


def check_zone(zone: str) -> None:
    """认不出的时区抛 ValueError（中文原因）。"""
    _zone(zone)


def next_run(schedule: str, zone: str, after: datetime) -> datetime:
    """after 之后的第一次（UTC）；after 带时区。写错了、永远没有抛 ValueError（中文原因）。"""
    fields = _NAMED.get(schedule.lower(), schedule)
    if len(fields.split()) != 5:
        raise ValueError(f"时刻 {schedule[:64]!r} 应是五个字段：分 时 日 月 星期")
    try:
        return next(CronSim(fields, after.astimezone(_zone(zone)))).astimezone(UTC)
    except CronSimError as error:
        raise ValueError(f"时刻 {schedule[:64]!r} 写错了（{error}）") from error
    except (StopIteration, OverflowError):
        raise ValueError(f"时刻 {schedule[:64]!r} 永远不会到") from None


def _zone(zone: str) -> tzinfo:
    if zone == "UTC":
        # 没有时区资料的机器上也有。
        return UTC
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"没有时区 {zone[:64]!r}；例如 Europe/Berlin、UTC") from error
