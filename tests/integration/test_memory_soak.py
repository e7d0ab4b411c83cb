"""各种变化一起来，核对得很勤：每个变化都经收件箱知道，没有一个要核对来补。"""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running_system import RunningSystem, start_system

pytestmark = pytest.mark.faults

JOBS = 150
DEPENDENCIES = ("afterok", "afterany", "after", "aftercorr")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[RunningSystem]:
    options = ("--cpus", "8", "--memory", "16G", "--nodes", "2")
    with start_system(
        tmp_path / "data", *options, environment={"SCNS_RECONCILE_INTERVAL_S": "0.1", "SCNS_KILL_WAIT_S": "1"}
    ) as running:
        yield running
        running.cancel_everything()


def _job(rng: random.Random, known: list[str]) -> dict[str, Any]:
    job: dict[str, Any] = {"name": f"n{rng.randrange(5)}", "standard_output": "/dev/null", "memory_per_node": "100M"}
    kind = rng.choice(("plain", "plain", "plain", "array", "after", "singleton", "hold", "later"))
    if kind == "array":
        job["array"] = f"0-{rng.randrange(5, 20)}%{rng.randrange(1, 8)}"
    elif kind == "after" and known:
        job["dependency"] = f"{rng.choice(DEPENDENCIES)}:{rng.choice(known[-50:])}"
    elif kind == "singleton":
        job["dependency"] = "singleton"
    elif kind == "hold":
        job["hold"] = True
    elif kind == "later":
        job["begin_time"] = "now+1seconds"
    return job


def _disturb(system: RunningSystem, rng: random.Random, known: list[str], stopping: threading.Event) -> None:
    while not stopping.wait(0.01):
        if known:
            job = rng.choice(known[-100:])
            action = rng.choice(("cancel", "hold", "release", "release", "requeue", "suspend", "resume", "nice"))
            if action == "nice":
                system.call("PATCH", f"/jobs/{job}", {"nice": rng.randrange(10)})
            else:
                system.call("POST", f"/jobs/{job}/{action}")


def test_a_storm_of_changes_leaves_nothing_to_repair(system: RunningSystem) -> None:
    rng, known, stopping = random.Random(7), [], threading.Event()
    disturbers = [
        threading.Thread(target=_disturb, args=(system, random.Random(seed), known, stopping)) for seed in (1, 2)
    ]
    for each in disturbers:
        each.start()
    try:
        for number in range(JOBS):
            script = f"#!/bin/sh\nsleep {rng.random() * 0.3:.2f}\nexit {number % 5 == 0:d}\n"
            known.append(system.submit(script, **_job(rng, known)))
    finally:
        stopping.set()
        for each in disturbers:
            each.join()
    status, answer = system.call("GET", "/diag")
    assert status == 200, answer
    assert answer["statistics"]["jobs_repaired"] == 0
    assert answer["statistics"]["jobs_started"] > 0
