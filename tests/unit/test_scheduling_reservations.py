"""预留：此刻用得上哪一个，换掉哪些节点，标志里的数。纯函数。"""

from datetime import UTC, datetime, timedelta

import pytest

from scns_conductor.core.reservation_flags import floated, purge_after_s, purge_flag, with_float
from scns_conductor.scheduling.advance import Admission, AdvanceReservation, Refusal, admission, replenished

NOW = 1000.0


def reservation(name: str, start: float = 0.0, end: float = 5000.0, **more: bool) -> AdvanceReservation:
    return AdvanceReservation(name, start, end, None, frozenset({"alice"}), **more)


def admitted(*known: AdvanceReservation, asked: str = "", user: str = "alice", limit_s: float | None = 60) -> object:
    names = tuple(asked.split(",")) if asked else ()
    return admission({each.name: each for each in known}, names, user, None, limit_s, NOW)


def test_the_first_one_that_lets_in() -> None:
    early, open_ = reservation("early", 2000.0), reservation("open")
    assert admitted(early, open_, asked="early,open") == Admission("open", False, 4940.0)
    refused = admitted(early, asked="early,gone")
    assert isinstance(refused, Refusal)
    assert refused.wake_at == 2000.0
    assert isinstance(admitted(open_, asked="open", limit_s=None), Refusal)
    assert admitted(open_) is None


def test_flexible_ones_have_no_edges() -> None:
    flexible = reservation("flexible", 2000.0, flex=True)
    assert admitted(flexible, asked="flexible", limit_s=None) == Admission("flexible", True)
    assert isinstance(admitted(flexible, asked="flexible", user="bob"), Refusal)


def test_magnets_draw_those_who_did_not_ask() -> None:
    magnet = reservation("magnet", magnetic=True)
    assert admitted(magnet) == Admission("magnet", True, 4940.0)
    assert admitted(magnet, user="bob") is None
    assert admitted(magnet, limit_s=10_000) is None
    # 指名的只在里面。
    assert admitted(magnet, asked="magnet") == Admission("magnet", False, 4940.0)


def test_broken_nodes_are_replaced_one_by_one() -> None:
    assert replenished(["a", "b", "c"], {"b"}, ["b", "d", "e"]) == ["a", "d", "c"]
    assert replenished(["a", "b"], {"a", "b"}, ["c"]) == ["c", "b"]
    assert replenished(["a"], set(), ["b"]) == ["a"]


def test_flags_with_numbers() -> None:
    assert purge_flag("PURGE_COMP") == "PURGE_COMP=00:05:00"
    assert purge_after_s(["MAINT", purge_flag("PURGE_COMP=10")]) == 600
    # 再读一遍还是它。
    assert purge_flag(purge_flag("PURGE_COMP=1:30")) == "PURGE_COMP=00:01:30"
    assert purge_after_s(["MAINT"]) is None
    for wrong in ("PURGE_COMP=", "PURGE_COMP=x", "PURGE_COMP=0"):
        with pytest.raises(ValueError, match=r"."):
            purge_flag(wrong)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    flags = with_float(["TIME_FLOAT", "FLEX"], 3600.4)
    assert flags == ["TIME_FLOAT=3600", "FLEX"]
    later = start + timedelta(days=1)
    assert floated(start, start + timedelta(hours=2), flags, later) == (
        later + timedelta(hours=1),
        later + timedelta(hours=3),
    )
    assert floated(start, later, ["FLEX"], later) is None
