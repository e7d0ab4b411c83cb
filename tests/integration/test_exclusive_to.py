"""--exclusive=user、mcs 对着真的系统：节点只与同一个用户、标签的作业共用。"""

from pathlib import Path
from typing import Any

from slurm_links import Commands

from running_system import RunningSystem, as_user, wait_until

SLEEP = "#!/bin/sh\nsleep 600\n"
WAITING = ("Resources", "Priority")


def only_node(system: RunningSystem) -> str:
    return str(system.call("GET", "/nodes")[1]["nodes"][0]["name"])


def reason(system: RunningSystem, job_id: str) -> str | None:
    found = system.call("GET", f"/jobs/{job_id}")[1]
    return None if found["state"] != "PENDING" else found["reason"]


def why(system: RunningSystem, job_id: str) -> dict[str, Any]:
    status, answer = system.call("GET", f"/jobs/{job_id}/why")
    assert status == 200, answer
    return dict(answer)


def cancel(system: RunningSystem, *jobs: str) -> None:
    for job in jobs:
        system.call("POST", f"/jobs/cancel/{job}")
    for job in jobs:
        system.wait_state(job)


def test_a_node_only_for_one_label(running_system: RunningSystem, tmp_path: Path) -> None:
    system, node = running_system, only_node(running_system)
    slurm = Commands.beside(system, tmp_path)
    options = ("-w", node, "-n", "1", "-t", "20")
    first = slurm.submit(*options, "--exclusive=mcs", "--mcs-label=red", text=SLEEP)
    system.wait_state(first, "RUNNING")
    assert slurm.run("squeue", "-h", "-j", first, "-o", "%h").stdout.strip() == "MCS"
    assert "MCS_label=red" in slurm.run("scontrol", "show", "job", first).stdout
    other = slurm.submit(*options, "--mcs-label=blue", text=SLEEP)
    plain = slurm.submit(*options, text=SLEEP)
    mate = slurm.submit(*options, "--mcs-label=red", text=SLEEP)
    system.wait_state(mate, "RUNNING")
    wait_until(lambda: reason(system, other) in WAITING and reason(system, plain) in WAITING, what="没有这个标签的等着")
    system.call("POST", f"/jobs/cancel/{first}")
    # 没有人要与别人隔开了，谁都进得来。
    system.wait_state(other, "RUNNING")
    cancel(system, mate, other, plain)


def test_a_node_only_for_one_user(running_system: RunningSystem) -> None:
    system, node = running_system, only_node(running_system)
    nobody = as_user(system, "nobody")
    values = {"required_nodes": node, "tasks": 1, "time_limit": "20"}
    first = system.submit(SLEEP, **values)
    system.wait_state(first, "RUNNING")
    alone = nobody.submit(SLEEP, **values, exclusive="user")
    wait_until(lambda: reason(system, alone) in WAITING, what="有别人在，等着")
    told = why(nobody, alone)
    assert "它的节点只许用户 nobody 的作业" in told["text"]
    assert [holder["job_id"] for holder in told["waiting_for"]] == [first]
    assert told["expected_start_time"] is not None
    system.call("POST", f"/jobs/cancel/{first}")
    system.wait_state(alone, "RUNNING")
    later = system.submit(SLEEP, **values)
    mate = nobody.submit(SLEEP, **values)
    system.wait_state(mate, "RUNNING")
    wait_until(lambda: reason(system, later) in WAITING, what="别人进不来")
    told = why(system, later)
    assert "只许用户 nobody 的作业" in told["text"]
    assert "推迟" not in told["text"]
    assert alone in [holder["job_id"] for holder in told["waiting_for"]]
    assert told["expected_start_time"] is not None
    # 空着的 CPU 别人不能用：压着利用率的就是它。
    causes = {each["cause"]: each for each in system.call("GET", "/cluster/why?horizon_s=600")[1]["causes"]}
    assert causes["exclusive_to"]["jobs"] == [alone]
    assert causes["exclusive_to"]["starts_now"] == 1
    cancel(system, later, mate, alone)


def test_a_label_is_needed_to_be_apart_by_label(running_system: RunningSystem) -> None:
    body = {"job": {"exclusive": "mcs", "current_working_directory": "/tmp"}, "script": SLEEP}
    status, answer = running_system.call("POST", "/jobs/submit", body)
    assert status == 422
    assert "mcs_label" in str(answer)


def test_top_moves_a_job_before_the_users_others(running_system: RunningSystem, tmp_path: Path) -> None:
    system = running_system
    slurm = Commands.beside(system, tmp_path)
    jobs = [slurm.submit("-b", "now+1hour", text=SLEEP) for _ in range(3)]
    done = slurm.run("scontrol", "top", f"{jobs[2]},{jobs[1]}")
    assert (done.returncode, done.stderr) == (0, "")
    nices = [system.call("GET", f"/jobs/{job}")[1]["nice"] for job in jobs]
    assert nices[2] < nices[1] < nices[0]
    gone = slurm.run("scontrol", "top", "999999999")
    assert gone.returncode == 1
    assert gone.stderr
