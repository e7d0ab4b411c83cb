"""混沌测试的裁判：种下的每一种毛病都要看得出来，否则「零丢失」什么也没说。"""

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from chaos_jobs import Expected
from chaos_verdict import Verdict, _judge_history, _judge_outcome

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)


def job(**fields: Any) -> dict[str, Any]:
    return {
        "job_id": 1,
        "restart_count": 0,
        "state": "COMPLETED",
        "exit_status": 0,
        "exit_signal": 0,
        "reason": "None",
        "error_msg": None,
        "start_time": BEGAN,
        "end_time": BEGAN + timedelta(seconds=1),
        **fields,
    }


def outcome(row: dict[str, Any], expected: Expected, *, ran: bool = True) -> Verdict:
    verdict = Verdict()
    marks = Counter({(row["job_id"], row["restart_count"]): 1}) if ran else Counter[tuple[int, int]]()
    _judge_outcome(verdict, row, expected, marks, marks)
    return verdict


PLAIN = Expected(exit_status=0, requeue=True, cancelled=False)


def test_what_is_as_it_should_be_is_good() -> None:
    assert outcome(job(), PLAIN).good
    assert outcome(job(state="FAILED", exit_status=7), Expected(7, True, False)).good
    assert outcome(job(state="CANCELLED", exit_status=None), Expected(0, True, True)).good
    assert outcome(job(state="NODE_FAIL", exit_status=None), Expected(0, False, False)).good


@pytest.mark.parametrize(
    ("row", "expected", "ran", "kind"),
    [
        (job(state="PENDING"), PLAIN, True, "lost"),
        (job(state="RUNNING"), PLAIN, True, "lost"),
        (job(), PLAIN, False, "lost"),
        (job(exit_status=3, state="FAILED"), PLAIN, True, "wrong"),
        (job(), Expected(3, True, False), True, "wrong"),
        (job(state="CANCELLED"), PLAIN, True, "wrong"),
        (job(state="NODE_FAIL"), PLAIN, True, "wrong"),
        (job(state="NODE_FAIL", restart_count=1), Expected(0, False, False), True, "wrong"),
        (job(state="TIMEOUT"), PLAIN, True, "wrong"),
        (job(end_time=BEGAN - timedelta(seconds=1)), PLAIN, True, "wrong"),
    ],
)
def test_each_wrong_outcome_is_seen(row: dict[str, Any], expected: Expected, ran: bool, kind: str) -> None:
    assert getattr(outcome(row, expected, ran=ran), kind)


def history(*states: str, **fields: Any) -> Verdict:
    verdict = Verdict()
    events = [
        {"from_state": before, "to_state": after} for before, after in zip((None, *states[:-1]), states, strict=True)
    ]
    _judge_history(verdict, job(state=states[-1], **fields), events)
    return verdict


def test_histories() -> None:
    assert history("PENDING", "RUNNING", "COMPLETED").good
    assert history("PENDING", "RUNNING", "PENDING", "RUNNING", "FAILED", restart_count=1).good
    assert history("PENDING", "COMPLETED").wrong
    assert history("PENDING", "RUNNING", "COMPLETED", "RUNNING", "COMPLETED").doubled
    assert history("PENDING", "RUNNING", "PENDING", "RUNNING", "COMPLETED").wrong
    broken = Verdict()
    _judge_history(
        broken, job(), [{"from_state": None, "to_state": "PENDING"}, {"from_state": "RUNNING", "to_state": "COMPLETED"}]
    )
    assert broken.lost
