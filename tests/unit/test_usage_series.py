"""用量的曲线：格数有上限，并格、断档、重启都不丢不多一秒 CPU。"""

import math

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.worker.agent.usage_series import MOST_BUCKETS, UNKNOWN, UsageSeries


def filled(width_s: float, samples: list[tuple[float, float, int]]) -> UsageSeries:
    series = UsageSeries(width_s)
    for elapsed_s, cpu_s, memory_mb in samples:
        series.add(elapsed_s, cpu_s, memory_mb)
    return series


def test_each_bucket_has_its_own_seconds_and_peak() -> None:
    series = filled(10, [(10, 5, 100), (20, 25, 300), (25, 25, 50)])
    assert list(series.cpu_s) == [5, 20, 0]
    assert list(series.memory_mb) == [100, 300, 50]
    assert series.elapsed_s == 25


def test_full_series_merges_neighbours_and_keeps_the_peaks() -> None:
    series = filled(10, [(10.0 * (at + 1), at + 1.0, 900 if at == 4 else 10) for at in range(MOST_BUCKETS + 1)])
    assert series.width_s == 20
    assert len(series.cpu_s) == MOST_BUCKETS // 2 + 1
    assert list(series.cpu_s[:3]) == [2, 2, 2]
    assert series.memory_mb[2] == 900
    assert set(series.memory_mb) == {10, 900}


def test_gap_spreads_the_cpu_and_does_not_invent_memory() -> None:
    series = filled(10, [(10, 1, 100), (60, 51, 200)])
    assert [round(value, 6) for value in series.cpu_s] == [1, 10, 10, 10, 10, 10]
    assert list(series.memory_mb) == [100, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 200]


def test_first_seen_after_a_week_is_still_bounded() -> None:
    series = filled(10, [(7 * 86400, 3600, 64)])
    assert len(series.cpu_s) <= MOST_BUCKETS
    assert math.isclose(sum(series.cpu_s), 3600)
    assert series.memory_mb[-1] == 64


def test_lost_children_are_not_negative_use() -> None:
    assert list(filled(10, [(10, 8, 1), (20, 3, 1), (30, 4, 1)]).cpu_s) == [8, 0, 1]


def test_energy_is_the_difference_of_the_counters() -> None:
    series = UsageSeries(10)
    for elapsed_s, counter in ((10, 5000.0), (20, 5600.0), (30, None), (40, 6000.0), (50, 10.0)):
        series.add(elapsed_s, 1, 1, (1, 1, counter))
    assert series.gpu_energy_j == 1000
    series.add(60, 1, 1, (1, 1, 60.0))
    assert series.gpu_energy_j == 1050


def test_gpu_appears_when_it_is_first_known() -> None:
    series = UsageSeries(10)
    series.add(10, 1, 1)
    assert series.gpu_s is None
    series.add(20, 2, 1, (0.5, 4000, None))
    assert series.gpu_s is not None
    assert series.gpu_memory_mb is not None
    assert list(series.gpu_s) == [0, 5]
    assert list(series.gpu_memory_mb) == [UNKNOWN, 4000]


@given(
    st.lists(st.tuples(st.floats(0.01, 5000), st.floats(0, 4), st.integers(0, 10**6)), min_size=1, max_size=60),
    st.integers(0, 59),
)
def test_no_second_is_lost_or_invented(steps: list[tuple[float, float, int]], restart_at: int) -> None:
    series, elapsed_s, total_s = UsageSeries(10), 0.0, 0.0
    for index, (gap_s, cores, memory_mb) in enumerate(steps):
        if index == restart_at and series.elapsed_s:
            unknown = [None if value == UNKNOWN else value for value in series.memory_mb]
            series = UsageSeries.restored(
                series.width_s, series.elapsed_s, list(series.cpu_s), unknown, None, None, None
            )
        elapsed_s += gap_s
        total_s += gap_s * cores
        series.add(elapsed_s, total_s, memory_mb)
    assert len(series.cpu_s) == len(series.memory_mb) <= MOST_BUCKETS
    assert len(series.cpu_s) == math.ceil(elapsed_s / series.width_s)
    assert math.isclose(sum(series.cpu_s), total_s, rel_tol=1e-6, abs_tol=1e-6)
    assert max(series.memory_mb) <= max(memory_mb for _, _, memory_mb in steps)
