"""等了多久、各是为什么：启动之后还在，API、scns show、sacct、why 都看得到。"""

from datetime import datetime
from pathlib import Path

import pytest
from slurm_links import Commands
from test_cli_lists import scns

from running_system import RunningSystem, wait_until


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return lent_system


def waits(system: RunningSystem, job_id: str, reason: str) -> None:
    wait_until(lambda: system.call("GET", f"/jobs/{job_id}")[1]["reason"] == reason, 60, f"{job_id} {reason}")


def test_the_time_spent_on_each_reason_is_kept(system: RunningSystem, tmp_path: Path) -> None:
    blocker = system.submit(f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done", cpus_per_task=2, time_limit="20")
    system.wait_state(blocker, "RUNNING")
    job_id = system.submit("true", cpus_per_task=2, time_limit="5")
    array = system.submit("true", cpus_per_task=2, time_limit="5", array="0-1")
    waits(system, job_id, "Resources")
    # 预计用到的节点、照计划的开始与结束、具备条件的时刻，Slurm 的命令都说得出。
    slurm = Commands(system, tmp_path / "bin", tmp_path)
    assert slurm.run("squeue", "-h", "-j", job_id, "-o", "%Y").stdout.split() == ["node1"]
    shown = slurm.run("scontrol", "show", "job", job_id).stdout
    assert "EligibleTime=Unknown" not in shown
    assert "EndTime=Unknown" not in shown
    assert system.call("POST", f"/jobs/{job_id}/hold")[0] == 200
    waits(system, job_id, "JobHeldUser")
    assert set(system.call("GET", f"/jobs/{job_id}")[1]["wait_breakdown"]) >= {"Resources", "JobHeldUser"}
    assert system.call("POST", f"/jobs/{job_id}/release")[0] == 200
    waits(system, job_id, "Resources")
    (tmp_path / "go").touch()
    system.wait_state(job_id, "COMPLETED")
    job = system.call("GET", f"/jobs/{job_id}")[1]
    spent = job["wait_breakdown"]
    waited = (datetime.fromisoformat(job["start_time"]) - datetime.fromisoformat(job["submit_time"])).total_seconds()
    assert set(spent) >= {"Resources", "JobHeldUser"}
    assert sum(spent.values()) == pytest.approx(waited, abs=0.5)
    why = system.call("GET", f"/jobs/{job_id}/why")[1]
    assert why["wait_breakdown"] == spent
    assert "JobHeldUser" in why["text"]
    done = slurm.run("sacct", "-n", "-P", "-j", job_id, "-o", "JobID,WaitBreakdown").stdout
    assert f"{job_id}|" in done
    assert "JobHeldUser=" in done
    text = scns(system, "show", job_id).stdout
    assert "等待花在" in text
    for task in range(2):
        assert system.wait_state(f"{array}_{task}", "COMPLETED")
        assert system.call("GET", f"/jobs/{array}_{task}")[1]["wait_breakdown"]
    # 重新排队从头数。
    assert system.call("POST", f"/jobs/{job_id}/requeue")[0] == 200
    system.wait_state(job_id, "COMPLETED")
    again = system.call("GET", f"/jobs/{job_id}")[1]
    assert sum((again["wait_breakdown"] or {}).values()) < waited


def test_a_job_that_starts_at_once_has_nothing_to_tell(system: RunningSystem) -> None:
    job_id = system.submit("true", time_limit="5")
    system.wait_state(job_id, "COMPLETED")
    job = system.call("GET", f"/jobs/{job_id}")[1]
    assert job["wait_breakdown"] is None or "None" in job["wait_breakdown"]


def test_a_task_that_is_split_off_keeps_what_it_waited_and_is_called_by_its_own_name(
    system: RunningSystem, tmp_path: Path
) -> None:
    blocker = system.submit(f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done", cpus_per_task=2, time_limit="20")
    system.wait_state(blocker, "RUNNING")
    array = system.submit("true", cpus_per_task=2, time_limit="5", array="0-2")
    waits(system, array, "Resources")
    before = system.call("GET", f"/jobs/{array}")[1]
    assert system.call("POST", f"/jobs/{array}_1/hold")[0] == 200
    held = system.call("GET", f"/jobs/{array}_1")[1]
    spent, known = held["wait_breakdown"], before["wait_breakdown"]
    assert spent.keys() >= known.keys()
    assert all(spent[reason] >= known[reason] for reason in known)
    # 放行的命令写的是 J_T，照抄就行。
    text = wait_until(
        lambda: "scns release" in (said := system.call("GET", f"/jobs/{array}_1/why")[1]["text"]) and said
    )
    command = text[text.index("scns release") :].split()[:3]
    assert command[2] == f"{array}_1"
    assert scns(system, *command[1:]).returncode == 0
    # 依赖一个任务的，也写 J_T。
    child = system.submit("true", time_limit="5", dependency=f"afterok:{array}_1")
    wait_until(lambda: f"{array}_1" in system.call("GET", f"/jobs/{child}/why")[1]["text"], what="写的是 J_T")
    (tmp_path / "go").touch()
    for task in range(3):
        system.wait_state(f"{array}_{task}", "COMPLETED")
    whole = system.call("GET", f"/jobs/{array}_1")[1]
    waited = datetime.fromisoformat(whole["start_time"]) - datetime.fromisoformat(whole["submit_time"])
    assert sum(whole["wait_breakdown"].values()) == pytest.approx(waited.total_seconds(), abs=0.5)
