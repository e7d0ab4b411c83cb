"""甘特图的横轴：钟点，五分钟的历史也看得清。"""

import pytest

from scns_conductor.simulator.plots import clock_label, clock_ticks


@pytest.mark.parametrize(("length", "least", "most"), [(60, 4, 8), (300, 4, 13), (3600, 6, 13), (3 * 86400, 4, 13)])
def test_ticks_are_few_and_whole(length: float, least: int, most: int) -> None:
    ticks = clock_ticks((1_764_000_000.0, 1_764_000_000.0 + length))
    assert least <= len(ticks) <= most
    assert all(tick % 10 == 0 for tick in ticks)


def test_ticks_of_a_trace_are_whole_since_its_first_submit() -> None:
    window = (23_423.0, 23_423.0 + 2 * 86400)
    labels = [clock_label(tick, window, 23_423.0) for tick in clock_ticks(window, 23_423.0)]
    assert all(label.endswith(":00") for label in labels)


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
