"""配额：匀速、可以攒、攒有上限；账有上限；0 是不限。"""

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.services import rate_limits
from scns_conductor.services.rate_limits import Quota


@given(rate=st.integers(1, 100), gaps=st.lists(st.floats(0, 1), max_size=60))
def test_never_more_than_the_burst_and_the_rate(rate: int, gaps: list[float]) -> None:
    quota, now, taken = Quota(rate, 2.0), 1000.0, []
    for gap in gaps:
        now += gap
        wait_s = quota.take("x", now)
        if wait_s == 0:
            taken.append(now)
        else:
            # 说要等多久，等了就有；早一点点没有。
            assert quota.wait_s("x", now + wait_s + 1e-6) == 0
            assert quota.wait_s("x", now + wait_s * 0.9) > 0
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= (taken[last] - taken[first] + 2.0) * rate + 1e-6


def test_one_s_quota_is_not_another_s() -> None:
    quota = Quota(1, 1.0)
    assert [quota.take(key, 5.0) > 0 for key in ("a", "a", "b", "b")] == [False, True, False, True]


def test_zero_is_unlimited() -> None:
    quota = Quota(0)
    assert all(quota.take("a", 5.0) == 0 for _ in range(1000))


def test_the_books_do_not_grow_without_end() -> None:
    quota = Quota(1, 1.0)
    for index in range(rate_limits._MOST + 10):
        quota.take(index, 5.0)
    assert len(quota._until) <= rate_limits._MOST
