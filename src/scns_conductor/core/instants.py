"""时刻的文字形式，取自 sbatch(1) 的 --begin 与 sacct(1) 的时间写法。"""

import math
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from time import CLOCK_BOOTTIME, clock_gettime

# 数据库的钟在本机开机的那一刻；没有问过是 None。
_database_boot: datetime | None = None
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_RELATIVE = re.compile(r"^now(?:\s*([+-])\s*(\d+)\s*([a-z]*))?$", re.IGNORECASE)
_CLOCK = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(am|pm)?$", re.IGNORECASE)
_PART = re.compile(
    r"[\s-]*(?:(?P<near>today|tomorrow)"
    r"|(?P<clock>midnight|noon|elevenses|fika|teatime|\d{1,2}:\d{2}(?::\d{2})?\s*(?:[ap]m)?)"
    r"|(?P<date>\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[/.]\d{1,2}(?:[/.](?:\d{4}|\d{2}))?|\d{6}|\d{4}))"
    r"(?:T(?=\d|\s*$)|(?![\d:]))[\s-]*",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"^(?:(\d{4})-(\d{1,2})-(\d{1,2})|(\d{1,2})[/.](\d{1,2})(?:[/.](\d{2}|\d{4}))?|(\d{2})(\d{2})(\d{2})?)$"
)
# 再早、再晚的换算时区就出了日历。
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_NAMED = {"midnight": time(0), "noon": time(12), "elevenses": time(11), "fika": time(15), "teatime": time(16)}
_FORMS = (
    "可用写法：2026-01-31T08:00[:00]、2026-01-31、08:00、MMDD[YY]、MM/DD/YY、today、tomorrow、noon、now+2hours、Unix 秒"
)


def parse_instant(text: str | int | float, now: datetime) -> datetime:
    """把时刻的写法换算成时刻（UTC）；now 带时区，没有写时区的按 now 的时区。

    只有钟点而今天已过的，是明天（sbatch(1)）。认不出、早于 1900 年或晚于 9000 年时抛 ValueError（中文原因）。
    """
    try:
        # 换成 UTC：钟拨动时的钟面，Python 不与别的时区的比。
        found = _read(text, now).astimezone(UTC)
        possible = _EARLIEST <= found < _LATEST
    except OverflowError:
        possible = False
    if not possible:
        raise ValueError(f"时刻 {str(text)[:64]!r} 超出范围；请写 1900 到 8999 年之间的")
    return found


def _read(text: str | int | float, now: datetime) -> datetime:
    if isinstance(text, int | float):
        return _from_epoch(float(text))
    word = text.strip()
    relative = _RELATIVE.match(word)
    if relative:
        # 加的是走过的时间，不是钟面上的。
        return (now.astimezone(UTC) + _offset(relative)).astimezone(now.tzinfo)
    if re.fullmatch(r"(uts)?\d{9,}|uts\d{1,9}", word, re.IGNORECASE):
        return _from_epoch(float(word.lower().removeprefix("uts")))
    iso = _iso(word, now)
    if iso is not None:
        return iso
    day, clock = _parts(word, now)
    if day is not None or clock is None:
        return datetime.combine(day or now.date(), clock or time(0), now.tzinfo)
    found = datetime.combine(now.date(), clock, now.tzinfo)
    return found if found >= now else found + timedelta(days=1)


def _parts(word: str, now: datetime) -> tuple[date | None, time | None]:
    """日子与钟点，各至多一个，先后随意，以空白、- 或 T 相隔：noon-tomorrow、1970-01-01-00:00:01（parse_time.c）。"""
    day: date | None = None
    clock: time | None = None
    place = 0
    while place < len(word):
        found = _PART.match(word, place)
        kind = found.lastgroup if found is not None else None
        if found is None or kind is None or (clock if kind == "clock" else day) is not None:
            raise ValueError(f"无法识别的时刻 {word[:64]!r}；{_FORMS}")
        piece = found[kind]
        if kind == "clock":
            clock = _clock(piece)
        elif kind == "near":
            day = now.date() + timedelta(days=piece.lower() == "tomorrow")
        else:
            day = _date(piece, now)
        place = found.end()
    if not word:
        raise ValueError(f"时刻是空的；{_FORMS}")
    return day, clock


