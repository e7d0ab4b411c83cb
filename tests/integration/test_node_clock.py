"""几台机器的钟差十分钟：钟不对的节点排空，说差多少；对好时自己恢复。钟是真的跳了的（libfaketime）。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.agent.clock_check import PREFIX

pytestmark = pytest.mark.faults


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    made = NodeYard(settings, tmp_path)
    yield made
    made.close()


def shifted(ahead: str) -> dict[str, str]:
    """代理的日历时钟快这么多（libfaketime 的写法）；开机秒数不动。"""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "没有装 faketime；.ci/run 会装"
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME": ahead, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_a_node_whose_clock_is_off_drains_and_comes_back_when_it_is_set(yard: NodeYard) -> None:
    yard.start_agent("late", **shifted("-600s"))
    yard.start_agent("right")
    found = wait_until(lambda: yard.node("late")["drain"] and yard.node("late"), "钟慢十分钟的节点排空")
    assert found["reason"].startswith(PREFIX)
    assert -610 < int(found["reason"].removeprefix(PREFIX).split()[0]) < -590
    beat = yard.node("right")["beat"]
    wait_until(lambda: yard.node("right")["beat"] > beat + 1, "钟对的节点的心跳")
    assert not yard.node("right")["drain"]
    # 对好时（重新启动的代理看到的是对的钟）。
    yard.kill_agent("late")
    yard.start_agent("late")
    wait_until(lambda: not yard.node("late")["drain"], "自己恢复")
    assert yard.node("late")["reason"] is None


def test_a_drain_of_somebody_else_is_not_touched(yard: NodeYard) -> None:
    yard.start_agent("late", **shifted("+600s"))
    wait_until(lambda: yard.node("late")["drain"], "钟快十分钟的节点排空")
    yard.execute("UPDATE nodes SET reason = '换内存', reason_user = 'root' WHERE name = 'late'")
    yard.kill_agent("late")
    yard.start_agent("late")
    beat = yard.node("late")["beat"]
    wait_until(lambda: yard.node("late")["beat"] > beat + 1, "对好了的钟的心跳")
    assert (yard.node("late")["drain"], yard.node("late")["reason"]) == (True, "换内存")
