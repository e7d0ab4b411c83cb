"""接力的链的定时：一条链至多一个，空了又满多少回都不多出来；等够了的照样交还。"""

from types import SimpleNamespace
from typing import Any

import pytest

from scns_conductor.worker.shepherd import chains as module
from scns_conductor.worker.shepherd import timers as timers_module
from scns_conductor.worker.shepherd.chains import Chains
from scns_conductor.worker.shepherd.task import JobGroup
from scns_conductor.worker.shepherd.timers import Timers

WAIT_S = 0.5


class Keeper:
    """真的 Timers；启动与结束只记下来。"""

    def __init__(self) -> None:
        self.timers = Timers()
        self.groups: dict[Any, JobGroup] = {}
        self.ended: list[int] = []
        self.endings: Any = SimpleNamespace(
            left_behind=lambda group: False, emit_end=lambda task: self.ended.append(task.group.job_id)
        )

    def start_next(self, spec: Any, task: Any) -> None:
        pass

    def job(self, job_id: int) -> tuple[Any, Any]:
        group = JobGroup(job_id, 0)
        self.groups[group.identity] = group
        task: Any = SimpleNamespace(group=group, step="batch", is_holder=True, fault=None, reaped=False)
        group.tasks["batch"] = task
        spec: Any = SimpleNamespace(chain=7, chain_wait_s=WAIT_S)
        return spec, task


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    for place in (module, timers_module):
        monkeypatch.setattr(place, "boot_now", lambda: now[0])
    return now


def test_a_chain_that_empties_and_fills_keeps_one_timer(clock: list[float]) -> None:
    keeper: Any = Keeper()
    chains = Chains(keeper)
    spec, task = keeper.job(1)
    assert not chains.wait(spec, task)
    running = task.group
    for job_id in range(2, 1000):
        spec, task = keeper.job(job_id)
        assert chains.wait(spec, task)
        chains.gone(running)
        running = task.group
        clock[0] += 0.003
        keeper.timers.run()
        assert len(keeper.timers) <= 1
    assert keeper.ended == []


def test_the_one_timer_gives_back_what_came_later_too(clock: list[float]) -> None:
    keeper: Any = Keeper()
    chains = Chains(keeper)
    chains.wait(*keeper.job(1))
    chains.wait(*keeper.job(2))
    clock[0] += WAIT_S / 2
    chains.wait(*keeper.job(3))
    clock[0] += WAIT_S / 2
    keeper.timers.run()
    assert keeper.ended == [2]
    clock[0] += WAIT_S / 2
    keeper.timers.run()
    assert keeper.ended == [2, 3]
    clock[0] += WAIT_S
    keeper.timers.run()
    assert len(keeper.timers) == 0
