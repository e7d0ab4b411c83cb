"""手册页里的小事：作业步的时限、scancel 说的话、sacct 的状态、预约的列表、保留。"""

import re
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, wait_until


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def test_a_steps_time_limit_is_shown_and_enforced(slurm: Commands, running_system: RunningSystem) -> None:
    job = slurm.submit("-t", "10", "-n2", text="#!/bin/sh\nsrun -t 4:30 -n1 --overlap sleep 600 & sleep 600\n")
    try:
        wait_until(lambda: slurm.run("squeue", "-h", "-s", f"{job}.0").stdout.strip())
        # 以分钟计，不足一分钟的算一分钟。
        assert slurm.run("squeue", "-h", "-s", f"{job}.0", "-o", "%i %l").stdout == f"{job}.0 5:00\n"
        shown = slurm.run("scontrol", "-o", "show", "step", job).stdout
        assert re.search(rf"StepId={job}.0 .* TimeLimit=00:05:00 ", shown)
        assert re.search(rf"StepId={job}.batch .* TimeLimit=UNLIMITED ", shown)
        body = {"argv": ["sleep", "600"], "time_limit": 1, "tasks": 1, "overlap": True}
        status, created = running_system.call("POST", f"/jobs/{job}/steps", body)
        assert status == 201, created
        step = f"{job}.{created['step_id']}"
        state = ("sacct", "-nP", "-o", "state", "-j", step)
        wait_until(lambda: slurm.run(*state).stdout == "TIMEOUT\n")
        assert slurm.run("squeue", "-h", "-j", job, "-o", "%t").stdout == "R\n"
    finally:
        slurm.run("scancel", job)


def test_verbose_scancel_says_what_it_does_and_what_matched_nothing(slurm: Commands) -> None:
    quiet = slurm.run("scancel", "-n", "nosuchname")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    told = slurm.run("scancel", "-v", "-n", "nosuchname", "-p", "main", "-t", "pd")
    assert told.returncode == 0
    line = "No active jobs match ALL job filters, including: job_name=nosuchname partition=main state=PENDING "
    assert told.stderr == f"scancel: error: {line}\n"
    job = slurm.submit("--hold")
    told = slurm.run("scancel", "-v", job)
    assert (told.returncode, told.stderr) == (0, f"scancel: Terminating job {job}\n")
