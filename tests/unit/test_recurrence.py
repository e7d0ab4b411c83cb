"""重复的预留：各次的时刻照 Slurm 的规则，钟面时刻不随夏令时变；两个预留碰不碰。"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.recurrence import RECURRING, collide, occurrences, recurrence

HOUR = timedelta(hours=1)
# 2026-11-25 是星期三。
WEDNESDAY = datetime(2026, 11, 25, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setenv("TZ", getattr(request, "param", "UTC"))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def starts(kind: str, start: datetime, now: datetime, count: int = 5) -> list[str]:
    found = islice(occurrences(start, start + HOUR / 2, [kind], now), count)
    return [begin.strftime("%a %d %H:%M") for begin, _ in found]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("HOURLY", ["Wed 25 08:00", "Wed 25 09:00", "Wed 25 10:00"]),
        ("DAILY", ["Wed 25 08:00", "Thu 26 08:00", "Fri 27 08:00"]),
        ("WEEKDAY", ["Wed 25 08:00", "Thu 26 08:00", "Fri 27 08:00", "Mon 30 08:00", "Tue 01 08:00"]),
        # 第一次照写的；以后落在周末。
        ("WEEKEND", ["Wed 25 08:00", "Sat 28 08:00", "Sun 29 08:00", "Sat 05 08:00", "Sun 06 08:00"]),
        ("WEEKLY", ["Wed 25 08:00", "Wed 02 08:00", "Wed 09 08:00"]),
    ],
)
def test_the_moments_of_each_kind(kind: str, expected: list[str]) -> None:
    assert starts(kind, WEDNESDAY, WEDNESDAY, len(expected)) == expected


def test_those_over_are_left_out_and_the_running_one_is_first() -> None:
    assert starts("DAILY", WEDNESDAY, WEDNESDAY + timedelta(days=2, minutes=10), 1) == ["Fri 27 08:00"]
    assert starts("DAILY", WEDNESDAY, WEDNESDAY + timedelta(days=2, minutes=30), 1) == ["Sat 28 08:00"]
    assert starts("HOURLY", WEDNESDAY, WEDNESDAY + timedelta(days=400, minutes=29), 1) == ["Thu 30 08:00"]
    assert list(occurrences(WEDNESDAY, WEDNESDAY + HOUR, ["MAINT"], WEDNESDAY + HOUR)) == []
    assert len(list(occurrences(WEDNESDAY, WEDNESDAY + HOUR, ["MAINT"], WEDNESDAY))) == 1


@pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)
@pytest.mark.parametrize("kind", RECURRING)
@pytest.mark.parametrize("offset", range(7))
def test_one_that_began_long_ago_goes_on_in_the_same_rhythm(kind: str, offset: int) -> None:
    """跳过的与逐次数过来的相同。"""
    start, now = WEDNESDAY + timedelta(days=offset), WEDNESDAY + timedelta(days=200, hours=3)
    counted = (each for each in occurrences(start, start + HOUR / 2, [kind], start) if each[1] > now)
    jumped = occurrences(start, start + HOUR / 2, [kind], now)
    assert list(islice(jumped, 20)) == list(islice(counted, 20))


@pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)
def test_the_clock_on_the_wall_stays_the_same_over_summer_time() -> None:
    """2026-10-25 凌晨柏林的钟拨回一小时：钟面还是 9 点，UTC 晚一小时。"""
    start = datetime(2026, 10, 24, 7, tzinfo=UTC)
    found = [begin for begin, _ in islice(occurrences(start, start + HOUR, ["DAILY"], start), 2)]
    assert [begin.hour for begin in found] == [9, 9]
    assert found[1].astimezone(UTC) == datetime(2026, 10, 25, 8, tzinfo=UTC)


@given(st.sampled_from(RECURRING), st.integers(0, 60), st.integers(0, 40 * 24 * 60))
def test_whatever_the_moment_the_same_series_goes_on(kind: str, minutes: int, later: int) -> None:
    """从中间看与从头看是同一串，互不重叠。"""
    start, now = WEDNESDAY, WEDNESDAY + timedelta(minutes=later)
    end = start + timedelta(minutes=max(1, minutes))
    full = [span for span in islice(occurrences(start, end, [kind], start), 1000) if span[1] > now]
    seen = list(islice(occurrences(start, end, [kind], now), 5))
    assert seen == full[:5]
    assert all(one[1] <= two[0] for one, two in pairwise(seen))


def test_two_kinds_at_once_are_refused() -> None:
    assert recurrence(["MAINT", "WEEKLY"]) == "WEEKLY"
    with pytest.raises(ValueError, match="DAILY 与 WEEKLY"):
        recurrence(["WEEKLY", "DAILY"])


def test_whether_two_meet() -> None:
    daily = (WEDNESDAY, WEDNESDAY + HOUR, ["DAILY"])
    saturday = datetime(2026, 12, 19, 8, 30, tzinfo=UTC)
    assert collide(daily, (saturday, saturday + HOUR, []))
    assert collide((saturday, saturday + HOUR, []), daily)
    assert not collide(daily, (saturday + HOUR, saturday + 2 * HOUR, []))
    weekend = (WEDNESDAY - 2 * HOUR, WEDNESDAY - HOUR, ["WEEKEND"])
    assert not collide(daily, weekend)
    assert collide((WEDNESDAY - 2 * HOUR, WEDNESDAY - HOUR, ["DAILY"]), (saturday - 2 * HOUR, saturday, ["WEEKEND"]))
    assert not collide((WEDNESDAY, WEDNESDAY + HOUR, ["WEEKDAY"]), (saturday, saturday + HOUR, []))
    # 已经过去、不重复的碰不到以后的。
    assert not collide((WEDNESDAY, WEDNESDAY + HOUR, []), (saturday, saturday + HOUR, ["DAILY"]))
