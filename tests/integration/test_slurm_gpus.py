"""GPU 在各命令里的写法，--gpus 摊到几个节点；sacct 的时段与各次尝试。"""

import re
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, wait_until

SLEEP = "#!/bin/sh\n#SBATCH -o /dev/null\nsleep 300\n"


@pytest.fixture
def slurm(lent_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(lent_system, tmp_path)


def running(slurm: Commands, job: str) -> None:
    wait_until(lambda: slurm.run("squeue", "-h", "-j", job, "-o", "%t").stdout == "R\n", 60, f"{job} 在跑")


def ended(slurm: Commands, *jobs: str) -> None:
    slurm.run("scancel", *jobs)
    wait_until(lambda: not slurm.run("squeue", "-h", "-t", "R", "-j", ",".join(jobs)).stdout, 60, "都结束了")


def test_gpus_without_nodes_are_spread_and_shown_as_slurm_does(slurm: Commands) -> None:
    job = slurm.submit("--gpus=8", text=SLEEP)
    running(slurm, job)
    shown = slurm.run("scontrol", "show", "job", job).stdout
    assert "NumNodes=2" in shown
    for name in ("ReqTRES", "AllocTRES"):
        assert f"   {name}=cpu=2,node=2,billing=2,gres/gpu=8\n" in shown
    old = slurm.run("scontrol", "show", "job", job, environment={"SCNS_SLURM_VERSION": "22.05"}).stdout
    assert "   TRES=cpu=2,node=2,billing=2,gres/gpu=8\n" in old
    assert ("   Power=\n" in old, "Power=" in shown) == (True, False)
    assert "TresPerJob=gres/gpu:8" in shown
    columns = ("sacct", "-nXP", "-j", job, "-o", "AllocTRES,ReqTRES")
    assert slurm.run(*columns).stdout == "billing=2,cpu=2,gres/gpu=8,node=2|billing=2,cpu=2,gres/gpu=8,node=2\n"
    assert slurm.run("squeue", "-h", "-j", job, "-O", "tres-alloc:60").stdout.strip().endswith("gres/gpu=8")
    node = slurm.run("scontrol", "show", "node", "node1").stdout
    assert "CfgTRES=cpu=4,mem=8G,billing=4,gres/gpu=4" in node
    assert "AllocTRES=cpu=1,gres/gpu=4" in node
    assert " TRES=cpu=8,mem=16G,node=2,billing=8,gres/gpu=8" in slurm.run("scontrol", "show", "part", "main").stdout
    ended(slurm, job)
    too_many = slurm.run("sbatch", "--gpus=9", text=SLEEP)
    assert too_many.returncode == 1


def test_gpus_are_spread_over_busy_nodes_too(slurm: Commands) -> None:
    """每个节点只剩一块：两块不等一个节点空出来，各用一块。"""
    holder = slurm.submit("-N2", "--gres=gpu:3", text=SLEEP)
    running(slurm, holder)
    job = slurm.submit("--gpus=2", text=SLEEP)
    running(slurm, job)
    shown = slurm.run("scontrol", "show", "job", job).stdout
    assert "NumNodes=2" in shown
    assert "gres/gpu=2" in shown
    ended(slurm, holder, job)


def test_gpus_per_node_and_per_task_are_counted(slurm: Commands) -> None:
    job = slurm.submit("-H", "-N2", "--gres=gpu:1", text=SLEEP)
    assert "gres/gpu=2" in slurm.run("sacct", "-nXP", "-j", job, "-o", "ReqTRES").stdout
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%b").stdout == "gres/gpu:1\n"
    assert "TresPerNode=gres/gpu:1" in slurm.run("scontrol", "show", "job", job).stdout
    task = slurm.submit("-H", "-n3", "--gpus-per-task=1", text=SLEEP)
    assert "gres/gpu=3" in slurm.run("sacct", "-nXP", "-j", task, "-o", "ReqTRES").stdout
    slurm.run("scancel", job, task)


def test_states_of_ended_jobs_keep_to_the_window_and_times_are_truncated(slurm: Commands) -> None:
    job = slurm.submit("-W", text="#!/bin/sh\n#SBATCH -o /dev/null\nsleep 1.1\n")
    start, end = slurm.run("sacct", "-nXP", "-j", job, "-o", "Start,End").stdout.strip().split("|")
    inside = ("sacct", "-nXP", "-s", "CD", "-S", start, "-o", "JobID")
    assert job in slurm.run(*inside, "-E", "now").stdout.split()
    # 它那时还在跑：不是那段时间里完成的。
    assert job not in slurm.run(*inside, "-E", start).stdout.split()
    words = ("sacct", "-nXP", "-T", "-j", job, "-S", end, "-E", end, "-o", "Start,End,ElapsedRaw")
    assert slurm.run(*words).stdout == f"{end}|{end}|0\n"
    assert start < end


def test_every_attempt_of_a_requeued_job_has_a_row(slurm: Commands) -> None:
    job = slurm.submit("-W", text="#!/bin/sh\n#SBATCH -o /dev/null\ntrue\n")
    states = ("sacct", "-nXP", "-j", job, "-o", "State,NNodes,NodeList")
    assert slurm.run("scontrol", "requeue", job).returncode == 0
    wait_until(lambda: slurm.run(*states).stdout.startswith("COMPLETED"), 60, "又完成了")
    rows = slurm.run(*states, "-D").stdout.splitlines()
    assert [re.sub("node.", "node", row) for row in rows] == ["COMPLETED|1|node", "COMPLETED|1|node"]
    assert len(slurm.run(*states).stdout.splitlines()) == 1


def test_the_details_of_a_job_tell_its_share_of_each_node(slurm: Commands) -> None:
    job = slurm.submit("-n2", "--mem=100", "--gpus=1", text=SLEEP)
    running(slurm, job)
    lines = slurm.run("scontrol", "-d", "show", "job", job).stdout.splitlines()
    [share] = [line.strip() for line in lines if line.strip().startswith("Nodes=")]
    assert re.fullmatch(r"Nodes=node. CPU_IDs=(N/A|[0-9,-]+) Mem=100 GRES=gpu:1\(IDX:[0-3]\)", share)
    assert "Nodes=node" not in slurm.run("scontrol", "show", "job", job).stdout
    ended(slurm, job)


def test_seff_tells_how_much_of_what_was_asked_for_was_used(slurm: Commands) -> None:
    job = slurm.submit("-W", "-c2", "--mem=100", text="#!/bin/bash\n#SBATCH -o /dev/null\nsleep 1\n")
    done = slurm.run("seff", job)
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert (done.returncode, lines["State"], lines["Cores per node"]) == (0, "COMPLETED (exit code 0)", "2")
    assert re.fullmatch(r"[0-9.]+% of 00:00:0[0-9]+ core-walltime", lines["CPU Efficiency"])
    assert lines["Memory Efficiency"].endswith("% of 100.00 MB (100.00 MB/node)")
    assert "Efficiency not available" in slurm.run("seff", slurm.submit("-H")).stdout
    missing = slurm.run("seff", "987654321")
    assert (missing.returncode, missing.stderr) == (1, "Job not found.\n")
