"""要了多少、用了多少：建议够用，也比原来少。"""

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.efficiency import Usage, hints


def test_an_idle_job_is_told_what_would_do() -> None:
    found = hints(Usage(8, 600.0, 600.0, 16384, 1000, 86400.0))
    assert found == [
        "CPU 平均只用了 1.0 个，要 1 个就够",
        "内存最多用到 1000M，要 1280M 就够",
        "时限写 00:15:00 就够，也容易插空",
    ]


def test_a_busy_job_has_nothing_to_be_told() -> None:
    assert hints(Usage(4, 3600.0, 14000.0, 4096, 3900, 4000.0)) == []
    assert hints(Usage(4, 0.2, 0.0, 4096, 1, 4000.0)) == []
    assert hints(Usage(4, 3600.0, None, None, None, None)) == []


@given(st.integers(1, 64), st.floats(1, 1e6), st.floats(0, 1), st.floats(1, 1e7))
def test_shares_are_shares(cpus: int, run_s: float, part: float, limit_s: float) -> None:
    usage = Usage(cpus, run_s, run_s * cpus * part, None, None, limit_s)
    assert usage.cpu is not None
    assert abs(usage.cpu - part) < 1e-6
    assert usage.idle_cpu_s >= 0
