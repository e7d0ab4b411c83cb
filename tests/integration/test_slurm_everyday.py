"""天天用到的小事：状态的缩写、脚本在哪里、时刻按谁的时区、键只写前几个字母。"""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_links import SCRIPT, Commands

from running_system import RunningSystem, wait_until

NEW_YORK = {"TZ": "America/New_York"}
SHANGHAI = {"TZ": "Asia/Shanghai"}
CODES = "BF CA CD CF CG DL F NF OOM PD PR R RD RF RH RQ RS RV SI SE SO ST S TO"


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def test_every_state_code_of_the_manual_is_known(slurm: Commands) -> None:
    for command in (("squeue", "-h", "-t"), ("sacct", "-n", "-s")):
        done = slurm.run(*command, CODES.replace(" ", ","))
        assert (done.returncode, done.stderr) == (0, ""), done.args
        assert slurm.run(*command, "XX").returncode != 0


def test_sbatch_looks_for_the_script_in_the_folder_of_chdir_first(slurm: Commands) -> None:
    there = slurm.work / "there"
    there.mkdir()
    (slurm.work / "job.sh").write_text("#!/bin/sh\necho wrong\n")
    (there / "job.sh").write_text("#!/bin/sh\necho right\n")
    done = slurm.run("sbatch", "--parsable", "-W", "-D", "there", "job.sh")
    assert done.returncode == 0, done.stderr
    assert (there / f"slurm-{done.stdout.strip()}.out").read_text() == "right\n"
    # 那里没有的，仍按当前目录找。
    (slurm.work / "only.sh").write_text(SCRIPT)
    assert slurm.run("sbatch", "--test-only", "-D", "there", "only.sh").returncode == 0


def test_salloc_runs_a_program_of_the_folder_it_changes_to(slurm: Commands) -> None:
    there = slurm.work / "there"
    there.mkdir()
    (there / "program").write_text("#!/bin/sh\npwd\n")
    (there / "program").chmod(0o755)
    done = slurm.run("salloc", "-Q", "-D", "there", "program")
    assert (done.returncode, done.stdout.strip()) == (0, str(there)), done.stderr
    assert slurm.run("salloc", "-D", "nowhere", "true").returncode == 1


