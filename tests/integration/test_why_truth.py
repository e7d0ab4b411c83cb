"""why 说的都是真的：一个真系统上的十二种情形，问、照每条建议去改、等它应验。全部情形见 scripts/why_truth.py。"""

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

pytestmark = pytest.mark.faults

SLOTS = 4
# 每类说法一个，合起来半分钟；全部情形在 scripts/why_truth.py。长的在前，几块地方才一起做完。
CHOSEN = (
    "a_head_job_keeps_the_free_node",
    "the_named_node_is_busy",
    "it_waits_for_a_running_job",
    "the_deadline_cannot_be_met",
    "the_holder_is_suspended",
    "busy_until_a_reservation",
    "the_partition_is_down",
    "the_array_is_throttled",
    "the_nodes_are_kept_for_another_user",
    "it_may_preempt_only_later",
    "it_is_held",
    "its_parent_failed",
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
    assert sum(item.suggested for item in found) >= 4
    assert sum(item.dated for item in found) >= 2
