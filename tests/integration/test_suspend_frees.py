"""SCNS_SUSPEND_FREES=cpus（Slurm 的做法）：挂起让出 CPU，内存仍占着；恢复等 CPU 空出来，绝不超分。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_links import Commands

from lent_systems import set_up
from running_system import RunningSystem, wait_until

CPUS, MEMORY = 4, 4096


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return set_up(lent_system, suspend_frees="cpus")


@pytest.fixture(autouse=True)
def _clean(system: RunningSystem) -> Iterator[None]:
    yield
    system.cancel_everything()
    wait_until(lambda: held(system) == (0, 0), what="全部归还，不多不少")


def submit(system: RunningSystem, cpus: int = CPUS, memory: str = "100M") -> str:
    return system.submit(
        "#!/bin/sh\nwhile :; do sleep 0.1; date +%N >> ticks.$SLURM_JOB_ID; done",
        cpus_per_task=cpus, time_limit="60", memory_per_node=memory,
    )  # fmt: skip


def running(system: RunningSystem, **job: object) -> str:
    job_id = submit(system, **job)  # type: ignore[arg-type]
    system.wait_state(job_id, "RUNNING")
    return job_id


def held(system: RunningSystem) -> tuple[int, int]:
    """节点的计数：(CPU, 内存 MiB)。"""
    node = system.call("GET", "/nodes")[1]["nodes"][0]
    return node["allocated_cpus"], node["allocated_memory"]


def ticks(system: RunningSystem, job_id: str) -> int:
    path = system.data_dir / f"ticks.{job_id}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_the_cpus_go_to_others_and_the_memory_stays(system: RunningSystem, tmp_path: Path) -> None:
    first = running(system, memory="3000M")
    slurm = Commands.beside(system, tmp_path)
    assert slurm.run("scontrol", "suspend", first).returncode == 0
    wait_until(lambda: held(system) == (0, 3000), what="CPU 让出来了，内存还占着")
    second = running(system)
    assert held(system) == (CPUS, 3100)
    assert system.query(first)["state"] == "SUSPENDED"
    assert system.query(first)["detail"]["allocated_cpus"] == CPUS
    large = submit(system, cpus=1, memory="2000M")
    system.call("POST", f"/jobs/cancel/{second}")
    wait_until(lambda: held(system)[0] == 0, what="第二个走了")
    why = wait_until(lambda: "内存" in (text := system.call("GET", f"/jobs/{large}/why")[1]["text"]) and text)
    assert "要 2000M 内存" in why or "要 1.95G 内存" in why or "差" in why
    assert system.query(large)["state"] == "PENDING"


def test_a_resume_waits_for_the_cpus_and_comes_before_the_queue(system: RunningSystem) -> None:
    first = running(system)
    assert system.call("POST", f"/jobs/{first}/suspend")[1]["state"] == "SUSPENDED"
    second = running(system)
    later = submit(system)
    stopped = ticks(system, first)
    assert system.call("POST", f"/jobs/{first}/resume")[1]["state"] == "SUSPENDED"
    # 一个小的此刻也放不下：CPU 都在第二个手里，一个也没有超分。
    assert held(system)[0] == CPUS
    assert ticks(system, first) == stopped
    system.call("POST", f"/jobs/cancel/{second}")
    system.wait_state(first, "RUNNING")
    wait_until(lambda: ticks(system, first) > stopped, what="它真的接着跑")
    assert system.query(later)["state"] == "PENDING"
    assert held(system)[0] == CPUS
    causes = [each["cause"] for each in system.call("GET", f"/jobs/{first}/events")[1]["events"]]
    assert causes[-3:] == ["suspend", "resume", "resume"]


def test_free_cpus_are_taken_back_at_once(system: RunningSystem) -> None:
    job_id = running(system)
    for _ in range(3):
        assert system.call("POST", f"/jobs/{job_id}/suspend")[0] == 200
        wait_until(lambda: held(system)[0] == 0, what="让出来了")
        assert system.call("POST", f"/jobs/{job_id}/resume")[0] == 200
        system.wait_state(job_id, "RUNNING")
        assert held(system)[0] == CPUS


def test_a_suspended_job_that_is_cancelled_gives_back_what_it_still_has(system: RunningSystem) -> None:
    first = running(system)
    system.call("POST", f"/jobs/{first}/suspend")
    second = running(system, cpus=2)
    system.call("POST", f"/jobs/cancel/{first}")
    system.wait_state(first, "CANCELLED")
    wait_until(lambda: held(system) == (2, 100), what="只剩第二个的")
    assert system.query(second)["state"] == "RUNNING"
