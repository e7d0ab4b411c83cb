"""线上的 easy_predicted：照历史预测短的先回填，队首照时限的保留不被推迟。"""

import pytest

from lent_systems import set_up
from running_system import RunningSystem, wait_until


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return set_up(lent_system, scheduler_policy="easy_predicted", priority_calc_period_s=1.0)


def submit(system: RunningSystem, seconds: float, cpus: int, name: str, minutes: str) -> str:
    return system.submit(
        f"#!/bin/sh\nsleep {seconds}", name=name, cpus_per_task=cpus, time_limit=minutes, memory_per_node="10M"
    )


def test_what_usually_ends_soon_is_backfilled_before_what_came_earlier(system: RunningSystem) -> None:
    assert system.call("GET", "/config")[1]["settings"]["backfill_depth"] == 1
    for name, seconds in (("quick", 0), ("slow", 3)):
        system.wait_state(submit(system, seconds, 1, name, "10"), "COMPLETED")
    holding = submit(system, 600, 2, "holding", "30")
    leaving = submit(system, 600, 2, "leaving", "30")
    for job_id in (holding, leaving):
        system.wait_state(job_id, "RUNNING")
    head = submit(system, 0, 4, "head", "5")
    slow, quick = submit(system, 600, 2, "slow", "20"), submit(system, 0, 2, "quick", "20")
    wait_until(lambda: system.call("GET", f"/jobs/{head}")[1]["expected_start_time"], what="队首有了预计的时刻")
    promised = system.call("GET", f"/jobs/{head}/why")[1]
    assert promised["expected_kind"] == "latest"
    assert system.call("GET", f"/jobs/{quick}/why")[1]["expected_kind"] == "estimate"
    system.call("POST", f"/jobs/cancel/{leaving}")
    system.wait_state(quick, "COMPLETED")
    # quick 先用了空出来的 CPU，slow 才启动。
    system.wait_state(slow, "RUNNING")
    ended, began = (system.call("GET", f"/jobs/{job_id}")[1] for job_id in (quick, slow))
    assert ended["end_time"] <= began["start_time"]
    later = system.call("GET", f"/jobs/{head}/why")[1]
    assert later["expected_start_time"] <= promised["expected_start_time"]
    for job_id in (slow, holding):
        system.call("POST", f"/jobs/cancel/{job_id}")
    system.wait_state(head, "COMPLETED")
