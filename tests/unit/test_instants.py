"""时刻的写法（core/instants.py）：sbatch(1) 的 --begin 各种写法与坏的写法。"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.instants import LocalZone, local_now, parse_instant, zoned

ZONE = timezone(timedelta(hours=8))
NOW = datetime(2026, 11, 24, 10, 30, tzinfo=ZONE)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZONE)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("now+1hour", NOW + timedelta(hours=1)),
        ("NOW + 90", NOW + timedelta(seconds=90)),
        ("now-2days", NOW - timedelta(days=2)),
        ("now+3weeks", NOW + timedelta(weeks=3)),
        ("now+5min", NOW + timedelta(minutes=5)),
        ("today", at(2026, 11, 24)),
        ("tomorrow", at(2026, 11, 25)),
        ("noon", at(2026, 11, 24, 12)),
        ("midnight", at(2026, 11, 25)),
        ("teatime", at(2026, 11, 24, 16)),
        ("08:00", at(2026, 11, 25, 8)),
        ("11:15:30", at(2026, 11, 24, 11, 15, 30)),
        ("1:05pm", at(2026, 11, 24, 13, 5)),
        ("12:00am", at(2026, 11, 25)),
        ("2026-01-31", at(2026, 1, 31)),
        ("2026-01-31T", at(2026, 1, 31)),
        ("2026-01-31T08:00", at(2026, 1, 31, 8)),
        ("2026-01-31 08:00:05", at(2026, 1, 31, 8, 0, 5)),
        ("2026-01-31T08:00:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00:00+02:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("013126", at(2026, 1, 31)),
        ("01/31/26", at(2026, 1, 31)),
        ("01/31/2026", at(2026, 1, 31)),
        ("1/31", at(2026, 1, 31)),
        ("1970-01-02-00:00:01", at(1970, 1, 2, 0, 0, 1)),
        ("noon-tomorrow", at(2026, 11, 25, 12)),
        ("tomorrow noon", at(2026, 11, 25, 12)),
        ("16:00 01/31/26", at(2026, 1, 31, 16)),
        ("16:00tomorrow", at(2026, 11, 25, 16)),
        ("uts60", datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
        ("1767225600", datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600, datetime(2026, 1, 1, tzinfo=UTC)),
        (0.5, datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_the_forms_of_sbatch_begin(text: str | float, expected: datetime) -> None:
    assert parse_instant(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "someday", "now+", "now+1fortnight", "now+99999999999", "now+9999999999weeks", "25:00", "8:60", "13:00xm",
        "2026-02-30", "2026-13-01", "2026-01-31T99:00", "02/30", "99999999999999999999", 1e300, -5, -0.5,
        "2026-01-31T08:00:00+99:00", "now+1hour+1hour", "noon noon", "today tomorrow", "08:00-09:00",
    ],
)  # fmt: skip
def test_a_bad_form_is_a_value_error_in_chinese(text: str | float) -> None:
    with pytest.raises(ValueError) as caught:
        parse_instant(text, NOW)
    assert any("\u4e00" <= char <= "\u9fff" for char in str(caught.value)), caught.value


@given(st.text(max_size=30) | st.floats() | st.integers())
def test_nothing_else_is_ever_raised_and_the_answer_has_a_zone(text: str | float) -> None:
    try:
        found = parse_instant(text, NOW)
    except ValueError:
        return
    assert found.tzinfo is not None


@given(st.integers(86_400, 32_000_000_000))
def test_iso_text_is_read_back(seconds: int) -> None:
    whole = datetime.fromtimestamp(seconds, UTC)
    assert parse_instant(whole.isoformat(), NOW) == whole


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[datetime]:
    """本机在纽约，此刻是夏令时之前的 2028-02-01 正午。"""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield datetime(2028, 2, 1, 12, tzinfo=LocalZone())
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2028-02-29T12:00", datetime(2028, 2, 29, 17, tzinfo=UTC)),
        # 夏天的时刻按夏令时算，与此刻是不是夏令时无关。
        ("2028-07-01T12:00", datetime(2028, 7, 1, 16, tzinfo=UTC)),
        # 3 月 12 日 2:00 拨到 3:00：没有的 2:30 往后推成 3:30。
        ("2028-03-12T02:30", datetime(2028, 3, 12, 7, 30, tzinfo=UTC)),
        # 11 月 5 日 2:00 拨回 1:00：有两个 1:30，取第一个。
        ("2028-11-05T01:30", datetime(2028, 11, 5, 5, 30, tzinfo=UTC)),
        ("now+2days", datetime(2028, 2, 3, 17, tzinfo=UTC)),
        ("2028-07-01T12:00Z", datetime(2028, 7, 1, 12, tzinfo=UTC)),
    ],
)
def test_the_local_zone_follows_daylight_saving(new_york: datetime, text: str, expected: datetime) -> None:
    assert parse_instant(text, new_york) == expected


def test_the_end_of_the_calendar_is_said_in_one_line(new_york: datetime) -> None:
    with pytest.raises(ValueError, match="超出范围"):
        parse_instant("9999-12-31T23:59", new_york)


def test_a_zoned_instant_means_the_same_anywhere(new_york: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    text = zoned("2028-02-29T12:00")
    assert text == "2028-02-29T17:00:00+00:00"
    assert zoned("now+1hour") == "now+1hour"
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    assert parse_instant(text, local_now()) == datetime(2028, 2, 29, 17, tzinfo=UTC)
