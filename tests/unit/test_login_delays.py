"""登录失败之后的等待：越来越久、有上限、记得的有限、成功只洗自己的。"""

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.services.login_delays import (
    FORGOTTEN_S,
    FREE_PER_ADDRESS,
    FREE_PER_USER,
    MOST_ADDRESS_S,
    MOST_USER_S,
    LoginDelays,
)


def failed(delays: LoginDelays, times: int, user: str = "alice", address: str = "a", now: float = 0.0) -> None:
    for _ in range(times):
        delays.charge(user, address, now)


def test_a_user_who_fails_waits_longer_each_time() -> None:
    delays = LoginDelays()
    failed(delays, FREE_PER_USER)
    assert delays.wait_s("alice", "a", 0) == 0
    waits = []
    for _ in range(10):
        failed(delays, 1)
        waits.append(delays.wait_s("alice", "elsewhere", 0))
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1, MOST_USER_S)
    # 别人照常；过了那么久从头算。
    assert delays.wait_s("bob", "a", 0) == 0
    assert delays.wait_s("alice", "a", FORGOTTEN_S + 1) == 0


def test_an_address_that_tries_many_names_waits() -> None:
    delays = LoginDelays()
    for number in range(FREE_PER_ADDRESS + 20):
        delays.charge(f"user{number}", "a", 0)
    assert delays.wait_s("alice", "a", 0) == MOST_ADDRESS_S
    assert delays.wait_s("alice", "b", 0) == 0


def test_success_clears_only_its_own() -> None:
    delays = LoginDelays()
    for number in range(FREE_PER_ADDRESS + 3):
        delays.charge(f"user{number}", "a", 0)
        # 每试一次别人的，用自己的账号成功一次：洗不掉。
        delays.charge("mallory", "a", 0)
        delays.succeeded("mallory", "a")
    assert delays.wait_s("alice", "a", 0) > 0
    failed(delays, 10)
    delays.succeeded("alice", "b")
    assert delays.wait_s("alice", "c", 0) == 0


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=300))
def test_what_it_remembers_is_bounded(tries: list[tuple[int, int]]) -> None:
    delays = LoginDelays(remembered=20)
    for user, address in tries:
        delays.charge(str(user), str(address), 0.0)
        assert len(delays._accounts) <= 20
        assert delays.wait_s(str(user), str(address), 0.0) <= MOST_ADDRESS_S
