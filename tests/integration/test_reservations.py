"""预留对着真的系统：维护窗口挡住长作业、放过短作业；许用的人进得去；错误说得清。"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_links import Commands
from test_priority_live import as_user

from running_system import RunningSystem, start_system, wait_until


@pytest.fixture(scope="module")
def system() -> Iterator[RunningSystem]:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    with start_system(scratch / "s", "--nodes", "2", "--cpus", "2", "--memory", "4G") as found:
        yield found
    shutil.rmtree(scratch)


@pytest.fixture
def slurm(system: RunningSystem, tmp_path: Path) -> Commands:
    (tmp_path / "work").mkdir()
    return Commands(system, tmp_path / "bin", tmp_path / "work")


def test_a_maintenance_window(system: RunningSystem, slurm: Commands) -> None:
    made = slurm.run(
        "scontrol", "create", "reservation", "reservationname=maint", "starttime=now+1hour", "duration=120",
        "nodes=ALL", "flags=MAINT",
    )  # fmt: skip
    assert (made.returncode, made.stdout) == (0, "Reservation created: maint\n"), made.stderr
    shown = slurm.run("scontrol", "show", "res", "maint").stdout
    assert "ReservationName=maint" in shown
    assert "Duration=02:00:00" in shown
    assert "Nodes=ALL NodeCnt=2 CoreCnt=4" in shown
    assert slurm.run("sinfo", "-T").stdout.splitlines()[1].split()[:2] == ["maint", "INACTIVE"]
    long = system.submit("true\n", time_limit="300")
    endless = system.submit("true\n")
    short = system.submit("true\n", time_limit="30")
    system.wait_state(short, "COMPLETED")
    for job in (long, endless):
        wait_until(lambda job=job: system.call("GET", f"/jobs/{job}")[1]["reason"] == "ReqNodeNotAvail", 20, "原因")  # type: ignore[misc]
    expected = system.call("GET", f"/jobs/{long}")[1]["expected_start_time"]
    assert expected is not None
    assert slurm.run("scontrol", "delete", "reservationname=maint").returncode == 0
    for job in (long, endless):
        system.wait_state(job, "COMPLETED")
    assert slurm.run("scontrol", "show", "reservation").stdout == "No reservations in the system\n"


def test_only_the_listed_user_gets_in_and_the_end_frees_the_nodes(system: RunningSystem, slurm: Commands) -> None:
    alice = as_user(system, "alice")
    body = {"name": "class", "node_count": 1, "users": ["alice"], "start_time": "now", "duration": "60"}
    status, answer = system.call("POST", "/reservations", body)
    assert status == 201, answer
    assert answer["state"] == "ACTIVE"
    node = answer["nodes"]
    everyone = [system.submit("true\n", tasks=2, time_limit="5", required_nodes=node)]
    inside = alice.submit("sleep 0.3\n", tasks=2, time_limit="5", reservation="class")
    found = alice.wait_state(inside, "COMPLETED")
    assert found["detail"]["node_list"] == node
    assert system.query(everyone[0])["state"] == "PENDING"
    too_long = alice.submit("true\n", time_limit="600", reservation="class")
    wait_until(lambda: system.call("GET", f"/jobs/{too_long}")[1]["reason"] == "Reservation", 20, "比预留长")
    refused = system.call("POST", "/jobs/submit", {"job": {"reservation": "class"}, "script": "true\n"})
    assert (refused[0], refused[1]["code"]) == (403, "reservation_denied")
    assert "预留 class" in alice.call("GET", f"/jobs/{too_long}/why")[1]["text"]
    in_use = system.call("DELETE", "/reservations/class")
    assert (in_use[0], in_use[1]["code"]) == (409, "reservation_in_use")
    alice.call("POST", f"/jobs/cancel/{too_long}")
    # 提前结束：改短之后，到时自己放开。
    assert system.call("PATCH", "/reservations/class", {"end_time": "now+1"})[0] == 200
    system.wait_state(everyone[0], "COMPLETED")


def test_bad_requests_are_told(system: RunningSystem, slurm: Commands) -> None:
    def code(body: dict[str, object]) -> str:
        return str(system.call("POST", "/reservations", {"name": "x", "start_time": "now+1hour", **body})[1]["code"])

    assert code({}) == "reservation_endless"
    assert code({"duration": "10"}) == "reservation_nodes_missing"
    assert code({"duration": "10", "nodes": "nowhere"}) == "node_not_found"
    assert code({"duration": "10", "node_count": 9}) == "reservation_too_large"
    assert code({"end_time": "now", "nodes": "ALL"}) == "reservation_empty"
    assert code({"duration": "10", "nodes": "ALL", "flags": ["DAILY"]}) == "flag_unknown"
    assert code({"duration": "10", "nodes": "ALL", "colour": "red"}) == "unknown_field"
    holder = system.submit("sleep 60\n")
    system.wait_state(holder, "RUNNING")
    assert code({"duration": "10", "nodes": "ALL"}) == "reservation_nodes_busy"
    assert system.call("POST", "/reservations", {"name": "x", "start_time": "now+1hour", "duration": "10",
                                                 "nodes": "ALL", "flags": ["ignore_jobs"]})[0] == 201  # fmt: skip
    assert code({"name": "y", "duration": "10", "nodes": "node1", "flags": ["IGNORE_JOBS"]}) == "reservation_overlaps"
    assert code({"duration": "10", "nodes": "node1", "flags": ["IGNORE_JOBS", "OVERLAP"]}) == "reservation_exists"
    bob = as_user(system, "bob")
    assert bob.call("DELETE", "/reservations/x")[1]["code"] == "admin_required"
    assert system.call("DELETE", "/reservations/x")[0] == 204
    assert system.call("DELETE", "/reservations/x")[1]["code"] == "reservation_not_found"
    system.call("POST", f"/jobs/cancel/{holder}")
    done = slurm.run("sbatch", "--reservation=none", text="#!/bin/bash\ntrue\n")
    assert (done.returncode, done.stderr) == (
        1, "sbatch: error: Batch job submission failed: Requested reservation is invalid\n",
    )  # fmt: skip
