"""sdiag、sreport 与 slurmrestd 的接口：数来自真的调度器与真的作业。"""

from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, wait_until

SLEEP = "#!/bin/sh\nsleep 1.2\n"


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def figures(slurm: Commands) -> dict[str, str]:
    """sdiag 的「名字: 数」；重复的名字取第一个。"""
    done = slurm.run("sdiag")
    assert done.returncode == 0, done.stderr
    pairs = (line.strip().partition(":") for line in done.stdout.splitlines() if ":" in line)
    found: dict[str, str] = {}
    for name, _, value in pairs:
        found.setdefault(name, value.strip())
    return found


def test_sdiag_counts_the_jobs_that_the_scheduler_started(slurm: Commands) -> None:
    before = figures(slurm)
    for _ in range(3):
        slurm.submit(text="#!/bin/sh\ntrue\n")
    wait_until(lambda: int(figures(slurm)["Jobs completed"]) == int(before["Jobs completed"]) + 3, 60, "三个作业做完")
    after = figures(slurm)
    assert int(after["Jobs submitted"]) == int(before["Jobs submitted"]) + 3
    assert int(after["Jobs started"]) >= int(before["Jobs started"]) + 3
    assert int(after["Total cycles"]) > int(before["Total cycles"])
    assert int(after["Max cycle"]) > 0


def test_sreport_charges_the_account_for_what_its_job_held(slurm: Commands) -> None:
    slurm.run("sbatch", "--wait", "-A", "reports", "-n", "4", "-o", "/dev/null", text=SLEEP)
    words = ("-nP", "-t", "seconds", "cluster", "AccountUtilizationByUser", "accounts=reports", "start=now-1hour")
    rows = slurm.run("sreport", *words, "end=now+1minute").stdout.splitlines()
    cells = [row.split("|") for row in rows]
    assert [row[1:3] for row in cells] == [["reports", ""], ["reports", cells[1][2]]]
    # 4 个 CPU、1.2 秒以上；now 只精确到秒，所以多问一分钟。
    assert int(cells[0][4]) == int(cells[1][4]) >= 4
    sizes = ("-nP", "job", "SizesByAccount", "accounts=reports", "start=now-1hour", "end=now+1minute", "PrintJobCount")
    assert slurm.run("sreport", *sizes, "grouping=3,5").stdout == "scns|reports|0|1|0|100.00%\n"


def test_sreport_names_a_report_that_does_not_exist(slurm: Commands) -> None:
    done = slurm.run("sreport", "user", "nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'Not valid report nonsense\nValid user reports are, "Top"\n'


@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.39"])
def test_slurmrestd_submits_shows_and_cancels(running_system: RunningSystem, version: str) -> None:
    limit = 7 if version == "v0.0.38" else {"set": True, "infinite": False, "number": 7}
    job = {"name": "rest", "hold": True, "time_limit": limit, "current_working_directory": "/tmp", "nodes": 1}
    job["environment"] = {"A": "1"} if version == "v0.0.38" else ["A=1"]
    status, answer = running_system.call(
        "POST", f"/slurm/{version}/job/submit", {"job": job, "script": "#!/bin/sh\ntrue\n"}
    )
    assert (status, answer["errors"]) == (200, [])
    job_id = answer["job_id"]
    status, answer = running_system.call("GET", f"/slurm/{version}/job/{job_id}")
    assert (status, answer["jobs"][0]["time_limit"]) == (200, limit)
    status, answer = running_system.call("GET", f"/slurm/{version}/jobs")
    assert job_id in {each["job_id"] for each in answer["jobs"]}
    assert running_system.call("DELETE", f"/slurm/{version}/job/{job_id}")[0] == 200
    assert running_system.query(str(job_id))["state"] == "CANCELLED"


def test_slurmrestd_answers_errors_in_its_own_shape(running_system: RunningSystem) -> None:
    status, answer = running_system.call("GET", "/slurm/v0.0.38/job/987654321")
    assert (status, answer["jobs"]) == (500, [])
    assert (answer["errors"][0]["error_number"], answer["errors"][0]["error"]) == (2017, "Invalid job id specified")
    status, answer = running_system.call("POST", "/slurm/v0.0.38/job/submit", {"job": {"nonsense": 1}, "script": "x"})
    assert status == 400
    assert "nonsense" in answer["errors"][0]["error"]
    assert running_system.call("GET", "/slurm/v0.0.1/jobs")[0] == 404


def test_slurmrestd_lists_the_cluster(running_system: RunningSystem) -> None:
    nodes = running_system.call("GET", "/slurm/v0.0.39/nodes")[1]["nodes"]
    assert [(node["name"], node["cpus"]) for node in nodes] == [("node1", 8)]
    partitions = running_system.call("GET", "/slurm/v0.0.38/partitions")[1]["partitions"]
    assert [(each["name"], each["total_cpus"]) for each in partitions] == [("main", 8)]
    assert running_system.call("GET", "/slurm/v0.0.38/ping")[1]["pings"][0]["ping"] == "UP"
    statistics = running_system.call("GET", "/slurm/v0.0.38/diag")[1]["statistics"]
    assert statistics["req_time"] >= statistics["req_time_start"] > 1_700_000_000
