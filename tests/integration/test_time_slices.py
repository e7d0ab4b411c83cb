"""时间片对着真的系统：一个分区里的作业轮流用同样的 CPU，真的停、真的走；CPU 与内存从不超分。"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from lent_systems import set_up
from running_system import RunningSystem, wait_until

CPUS = 2


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    running = set_up(lent_system, preempt_gang=True, scheduler_time_slice_s=1.0)
    assert running.call("POST", "/partitions", {"name": "shared", "oversubscribe": "force:2"})[0] == 201
    return running


@pytest.fixture(autouse=True)
def _clean(system: RunningSystem) -> Iterator[None]:
    yield
    system.cancel_everything()
    wait_until(lambda: held(system) == (0, 0), what="全部归还，不多不少")


def held(system: RunningSystem) -> tuple[int, int]:
    node = system.call("GET", "/nodes")[1]["nodes"][0]
    return node["allocated_cpus"], node["allocated_memory"]


def submission(system: RunningSystem, name: str, log: Path, memory: str = "100M", **job: object) -> dict[str, Any]:
    """占满 CPU、一直写自己的名字的作业。"""
    fields = {
        "cpus_per_task": CPUS, "time_limit": "60", "memory_per_node": memory, "partition": "shared",
        "current_working_directory": str(system.data_dir),
    }  # fmt: skip
    script = f"#!/bin/sh\nwhile [ ! -e {log}.go ]; do echo {name} >> {log}; sleep 0.03; done\n"
    return {"job": {**fields, **job}, "script": script}


def submit(system: RunningSystem, name: str, log: Path, memory: str = "100M", **job: object) -> str:
    wanted = submission(system, name, log, memory, **job)
    return system.submit(wanted["script"], **wanted["job"])


def runs(log: Path) -> list[tuple[str, int]]:
    """谁连着写了几行。"""
    lines = log.read_text().split() if log.exists() else []
    return [(name, len(list(group))) for name, group in groupby(lines)]


def test_two_jobs_really_take_turns(system: RunningSystem, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = {name: submit(system, name, log) for name in ("a", "b")}
    most = [0, 0]

    def turned() -> bool:
        cpus, memory = held(system)
        most[:] = [max(most[0], cpus), max(most[1], memory)]
        # 各上过两次。
        return min(Counter(name for name, _ in runs(log))[name] for name in jobs) >= 2

    wait_until(turned, what="轮流")
    found = runs(log)
    # 一起走的话，就是一行你一行我。
    assert sum(count for _, count in found) > 4 * len(found)
    assert most[0] <= CPUS
    assert most[1] <= 200
    states = Counter(system.query(job)["state"] for job in jobs.values())
    assert set(states) <= {"RUNNING", "SUSPENDED"}
    for job in jobs.values():
        events = system.call("GET", f"/jobs/{job}/events")[1]["events"]
        assert len([each for each in events if each["cause"] == "timeslice"]) <= 1
    Path(f"{log}.go").touch()
    for job in jobs.values():
        assert system.wait_state(job)["state"] == "COMPLETED"


def test_two_that_come_at_once_take_turns(system: RunningSystem, tmp_path: Path) -> None:
    """同一遍里一个启动、一个受阻：没有别的事也会到时候换。"""
    log = tmp_path / "log"
    status, answer = system.call(
        "POST", "/jobs/submit/batch", {"jobs": [submission(system, name, log) for name in ("a", "b")]}
    )
    assert status in (200, 201), answer
    wait_until(lambda: {name for name, _ in runs(log)} == {"a", "b"}, what="两个都上过")


def test_no_more_than_the_partition_says_and_never_more_memory(system: RunningSystem, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = submit(system, "a", log, "900M"), submit(system, "b", log, "900M")
    wait_until(lambda: {name for name, _ in runs(log)} == {"a", "b"}, what="两个都上过")
    third = submit(system, "c", log, "10M")
    large = submit(system, "d", log, "900M", cpus_per_task=1)
    before = len(runs(log))
    wait_until(lambda: len(runs(log)) >= before + 3, what="又换了几次")
    assert [system.query(job)["state"] for job in (third, large)] == ["PENDING", "PENDING"]
    assert held(system)[1] == 1800
    # 一个走了，第三个轮得到；内存不够的还等。
    system.call("POST", f"/jobs/cancel/{first}")
    wait_until(lambda: "c" in {name for name, _ in runs(log)}, what="第三个上来了")
    wait_until(lambda: system.query(second)["state"] == "RUNNING", what="第二个又轮到")


def test_why_tells_of_the_turns(system: RunningSystem, tmp_path: Path) -> None:
    """停着的、在走的、等第一次的、轮不到的，各说各的。"""
    log = tmp_path / "log"
    first, second = (submit(system, name, log) for name in ("a", "b"))
    wait_until(lambda: {name for name, _ in runs(log)} == {"a", "b"}, what="两个都上过")
    third = submit(system, "c", log)

    def told(job: str, state: str, word: str) -> dict[str, Any]:
        """在它是这个状态的时候问到的。"""

        def asked() -> dict[str, Any] | None:
            status, answer = system.call("GET", f"/jobs/{job}/why")
            return answer if status == 200 and answer["state"] == state and word in answer["text"] else None

        return wait_until(asked, 60, f"{job} 是 {state} 时说 {word}")

    parked = told(first, "SUSPENDED", "接着用")
    assert f"{second}（root）" in parked["text"]
    assert "与别的作业轮流用 CPU，每次 1 秒" in parked["text"]
    assert parked["resume_time"] is not None
    slices = parked["time_slices"]
    assert (slices["partition"], slices["time_slice_s"], slices["most"]) == ("shared", 1.0, 2)
    assert {each["job_id"] for each in slices["active"] + slices["parked"]} == {first, second}
    walking = told(first, "RUNNING", "停下，让给在等的")
    assert "resume_time" not in walking
    waiting = told(third, "PENDING", "轮流用 CPU")
    assert "要等其中一个结束" in waiting["text"]
    assert "推迟" not in waiting["text"]
    assert waiting["expected_kind"] in (None, "estimate")
    # 停着的不算占着 CPU 的：压着利用率的不是它们。
    status, whole = system.call("GET", "/cluster/why?horizon_s=60")
    assert status == 200
    assert "suspended_jobs" not in [each["cause"] for each in whole["causes"]]
    assert whole["cpus"]["allocated"] == CPUS
    # 没有人与它轮流了：在走的什么也不等，话里不提。
    for job in (second, third):
        system.call("POST", f"/jobs/cancel/{job}")
        system.wait_state(job)
    alone = told(first, "RUNNING", "RUNNING")
    assert "轮流" not in alone["text"]


def test_a_parked_job_can_be_cancelled_but_not_resumed_by_hand(system: RunningSystem, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [submit(system, name, log) for name in ("a", "b")]

    def parked() -> str | None:
        return next((job for job in jobs if system.query(job)["state"] == "SUSPENDED"), None)

    status, answer = 0, {}
    for _ in range(20):
        job = wait_until(parked, what="有一个停着")
        status, answer = system.call("POST", f"/jobs/{job}/resume")
        if status != 200 and answer["code"] == "job_preempted":
            break
    assert (status, answer["code"]) == (409, "job_preempted")
    job = wait_until(parked, what="有一个停着")
    system.call("POST", f"/jobs/cancel/{job}")
    assert system.wait_state(job)["state"] == "CANCELLED"
    (other,) = set(jobs) - {job}
    system.wait_state(other, "RUNNING")


def test_slurm_words_turn_it_on_and_show_it(system: RunningSystem, tmp_path: Path) -> None:
    slurm = Commands.beside(system, tmp_path)
    assert "OverSubscribe=FORCE:2" in slurm.run("scontrol", "show", "partition", "shared").stdout
    shown = slurm.run("scontrol", "show", "config").stdout
    assert "PreemptMode             = GANG" in shown
    assert "SchedulerTimeSlice      = 1 sec" in shown
    assert slurm.run("sinfo", "-h", "-p", "shared", "-o", "%h").stdout.strip() == "FORCE:2"
    try:
        change = slurm.run("scontrol", "update", "partitionname=shared", "oversubscribe=yes", "preemptexempttime=5:00")
        assert (change.returncode, change.stderr) == (0, "")
        assert "OverSubscribe=YES:4" in slurm.run("scontrol", "show", "partition", "shared").stdout
        partition = system.call("GET", "/partitions/shared")[1]
        assert partition["preempt_exempt_time"] == 300
        bad = slurm.run("scontrol", "update", "partitionname=shared", "oversubscribe=force:0")
        assert bad.returncode == 1
        assert "Invalid OverSubscribe value: force:0" in bad.stderr
        # GANG 是全系统的：与别的一起写看别的，只写它就是不让出来。
        for word, mode in (("suspend,gang", "suspend"), ("GANG", "off")):
            assert slurm.run("scontrol", "update", "partitionname=shared", f"preemptmode={word}").returncode == 0
            assert system.call("GET", "/partitions/shared")[1]["preempt_mode"] == mode
        for word in ("bogus", "cancel,requeue"):
            wrong = slurm.run("scontrol", "update", "partitionname=shared", f"preemptmode={word}")
            assert (wrong.returncode, wrong.stderr.split("\n")[0]) == (1, f"Invalid input: PreemptMode={word}")
    finally:
        values = {"oversubscribe": "FORCE:2", "preempt_exempt_time": None, "preempt_mode": None}
        assert system.call("PATCH", "/partitions/shared", values)[0] == 200


@pytest.mark.faults
def test_a_leader_killed_amid_a_slice_leaves_nobody_parked_for_ever(system: RunningSystem, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = {name: submit(system, name, log) for name in ("a", "b")}
    wait_until(lambda: len(runs(log)) >= 3, what="轮流")
    for _ in range(3):
        (leader,) = wait_until(lambda: system.services("worker.scheduler.process"), what="有领导者")
        # 正要换的时候：刚看到有一个停着。
        wait_until(lambda: "SUSPENDED" in {system.query(job)["state"] for job in jobs.values()}, what="有一个停着")
        os.kill(leader, signal.SIGKILL)
        before = len(runs(log))
        wait_until(lambda before=before: len(runs(log)) >= before + 3, 60, "接任的接着换")  # type: ignore[misc]
    assert {name for name, _ in runs(log)[-3:]} == {"a", "b"}
    Path(f"{log}.go").touch()
    for job in jobs.values():
        assert system.wait_state(job)["state"] == "COMPLETED"