def test_times_are_read_in_the_zone_of_who_types_them(slurm: Commands) -> None:
    done = slurm.run(
        "sbatch", "--parsable", "-b", "2028-02-29T12:00", "--deadline", "2028-07-01T12:00", text=SCRIPT,
        environment=NEW_YORK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    seen = ("scontrol", "-o", "show", "job", job)
    assert "StartTime=2028-03-01T01:00:00" in slurm.run(*seen, environment=SHANGHAI).stdout
    assert "Deadline=2028-07-01T12:00:00" in slurm.run(*seen, environment=NEW_YORK).stdout
    done = slurm.run("scontrol", "update", f"jobid={job}", "starttime=2028-05-01T08:00", environment=SHANGHAI)
    assert done.returncode == 0, done.stderr
    assert "StartTime=2028-04-30T20:00:00" in slurm.run(*seen, environment=NEW_YORK).stdout
    slurm.run("scancel", job)
    made = slurm.run(
        "scontrol", "create", "reservationname=zoned", "start=2028-02-29T12:00", "dur=60", "users=root", "nodes=ALL",
        environment=NEW_YORK,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    try:
        told = slurm.run("scontrol", "-o", "show", "reservation", "zoned", environment={"TZ": "UTC"}).stdout
        assert "StartTime=2028-02-29T17:00:00 EndTime=2028-02-29T18:00:00" in told
    finally:
        assert slurm.run("scontrol", "delete", "reservation=zoned").returncode == 0


def test_scns_reads_times_in_the_zone_of_who_types_them(slurm: Commands, running_system: RunningSystem) -> None:
    (slurm.work / "job.sh").write_text(SCRIPT)
    scns = [sys.executable, "-c", "from scns_conductor.cli.main import main; main()"]
    environment = {**slurm.environment, **NEW_YORK}
    done = subprocess.run(
        [*scns, "submit", "--begin", "2028-02-29T12:00", "job.sh"],
        cwd=slurm.work, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    job = "".join(letter for letter in done.stdout if letter.isdigit())
    _, found = running_system.call("GET", f"/jobs/{job}")
    assert found["begin_time"].startswith("2028-02-29T17:00:00")
    slurm.run("scancel", job)


def test_sacct_takes_any_date(slurm: Commands) -> None:
    job = slurm.submit("-W", text="#!/bin/sh\ntrue\n")
    for start in ("1970-01-01", "1970-01-01-00:00:01", "1972-05-05T10:00", "01/01/1971"):
        done = slurm.run("sacct", "-nXP", "-o", "JobID", "-S", start)
        assert (done.returncode, done.stderr) == (0, "")
        assert job in done.stdout.split()


def test_scontrol_takes_the_first_letters_of_a_key(slurm: Commands) -> None:
    done = slurm.run("scontrol", "create", "partition=pp", "nodes=ALL", "maxt=5")
    assert done.returncode == 0, done.stderr
    try:
        assert "MaxTime=00:05:00" in slurm.run("scontrol", "-o", "show", "partition", "pp").stdout
        assert slurm.run("scontrol", "update", "part=pp", "maxtime=6").returncode == 0
    finally:
        assert slurm.run("scontrol", "delete", "part=pp").returncode == 0
    made = slurm.run("scontrol", "create", "res=short", "start=now+1hour", "dur=6", "u=root", "nodec=1")
    assert made.returncode == 0, made.stderr
    shown = slurm.run("scontrol", "-o", "show", "res", "short").stdout
    assert slurm.run("scontrol", "delete", "res=short").returncode == 0
    assert "Duration=00:06:00" in shown


def test_a_deadline_bounds_the_limit(slurm: Commands) -> None:
    job = slurm.submit("-H", "--deadline=now+2hours", text="#!/bin/sh\n#SBATCH -o /dev/null\nsleep 300\n")
    shorter = slurm.submit(
        "-H", "-t", "180", "--time-min=10", "--deadline=now+1hour", text="#!/bin/sh\n#SBATCH -o /dev/null\nsleep 300\n"
    )
    seconds = ("squeue", "-h", "-O", "timelimit", "-j")
    assert slurm.run(*seconds, job).stdout.strip().startswith("1:59:")
    assert slurm.run("scontrol", "release", job, shorter).returncode == 0
    wait_until(
        lambda: slurm.run("squeue", "-h", "-t", "R", "-j", f"{job},{shorter}").stdout.count("R") == 2, 60, "在跑"
    )
    assert slurm.run(*seconds, job).stdout.strip().startswith("1:59:")
    assert slurm.run(*seconds, shorter).stdout.strip().startswith("59:")
    slurm.run("scancel", job, shorter)
    wrong = slurm.run("sbatch", "-b", "now+2hours", "--deadline=now+1hour", text=SCRIPT)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "sbatch: error: Incompatible begin and deadline time specification\n",
    )


def test_show_config_has_every_key_that_tools_read(slurm: Commands) -> None:
    lines = slurm.run("scontrol", "show", "config").stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    values = {name.strip(): value.strip() for name, value in found.items()}
    wanted = {
        "OverTimeLimit", "SlurmctldPort", "SLURM_CONF", "MaxTasksPerNode", "JobAcctGatherFrequency", "SlurmUser",
        "FairShareDampeningFactor", "AllowSpecResourcesUsage", "PluginDir", "StateSaveLocation", "TreeWidth",
    }  # fmt: skip
    assert wanted <= values.keys()
    assert len(values) > 170
    assert values["SlurmctldPort"].isdigit()
    assert values["OverTimeLimit"] == "0 min"


@pytest.mark.parametrize("command", ["sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol", "srun", "salloc"])
def test_help_lists_every_option(slurm: Commands, command: str) -> None:
    done = slurm.run(command, "--help")
    assert done.returncode == 0
    assert "--version" in done.stdout
    assert len(done.stdout.splitlines()) > 12


@pytest.mark.parametrize("command", ["sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol", "srun", "salloc"])
def test_usage_lists_every_option_too(slurm: Commands, command: str) -> None:
    done = slurm.run(command, "--usage")
    assert done.returncode == 0
    first, *rest = done.stdout.splitlines()
    assert command in first
    assert len(" ".join(rest).split("] [")) > 12
    assert all(len(line) <= 80 for line in rest)


def test_variables_that_are_not_text_are_told_of(slurm: Commands) -> None:
    script = "#!/bin/sh\n#SBATCH -o out\nenv | grep -ac ^GOOD="
    words = [str(slurm.prefix / "sbatch"), "-W"]
    environment = {os.fsencode(name): os.fsencode(value) for name, value in slurm.environment.items()}
    environment |= {b"BAD": b"\xff\xfe", b"GOOD": b"1"}
    done = subprocess.run(
        words, input=script.encode(), cwd=slurm.work, env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"warning: environment variable 'BAD' is not valid UTF-8" in done.stderr
    assert (slurm.work / "out").read_text() == "1\n"


def test_names_cannot_forge_rows_on_a_terminal(slurm: Commands) -> None:
    name = "one\n999 main evil\x1b[2J"
    job = slurm.submit("-H", "-J", name, text=SCRIPT)
    # 管道里原样。
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%j").stdout == f"{name}\n"
    for command in (("squeue", "-h", "-j", job, "-o", "%j"), ("sacct", "-nXP", "-j", job, "-o", "JobName")):
        master, terminal = pty.openpty()
        with subprocess.Popen(
            [str(slurm.prefix / command[0]), *command[1:]], stdout=terminal, env=slurm.environment, cwd=slurm.work
        ) as shown:
            assert shown.wait(60) == 0
        os.close(terminal)
        seen = os.read(master, 4096).decode()
        os.close(master)
        assert seen == "one\\n999 main evil\\x1b[2J\r\n"
    slurm.run("scancel", job)


def test_an_arbitrary_distribution_takes_its_hosts_from_the_file(slurm: Commands) -> None:
    (slurm.work / "hosts").write_text("node1\nnode1\nnode1\n")
    done = slurm.run(
        "sbatch", "--parsable", "-H", "-m", "arbitrary", text=SCRIPT, environment={"SLURM_HOSTFILE": "hosts"}
    )
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    assert slurm.run("squeue", "-h", "-j", job, "-O", "reqnodes:10,numtasks:5").stdout.split() == ["node1", "3"]
    slurm.run("scancel", job)
