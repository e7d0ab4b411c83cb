"""-v 与 SLURM_DEBUG、SBATCH_DEBUG、SALLOC_DEBUG：选项的表，分到了什么，步在哪里启动、怎样结束；不写就一行也没有。"""

import re
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def table(text: str, command: str) -> dict[str, str]:
    """选项的表：选项 -> 值。"""
    lines = [line.removeprefix(f"{command}: ") for line in text.splitlines()]
    first, last = lines.index("defined options"), lines.index("end of defined options")
    assert lines[first + 1] == lines[last - 1] == f"{'-' * 20} {'-' * 20}"
    return dict(re.split(r" *: ", line, maxsplit=1) for line in lines[first + 2 : last - 1])


def test_sbatch_lists_its_options(slurm: Commands) -> None:
    script = "#!/bin/sh\n#SBATCH -t 90\n"
    done = slurm.run("sbatch", "-vv", "-H", "-J", "a b", "-n2", text=script)
    assert done.returncode == 0
    assert table(done.stderr, "sbatch") == {
        "hold": "set", "job-name": "a b", "ntasks": "2", "time": "01:30:00", "verbose": "2",
    }  # fmt: skip
    loud = slurm.run("sbatch", "-H", text=script, environment={"SBATCH_DEBUG": "1"})
    assert table(loud.stderr, "sbatch")["verbose"] == "1"
    for environment in ({}, {"SBATCH_DEBUG": "0"}, {"SBATCH_DEBUG": "x"}):
        assert slurm.run("sbatch", "-H", text=script, environment=environment).stderr == ""
    assert slurm.run("sbatch", "-H", "-Q", "-v", text=script).stderr == ""
    slurm.run("scancel", "--me")


def test_twice_verbose_tells_of_every_request(slurm: Commands) -> None:
    done = slurm.run("sbatch", "-vv", "-H", text="#!/bin/sh\n")
    told = [line for line in done.stderr.splitlines() if line.startswith("sbatch: debug:  ")]
    assert re.fullmatch(r"sbatch: debug:  propagating UMASK=\d{4}", told[0])
    assert re.fullmatch(r"sbatch: debug:  POST http\S+/jobs/submit: \d+ ms", told[-1])
    done = slurm.run("srun", "-vv", "-n2", "-N1", "true")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^srun: debug:  requesting job \d+, user \d+, nodes 1 including \(\(null\)\)$", done.stderr, re.M)
    assert "srun: debug:  cpus 2, tasks 2, name true, relative 65534\n" in done.stderr
    # 不成的说为什么；别的命令也是。
    refused = slurm.run("sbatch", "-vv", "-p", "nowhere", text="#!/bin/sh\n").stderr
    assert re.search(r"^sbatch: debug:  POST \S+/jobs/submit: \d+ ms \(\d{3} partition_unknown\)$", refused, re.M), (
        refused
    )
    shown = slurm.run("squeue", "-vv").stderr
    assert re.search(r"^squeue: debug:  GET \S+/jobs: \d+ ms$", shown, re.M), shown
    assert "debug" not in slurm.run("squeue", "-v").stderr
    slurm.run("scancel", "--me")


def test_srun_tells_what_it_got_and_where_it_runs(slurm: Commands) -> None:
    done = slurm.run("srun", "-v", "-n2", "-N1", "true")
    assert done.returncode == 0, done.stderr
    assert table(done.stderr, "srun")["ntasks"] == "2"
    lines = done.stderr.splitlines()
    pattern = r"^srun: jobid (\d+): nodes\(1\):`(\S+)', cpu counts: \d+\(x1\)$"
    got = re.search(pattern, done.stderr, re.M)
    assert got is not None, done.stderr
    assert f"srun: launching StepId={got[1]}.0 on host {got[2]}, 2 tasks: [0-1]" in lines
    assert f"srun: launch/slurm: _task_finish: {got[2]}: tasks 0-1: Completed" in lines
    quiet = slurm.run("srun", "-n1", "true", environment={"SLURM_DEBUG": "0"})
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_a_step_in_an_allocation_tells_the_same(slurm: Commands) -> None:
    done = slurm.run("salloc", "-v", "-n1", "srun", "true", environment={"SLURM_DEBUG": "1"})
    assert done.returncode == 0, done.stderr
    assert table(done.stderr.partition("salloc: Granted")[0], "salloc")["ntasks"] == "1"
    for command in ("salloc", "srun"):
        assert re.search(rf"^{command}: jobid \d+: nodes\(1\):`\S+', cpu counts: \d+\(x1\)$", done.stderr, re.M), (
            command
        )
    assert re.search(r"^srun: launching StepId=\d+\.0 on host \S+, 1 tasks: 0$", done.stderr, re.M)