class LocalZone(tzinfo):
    """本机的时区，夏令时按各个时刻自己的算；钟拨快时跳过的钟点往后推，拨慢时重复的取第一次。"""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """那一刻比 UTC 早多少。"""
        wall = (moment or datetime.now(UTC)).replace(tzinfo=None, microsecond=0)
        # 不用 astimezone 的：跳过的钟点上，各版 Python 说的不是同一边。
        try:
            return wall.replace(tzinfo=UTC) - datetime.fromtimestamp(wall.timestamp(), UTC)
        except ValueError as error:
            # 日历的尽头，同 astimezone。
            raise OverflowError(str(error)) from error

    def dst(self, moment: datetime | None) -> None:
        """不分。"""

    def tzname(self, moment: datetime | None) -> str:
        """那一刻的时区的名字。"""
        return (moment or datetime.now(UTC)).replace(tzinfo=None).astimezone().tzname() or ""

    def fromutc(self, moment: datetime) -> datetime:
        """UTC 的钟面 -> 本地的。"""
        return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


def boot_s() -> float:
    """开机以来的秒数：本机的日历改了，它不动。"""
    return clock_gettime(CLOCK_BOOTTIME)


def follow_database(database_now: datetime, asked_s: float) -> None:
    """从此 utc_now 照数据库的钟：开机 asked_s 秒（boot_s）时，它是 database_now。

    时刻都要与数据库里的比：API 的机器的钟差一小时，now+10minutes 也还是十分钟之后。别的进程不叫它，照本机的钟。
    """
    global _database_boot
    _database_boot = database_now - timedelta(seconds=asked_s)


def utc_now() -> datetime:
    """此刻，UTC。"""
    if _database_boot is None:
        return datetime.now(UTC)
    return _database_boot + timedelta(seconds=boot_s())


def local_now() -> datetime:
    """此刻，时区是本机的；给 parse_instant。"""
    return utc_now().astimezone(LocalZone())


def zoned(text: str) -> str:
    """按本机的时区读懂的时刻，写成带时区的，服务器在哪个时区都是同一刻；相对于此刻的（now+1hour）原样。

    认不出时抛 ValueError（中文原因）。
    """
    found = parse_instant(text, local_now())
    return text if _RELATIVE.match(text.strip()) else found.isoformat()


def moment_of(seconds: float | None) -> datetime | None:
    """Unix 秒 -> 时刻；没有、或远得出了日历（几个几千年时限的作业排着队）是 None。"""
    if seconds is None or not seconds < _LATEST.timestamp():
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _from_epoch(seconds: float) -> datetime:
    if seconds < 0 or math.isnan(seconds):
        raise ValueError(f"时刻 {seconds:g} 不对；请写 1970 年以后的 Unix 秒")
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise ValueError(f"时刻 {seconds:g} 超出范围") from error


def _iso(word: str, now: datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


def _offset(match: re.Match[str]) -> timedelta:
    sign, count, unit = match[1], match[2], (match[3] or "second").lower()
    if count is None:
        return timedelta()
    if len(count) > 10:
        raise ValueError(f"时刻 {match[0]!r} 过远")
    seconds = next((value for name, value in _UNITS.items() if name.startswith(unit) or unit == f"{name}s"), None)
    if seconds is None:
        raise ValueError(f"无法识别的时间单位 {unit!r}；可用 seconds、minutes、hours、days、weeks")
    try:
        return timedelta(seconds=int(count) * seconds) * (-1 if sign == "-" else 1)
    except OverflowError as error:
        raise ValueError(f"时刻 {match[0]!r} 过远") from error


def _date(text: str, now: datetime) -> date:
    match = _DATE.match(text)
    if match is None:
        raise ValueError(f"无法识别的时刻 {text!r}；{_FORMS}")
    if match[1]:
        year, month, day = match[1], match[2], match[3]
    elif match[4]:
        month, day, year = match[4], match[5], match[6] or str(now.year)
    else:
        month, day, year = match[7], match[8], match[9] or str(now.year)
    full_year = int(year) + (2000 if len(year) == 2 else 0)
    try:
        return datetime(full_year, int(month), int(day)).date()  # noqa: DTZ001 - 只取日期
    except ValueError as error:
        raise ValueError(f"日期 {text!r} 不存在") from error


def _clock(text: str) -> time:
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    match = _CLOCK.match(text)
    if match is None:
        raise ValueError(f"无法识别的时刻 {text!r}；{_FORMS}")
    hour = int(match[1])
    if match[4]:
        if not 1 <= hour <= 12:
            raise ValueError(f"钟点 {text!r} 不存在")
        hour = hour % 12 + (12 if match[4].lower() == "pm" else 0)
    try:
        return time(hour, int(match[2]), int(match[3] or 0))
    except ValueError as error:
        raise ValueError(f"钟点 {text!r} 不存在") from error
