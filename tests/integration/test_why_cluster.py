"""scns why --cluster：种下原因，看说得对不对；照它说的最值的那一条真的做，看是不是真的用上了。"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from running_system import RunningSystem, as_user, start_system, wait_until

NODES, CPUS = 4, 4


@pytest.fixture(scope="module")
def system() -> Iterator[RunningSystem]:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    options = ("--nodes", str(NODES), "--cpus", str(CPUS), "--memory", "1G")
    extra = {"SCNS_LICENSES": "lic:1", "SCNS_ACCOUNTING_STORAGE_ENFORCE": "limits,qos"}
    with start_system(scratch / "s", *options, environment=extra) as running:
        for path, body in (
            ("/qos", {"name": "tight", "grp_tres": "cpu=4"}),
            ("/accounts", {"name": "lab"}),
            ("/associations", {"account": "lab", "user": "root", "qos": ["normal", "tight"]}),
        ):
            status, answer = running.call("POST", path, body)
            assert status < 300, answer
        yield running
    shutil.rmtree(scratch)


@pytest.fixture(autouse=True)
def _clean(system: RunningSystem) -> Iterator[None]:
    yield
    for name in (f"node{number}" for number in range(1, NODES + 1)):
        system.call("PATCH", f"/nodes/{name}", {"state": "RESUME"})
    for path in ("/partitions/closed", "/reservations/maint"):
        system.call("DELETE", path)
    system.cancel_everything()


def submit(system: RunningSystem, cpus: int, minutes: int = 60, **job: Any) -> str:
    job = {"memory_per_node": "10M", "cpus_per_task": cpus, "time_limit": str(minutes), **job}
    return system.submit("#!/bin/sh\nsleep 600", **job)


def fill(system: RunningSystem, nodes: range, cpus: int = CPUS, minutes: int = 120, **job: Any) -> list[str]:
    """这些节点上各跑一个。"""
    found = [submit(system, cpus, minutes, required_nodes=f"node{number}", **job) for number in nodes]
    for job_id in found:
        system.wait_state(job_id, "RUNNING")
    return found


def ask(system: RunningSystem, **query: Any) -> dict[str, Any]:
    words = "&".join(f"{name}={value}" for name, value in query.items())
    status, answer = system.call("GET", f"/cluster/why?{words}")
    assert status == 200, answer
    return dict(answer)


def cause(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found = [each for each in answer["causes"] if each["cause"] == name]
    assert len(found) == 1, (name, answer)
    return dict(found[0])


def test_an_idle_cluster_says_that_nobody_wants_it(system: RunningSystem) -> None:
    answer = ask(system)
    assert answer["causes"] == []
    assert answer["best"] is None
    assert answer["cpus"] == {"total": 16, "allocated": 0, "idle": 16, "offline": 0}
    assert answer["capacity_cpu_hours"] == 16.0
    assert answer["busy_cpu_hours"] == 0.0


def test_only_administrators_may_ask(system: RunningSystem) -> None:
    status, problem = as_user(system, "alice").call("GET", "/cluster/why")
    assert (status, problem["code"]) == (403, "admin_required")


def test_drained_nodes_and_what_putting_them_back_gives(system: RunningSystem, tmp_path: Path) -> None:
    fill(system, range(1, 3))
    for number in (3, 4):
        assert system.call("PATCH", f"/nodes/node{number}", {"state": "DRAIN", "reason": "换内存"})[0] == 200
    waiting = [submit(system, CPUS) for _ in range(2)]
    wait_until(lambda: ask(system)["waiting"], what="调度器看到了它们")
    answer = ask(system)
    assert answer["cpus"] == {"total": 16, "allocated": 8, "idle": 0, "offline": 8}
    drained = cause(answer, "drained_nodes")
    assert drained["nodes"] == ["node3", "node4"]
    assert "换内存" in drained["text"]
    # 两个节点、一小时：八个 CPU·小时，也就是两个节点·小时。
    assert drained["gain_cpu_hours"] == pytest.approx(8.0, abs=0.1)
    assert drained["gain_node_hours"] == pytest.approx(2.0, abs=0.05)
    assert drained["starts_now"] == 2
    assert answer["causes"][answer["best"]] == drained
    assert "State=RESUME" in drained["action"]
    # 照做：两个都真的启动了。
    done = Commands.beside(system, tmp_path).run(*drained["action"].split())
    assert done.returncode == 0, done.stderr
    for job_id in waiting:
        system.wait_state(job_id, "RUNNING")
    assert ask(system)["causes"] == []


def test_a_reservation_a_limit_a_closed_partition_and_held_jobs_are_told_apart(system: RunningSystem) -> None:
    """四样一起：各说各的，值多少各不同，次序照多少。"""
    fill(system, range(1, 2), licenses="lic:1")
    create = {"name": "maint", "start_time": "now+10minutes", "duration": "120", "nodes": "node2", "users": ["root"]}
    assert system.call("POST", "/reservations", create)[0] == 201
    assert system.call("POST", "/partitions", {"name": "closed", "nodes": "node3", "state": "DOWN"})[0] == 201
    licensed = submit(system, 1, 60, licenses="lic:1", required_nodes="node4")
    late = submit(system, 2, 60, required_nodes="node2")
    shut = submit(system, 3, 60, partition="closed")
    held = submit(system, 2, 60, hold=True, required_nodes="node4")
    wait_until(lambda: sum(ask(system)["waiting"].values()) == 4, what="四个都在排队")
    answer = ask(system)
    expected = {
        "partition_down": (3.0, [shut]),
        "reservation": (2.0, []),
        "held_jobs": (2.0, [held]),
        "license": (1.0, [licensed]),
    }
    for name, (gain, jobs) in expected.items():
        found = cause(answer, name)
        assert found["gain_cpu_hours"] == pytest.approx(gain, abs=0.1), found
        assert found["jobs"] == jobs
        assert found["starts_now"] == 1
    assert late in [job["job_id"] for job in system.call("GET", "/jobs?state=PENDING&fields=job_id")[1]["jobs"]]
    assert answer["causes"][0]["cause"] == "partition_down"
    assert answer["causes"][answer["best"]]["action"] == "scontrol update PartitionName=closed State=UP"


def test_a_limit_a_node_that_is_down_a_suspended_job_and_an_array_are_told_apart(system: RunningSystem) -> None:
    """node1 的作业占完了 QOS 的上限；node2 上的挂起了；node3 下线了；node4 上的数组一次只许跑一个。"""
    fill(system, range(1, 2), qos="tight")
    asleep = fill(system, range(2, 3))[0]
    assert system.call("POST", f"/jobs/{asleep}/suspend")[0] < 300
    system.wait_state(asleep, "SUSPENDED")
    assert system.call("PATCH", "/nodes/node3", {"state": "DOWN", "reason": "电源坏了"})[0] == 200
    array = submit(system, 1, 60, array="0-3%1", required_nodes="node4")
    limited = submit(system, 2, 60, qos="tight", required_nodes="node4")
    late = submit(system, 4, 60, required_nodes="node2")
    gone = submit(system, 3, 60, required_nodes="node3")
    wait_until(lambda: sum(ask(system)["waiting"].values()) == 6, what="三个作业与三个任务在排队")
    answer = ask(system)
    expected = {
        "suspended_jobs": (4.0, 1, [asleep]),
        "down_nodes": (3.0, 1, []),
        "limit": (2.0, 1, [limited]),
        "array_limit": (3.0, 3, [array]),
    }
    for name, (gain, starts, jobs) in expected.items():
        found = cause(answer, name)
        assert found["gain_cpu_hours"] == pytest.approx(gain, abs=0.1), found
        assert (found["starts_now"], found["jobs"]) == (starts, jobs), found
    assert "电源坏了" in cause(answer, "down_nodes")["text"]
    assert "tight" in cause(answer, "limit")["text"]
    assert answer["causes"][answer["best"]]["cause"] == "suspended_jobs"
    # 照最值的那一条做：等它的那个真的启动了。
    assert cause(answer, "suspended_jobs")["action"] == f"scns cancel {asleep}"
    system.call("POST", f"/jobs/cancel/{asleep}")
    system.wait_state(late, "RUNNING")
    assert system.query(gone)["state"] == "PENDING"


def test_fragments_and_a_big_head_job(system: RunningSystem) -> None:
    """每个节点空着一个 CPU：要四个的谁也放不下（碎片）；队首留着的节点，长作业不能用。"""
    fill(system, range(1, 5), cpus=3, minutes=30)
    submit(system, CPUS, 60, name="head", minimum_nodes=4, maximum_nodes=4, tasks=4)
    wait_until(lambda: ask(system)["waiting"], what="队首在排队")
    small = submit(system, 1, 120, name="long")
    wait_until(lambda: sum(ask(system)["waiting"].values()) == 2, what="两个都在排队")
    head = cause(ask(system, horizon_s=1500), "head_job")
    # 队首三十分钟之后才开始：看今后二十五分钟，先不排它，长的那个就能用上。
    assert head["gain_cpu_hours"] == pytest.approx(1500 / 3600, abs=0.05)
    assert head["starts_now"] == 1
    system.call("POST", f"/jobs/cancel/{head['jobs'][0]}")
    system.wait_state(small, "RUNNING")
    submit(system, 2, 60, name="wide")
    wait_until(lambda: ask(system)["waiting"], what="要两个 CPU 的在排队")
    scattered = cause(ask(system, horizon_s=1500), "fragmentation")
    assert scattered["gain_cpu_hours"] == pytest.approx(2 * 1500 / 3600, abs=0.05)
    assert scattered["action"] is None


def test_memory_that_ran_out_first_and_the_command(system: RunningSystem) -> None:
    fill(system, range(1, 5), cpus=1, memory_per_node="900M")
    submit(system, 2, 60, memory_per_node="500M")
    wait_until(lambda: ask(system)["waiting"], what="在排队")
    scns = [str(Path(sys.executable).with_name("scns")), "why", "--cluster", "--horizon", "2:00:00"]
    shown = subprocess.run([*scns, "--json"], env=system.environment, check=True, capture_output=True, text=True)
    memory = cause(json.loads(shown.stdout), "memory")
    assert memory["nodes"] == ["node1", "node2", "node3", "node4"]
    assert memory["gain_cpu_hours"] == pytest.approx(2.0, abs=0.1)
    said = subprocess.run(scns, env=system.environment, check=True, capture_output=True, text=True).stdout
    assert "内存先用完了，空着 12 个 CPU" in said
    wrong = subprocess.run([*scns, "3"], env=system.environment, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
