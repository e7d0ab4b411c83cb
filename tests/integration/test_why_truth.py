"""why 说的都是真的：一个真系统上的十几种情形，问、照每条建议去改、等它应验。全部情形见 scripts/why_truth.py。"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import why_situations
from running_system import start_system
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token
from why_situations import Slot, judge_all, options_of, set_up

SLOTS = 3
# 每种毛病一个，合起来一分钟左右。
CHOSEN = (
    "the_holder_is_suspended",
    "a_head_job_keeps_the_free_node",
    "a_head_job_starts_too_soon_to_squeeze_in",
    "the_deadline_cannot_be_met",
    "one_of_its_partitions_is_down",
    "the_minimum_time_is_respected",
    "its_begin_time_is_ahead",
    "it_waits_for_a_running_job",
    "its_parent_failed",
    "the_array_is_throttled",
    "the_partition_is_down",
    "it_is_held",
    "the_named_node_is_busy",
    "its_own_reservation_is_full",
    "busy_until_a_reservation",
    "the_qos_allows_few_cpu_minutes_at_once",
    "only_real_competitors_are_ahead",
)


@pytest.fixture(scope="module")
def slots() -> Iterator[list[Slot]]:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    arguments, environment = options_of(SLOTS)
    with start_system(scratch / "why", *arguments, environment=environment) as system:
        yield set_up(system, issue_token(Settings(data_dir=system.data_dir), "alice"), SLOTS)
    shutil.rmtree(scratch)


@pytest.mark.timeout(600)
def test_what_why_says_comes_true(slots: list[Slot], monkeypatch: pytest.MonkeyPatch) -> None:
    # 机器忙时消息可以慢；早晚要应验。
    monkeypatch.setattr(why_situations, "LATE_S", 40.0)
    found = judge_all(slots, [(name, 7) for name in CHOSEN])
    assert {item.name for item in found} == set(CHOSEN)
    assert [(item.name, item.mistakes) for item in found if item.mistakes] == []
    assert sum(item.suggested for item in found) >= 5
    assert sum(item.dated for item in found) >= 5
