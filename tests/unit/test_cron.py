"""crontab 的时刻：下一次是何时，夏令时前后；写错的说得出。"""

from datetime import UTC, datetime

import pytest

from scns_conductor.core.cron import check_zone, next_run, schedule_and_command

BERLIN = "Europe/Berlin"


def at(*words: int) -> datetime:
    return datetime(*words, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("* * * * *", "UTC", at(2026, 1, 1, 0, 0, 59), at(2026, 1, 1, 0, 1)),
        ("15 10 * * sun", "UTC", at(2026, 1, 1), at(2026, 1, 4, 10, 15)),
        ("0 0 1 jan 7", "UTC", at(2026, 1, 2), at(2026, 1, 4)),
        ("0 0 1 * 1", "UTC", at(2026, 1, 2), at(2026, 1, 5)),
        ("0 0 29 2 *", "UTC", at(2026, 1, 1), at(2028, 2, 29)),
        ("@daily", "America/New_York", at(2026, 1, 1), at(2026, 1, 1, 5)),
        ("@Teatime", "UTC", at(2026, 1, 1), at(2026, 1, 1, 16)),
        # 跳过的 2:30：拨快之后立刻；*/20 照钟面。
        ("30 2 * * *", BERLIN, at(2026, 3, 28, 12), at(2026, 3, 29, 1)),
        ("*/20 * * * *", BERLIN, at(2026, 3, 29, 0, 45), at(2026, 3, 29, 1)),
        # 重复的 2:30：只做第一次；*/30 两遍都做。
        ("30 2 * * *", BERLIN, at(2026, 10, 24, 23), at(2026, 10, 25, 0, 30)),
        ("30 2 * * *", BERLIN, at(2026, 10, 25, 0, 30), at(2026, 10, 26, 1, 30)),
        ("*/30 * * * *", BERLIN, at(2026, 10, 25, 0, 30), at(2026, 10, 25, 1)),
    ],
)
def test_the_next_run(schedule: str, zone: str, after: datetime, expected: datetime) -> None:
    assert next_run(schedule, zone, after) == expected


@pytest.mark.parametrize(
    "schedule", ["0 0 30 2 *", "61 * * * *", "* * * *", "* * * * * *", "@reboot", "", "5-1 * * * *"]
)
def test_what_never_runs_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match="时刻"):
        next_run(schedule, "UTC", at(2026, 1, 1))


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "a\0b", "x" * 5000])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="时区"):
        check_zone(zone)


def test_a_line_is_a_schedule_and_a_command() -> None:
    assert schedule_and_command(" */5 *\t* * mon-fri  echo  a  b ") == ("*/5 * * * mon-fri", "echo  a  b")
    assert schedule_and_command("@hourly ls") == ("@hourly", "ls")
    for line in ("* * * * *", "ls", "@hourly", "1 2 3 4 ls"):
        with pytest.raises(ValueError):
            schedule_and_command(line)
