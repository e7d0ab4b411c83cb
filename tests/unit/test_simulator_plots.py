"""甘特图的横轴：钟点，五分钟的历史也看得清。"""

import pytest

from scns_conductor.simulator.plots import clock_label, clock_ticks


@pytest.mark.parametrize(("length", "least", "most"), [(60, 4, 8), (300, 4, 13), (3600, 6, 13), (3 * 86400, 4, 13)])
def test_ticks_are_few_and_whole(length: float, least: int, most: int) -> None:
    ticks = clock_ticks((1_764_000_000.0, 1_764_000_000.0 + length))
    assert least <= len(ticks) <= most
    assert all(tick % 10 == 0 for tick in ticks)


def test_labels_are_clock_times(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    window = (1_764_000_000.0, 1_764_000_300.0)
    assert clock_label(1_764_000_060.0, window, 1_764_000_000.0) == "16:01:00"
    # 踪迹的时刻从第一次提交起。
    assert clock_label(90_000.0, (0.0, 200_000.0), 0.0) == "1d 01:00"
    assert clock_label(3_600.0, (0.0, 7_200.0), 0.0) == "01:00"
    monkeypatch.undo()
    time.tzset()
