"""从前收下不看的选项，现在照办、提醒或点名拒绝：真的命令对着真的系统。"""

from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem

SLEEPER = "#!/bin/bash\nsleep 600\n"


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def test_lists_without_conversion_and_with_expanded_names(slurm: Commands) -> None:
    job = slurm.submit("-H", "--mem=2048", "--tmp=1024", "-J", "expanded", "-o", "x-%j-%x.txt", text=SLEEPER)
    try:
        shown = [slurm.run("squeue", "-h", "-j", job, "-o", "%m %d", *more).stdout for more in ([], ["--noconvert"])]
        assert shown == ["2G 1G\n", "2048M 1024M\n"]
        named = slurm.run("squeue", "-h", "-j", job, "-O", "minmemory:.20", "--noconvert").stdout
        assert named.strip() == "2048M"
        found = [slurm.run("sacct", "-nXPj", job, "-o", "stdout", *more).stdout for more in ([], ["--expand-patterns"])]
        assert found == ["x-%j-%x.txt\n", f"{slurm.work}/x-{job}-expanded.txt\n"]
    finally:
        slurm.run("scancel", job)


def test_sacct_lists_the_whole_heterogeneous_job_or_one_component(slurm: Commands) -> None:
    done = slurm.run("sbatch", "-H", "--parsable", "-n1", "--wrap=true", ":", "-n1")
    job = done.stdout.strip()
    try:
        for asked, more, listed in (
            (job, [], [f"{job}+0", f"{job}+1"]),
            (f"{job}+1", [], [f"{job}+1"]),
            (f"{job}+1", ["--whole-hetjob"], [f"{job}+0", f"{job}+1"]),
            (f"{job}+1", ["--whole-hetjob=no"], [f"{job}+1"]),
            (job, ["--whole-hetjob=no"], [f"{job}+0"]),
        ):
            assert slurm.run("sacct", "-nXPj", asked, "-o", "jobid", *more).stdout.split() == listed, (asked, more)
        wrong = slurm.run("sacct", "-j", job, "--whole-hetjob=perhaps")
        assert (wrong.returncode, "whole-hetjob" in wrong.stderr) == (1, True)
    finally:
        slurm.run("scancel", job)


def test_sacct_lists_every_waiting_task_of_an_array(slurm: Commands) -> None:
    job = slurm.submit("-H", "-a", "1-7:3", text=SLEEPER)
    try:
        for more, listed in (([], [f"{job}_[1,4,7]"]), (["--array"], [f"{job}_1", f"{job}_4", f"{job}_7"])):
            found = slurm.run("sacct", "-nXPj", job, "-o", "jobid,state", *more).stdout.splitlines()
            assert found == [f"{each}|PENDING" for each in listed]
    finally:
        slurm.run("scancel", job)


def test_another_cluster_and_another_user_are_not_silently_this_one(slurm: Commands) -> None:
    for words in (("sshare", "-M", "elsewhere"), ("sprio", "-M", "elsewhere")):
        done = slurm.run(*words)
        assert (done.returncode, "No cluster 'elsewhere'" in done.stderr) == (1, True), done
    done = slurm.run("scontrol", "-u", "nobody", "show", "config")
    assert (done.returncode, "--uid is not supported" in done.stderr) == (1, True), done


def test_srun_passes_the_counts_of_the_environment_on(slurm: Commands) -> None:
    script = "#!/bin/bash\n" + "".join(
        f"srun -n1 {more} bash -c 'echo $SLURM_NTASKS $SLURM_STEP_NUM_TASKS ${{SLURM_PRESERVE_ENV-unset}}'\n"
        for more in ("", "-E", "--preserve-env")
    )
    done = slurm.run("sbatch", "--wait", "-n2", "-o", "counts.txt", text=script)
    assert done.returncode == 0, done.stderr
    assert (slurm.work / "counts.txt").read_text().splitlines() == ["1 1 unset", "2 1 unset", "2 1 unset"]


def test_what_cannot_be_done_is_told_or_refused(slurm: Commands) -> None:
    for option in ("--gpu-freq=high", "--cpu-freq=performance", "--profile=lustre"):
        name = option if option.startswith("--profile") else option.partition("=")[0]
        for words in (("sbatch", "--test-only", option, "--wrap=true"), ("srun", "--test-only", option, "true")):
            done = slurm.run(*words)
            assert done.returncode == 0, done.stderr
            assert f"{words[0]}: warning: {name} has no effect: this system does not" in done.stderr
    quiet = slurm.run("sbatch", "--test-only", "--profile=task", "--acctg-freq=task=5", "--wrap=true")
    assert "warning" not in quiet.stderr
    apart = slurm.run("sbatch", "-N2", "--segment=1", "--spread-segments", "--wrap=true")
    assert apart.returncode != 0
    assert "--spread-segments" in apart.stderr
    wrong = slurm.run("srun", "--accel-bind=q", "true")
    assert "Invalid --accel-bind specification: q" in wrong.stderr
