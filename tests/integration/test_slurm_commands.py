"""Slurm 的命令对着真的 scns up：客户端会读的每一行与退出码。"""

import subprocess
import sys
from pathlib import Path

import pytest

from running_system import RunningSystem, wait_until
from scns_conductor.slurm.install import install

SCRIPT = '#!/bin/bash\n#SBATCH -J "my job"\necho 你好\nexit 3\n'


class Commands:
    """装好的链接；在 work 目录里执行。"""

    def __init__(self, system: RunningSystem, prefix: Path, work: Path) -> None:
        install(prefix, sys.executable)
        self.work, self.prefix = work, prefix
        self.environment = {**system.environment, "PATH": f"{prefix}:/usr/bin:/bin"}

    def run(self, *words: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        """执行一个命令，取它的输出与退出码。"""
        return subprocess.run(
            [str(self.prefix / words[0]), *words[1:]],
            input=text,
            capture_output=True,
            text=True,
            cwd=self.work,
            env=self.environment,
            timeout=60,
            check=False,
        )

    def submit(self, *words: str, text: str = SCRIPT) -> str:
        """提交并返回作业号。"""
        done = self.run("sbatch", "--parsable", *words, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    (tmp_path / "work").mkdir()
    return Commands(running_system, tmp_path / "bin", tmp_path / "work")


def test_sbatch_prints_the_one_line_clients_parse(slurm: Commands) -> None:
    done = slurm.run("sbatch", text=SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Submitted batch job ")
    assert done.stdout.split()[-1].isdigit()


def test_sacct_shows_a_finished_job_and_its_batch_step(slurm: Commands) -> None:
    job = slurm.submit()
    expected = f"JobID|State|ExitCode\n{job}|FAILED|3:0\n{job}.batch|FAILED|3:0\n"
    words = ("sacct", "-o", "jobid,State,exitcode,", "--parsable2", "-j", job)
    wait_until(lambda: slurm.run(*words).stdout == expected, 30, "sacct 显示 FAILED")
    assert (slurm.work / f"slurm-{job}.out").read_text() == "你好\n"


def test_sacct_with_an_unknown_id_prints_the_header_only(slurm: Commands) -> None:
    done = slurm.run("sacct", "-P", "-o", "JobID", "-j", "987654321")
    assert (done.returncode, done.stdout) == (0, "JobID\n")


def test_squeue_with_one_unknown_id_fails_and_with_two_does_not(slurm: Commands) -> None:
    one = slurm.run("squeue", "-j", "987654321")
    assert (one.returncode, one.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")
    assert slurm.run("squeue", "-h", "-j", "987654321,987654322").returncode == 0


def test_a_held_job_is_seen_released_and_cancelled(slurm: Commands) -> None:
    job = slurm.submit("--hold")
    assert slurm.run("squeue", "-h", "-o", '"%i","%t","%r"', "-j", job).stdout == f'"{job}","PD","JobHeldUser"\n'
    done = slurm.run("scancel", "-v", job)
    assert (done.returncode, done.stderr) == (0, f"scancel: Terminating job {job}\n")
    assert slurm.run("sacct", "-XnP", "-o", "State", "-j", job).stdout == "CANCELLED\n"


def test_scontrol_writes_one_line_without_blanks_in_values(slurm: Commands) -> None:
    job = slurm.submit("--hold")
    words = slurm.run("scontrol", "-o", "show", "job", job).stdout.split()
    assert f"JobId={job}" in words
    assert all("=" in word for word in words)
    assert slurm.run("scontrol", "write", "batch_script", job, "-").stdout == SCRIPT
    assert slurm.run("scancel", job).returncode == 0


def test_hostnames_are_expanded(slurm: Commands) -> None:
    assert slurm.run("scontrol", "show", "hostnames", "n[1-3,5]").stdout == "n1\nn2\nn3\nn5\n"


def test_bad_input_is_answered_in_slurms_words(slurm: Commands) -> None:
    partition = slurm.run("sbatch", "-p", "nope", text=SCRIPT)
    assert partition.returncode == 1
    assert "sbatch: error: Batch job submission failed: Invalid partition name specified" in partition.stderr
    shebang = slurm.run("sbatch", text="echo x\n")
    assert shebang.returncode == 1
    assert "This does not look like a batch script" in shebang.stderr
    wrong = slurm.run("squeue", "--frob")
    assert (wrong.returncode, wrong.stdout) == (1, "")


def test_install_never_shadows_someone_elses_command(tmp_path: Path) -> None:
    (tmp_path / "sbatch").write_text("别人的")
    with pytest.raises(FileExistsError):
        install(tmp_path, sys.executable)
    assert (tmp_path / "sbatch").read_text() == "别人的"
