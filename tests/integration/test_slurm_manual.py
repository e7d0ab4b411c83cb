"""手册页里的小事：作业步的时限、scancel 说的话、sacct 的状态、预约的列表、保留。"""

import json
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
        update = ("scontrol", "update", f"StepId={job}.0")
        assert slurm.run(*update, "TimeLimit=8").returncode == 0
        assert slurm.run("squeue", "-h", "-s", f"{job}.0", "-o", "%l").stdout == "8:00\n"
        told = [json.loads(slurm.run(*words).stdout) for words in (
            ("scontrol", "--json", "show", "step", f"{job}.0"), ("sacct", "--json", "-j", job))]  # fmt: skip
        limits = [found["steps"][-1]["time"]["limit"]["number"] for found in (told[0], told[1]["jobs"][0])]
        assert limits == [8, 8]
        assert slurm.run(*update, "Name=x").returncode == 1
        gone = slurm.run("scontrol", "update", f"StepId={job}.77", "TimeLimit=8")
        assert (gone.returncode, gone.stderr) == (1, "slurm_update error: Invalid job id specified\n")
        # 改短到已经超过：立即到时。
        assert running_system.call("PATCH", f"/jobs/{job}/steps/0", {"time_limit": 1})[0] == 200
        first = ("sacct", "-nP", "-o", "state", "-j", f"{job}.0")
        wait_until(lambda: slurm.run(*first).stdout == "TIMEOUT\n")
        late = slurm.run(*update, "TimeLimit=8")
        assert late.stderr == "slurm_update error: Job/step already completing or completed\n"
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


def test_sacct_looks_at_the_last_moment_when_only_the_end_is_given(slurm: Commands) -> None:
    done = slurm.submit("-W", "-J", "moment", text="#!/bin/sh\ntrue\n")
    running = slurm.submit("-J", "moment", text="#!/bin/sh\nsleep 600\n")
    try:
        wait_until(lambda: slurm.run("squeue", "-h", "-j", running, "-o", "%t").stdout == "R\n")
        listed = ("sacct", "-nXP", "-o", "jobid", "--name=moment")
        # 做完的那个在末了那一刻不在运行；那段时间里运行过、排过队的另说。
        wait_until(lambda: slurm.run(*listed, "-s", "R", "-E", "now").stdout == f"{running}\n")
        assert slurm.run(*listed, "-s", "R", "-S", "now-1hour", "-E", "now").stdout == f"{done}\n{running}\n"
        assert slurm.run(*listed, "-s", "PD", "-j", done).stdout == f"{done}\n"
        assert slurm.run(*listed, "-s", "PD", "-E", "now").stdout == ""
    finally:
        slurm.run("scancel", running)


def test_a_special_exit_is_a_job_that_waits_held(slurm: Commands) -> None:
    job = slurm.submit("-o", "/dev/null")
    shown = ("squeue", "-h", "-j", job, "-o", "%t %T %r")
    wait_until(lambda: slurm.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%t").stdout == "F\n")
    # 只管没有结束的：它结束了。
    assert slurm.run("scontrol", "requeue", "Incomplete", job).returncode == 0
    assert slurm.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%t").stdout == "F\n"
    assert slurm.run("scontrol", "requeuehold", "State=SpecialExit", job).returncode == 0
    assert slurm.run(*shown).stdout == "SE SPECIAL_EXIT JobHeldUser\n"
    assert slurm.run("scontrol", "hold", job).returncode == 0
    assert slurm.run(*shown, "-t", "SE").stdout == "SE SPECIAL_EXIT JobHeldUser\n"
    assert slurm.run(*shown, "-t", "CF").stdout == ""
    assert " JobState=SPECIAL_EXIT Reason=JobHeldUser " in slurm.run("scontrol", "-o", "show", "job", job).stdout
    record = json.loads(slurm.run("squeue", "-j", job, "--json").stdout)["jobs"][0]
    assert record["job_state"] == ["PENDING", "SPECIAL_EXIT"]
    assert slurm.run("scontrol", "release", job).returncode == 0
    wait_until(lambda: slurm.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%t").stdout == "F\n")


def test_some_variables_are_there_only_when_asked_for(slurm: Commands) -> None:
    script = "#!/bin/sh\nenv | grep -E '^SLURM_(NTASKS|NPROCS|CPUS_PER_TASK)=' | sort | xargs\n"
    # 提交它的作业里的不算。
    outer = {"SLURM_NTASKS": "7", "SLURM_NPROCS": "7", "SLURM_CPUS_PER_TASK": "7"}
    asked = "SLURM_CPUS_PER_TASK=1 SLURM_NPROCS=1 SLURM_NTASKS=1"
    for words, found in (
        ((), ""),
        (("-n1", "-c1"), asked),
        (("-c2",), "SLURM_CPUS_PER_TASK=2"),
        (("--ntasks-per-node=1",), "SLURM_NPROCS=1 SLURM_NTASKS=1"),
    ):
        done = slurm.run("sbatch", "-Q", "-W", "-o", "asked.txt", *words, text=script, environment=outer)
        assert done.returncode == 0, done.stderr
        assert (slurm.work / "asked.txt").read_text().strip() == found, words
        if words:
            continue
        shown = (
            "sacct",
            "-nXP",
            "--name=sbatch",
            "-S",
            "now-1minute",
            "-o",
            "plannedcpuraw,restarts,stdout,stdin,qosreq",
        )
        assert "|0|asked.txt|/dev/null|" in slurm.run(*shown).stdout
        (slurm.work / "asked.sh").write_text(script)
        command = ("salloc", "-Q", *words, "sh", "asked.sh")
        assert slurm.run(*command, environment=outer).stdout.strip() == found, words


def test_the_script_that_asks_knows_its_own_process(slurm: Commands) -> None:
    slurm.submit("-W", "-o", "pid.txt", text='#!/bin/bash\n[ "$SLURM_TASK_PID" = $$ ] && echo same\n')
    assert (slurm.work / "pid.txt").read_text() == "same\n"


def test_sgather_brings_a_file_from_every_node(slurm: Commands) -> None:
    data = slurm.work / "data"
    script = f"""#!/bin/sh
head -c 300000 /dev/urandom > {data}
cp {data} {data}.kept
chmod 640 {data}; touch -d @1000000000 {data}
sgather -k -p {data} got && cmp {data} got.$SLURMD_NODENAME && stat -c '%a %Y' got.$SLURMD_NODENAME
sgather {data} again; test -e {data} || echo removed
sgather {data} nothing; echo $?
sgather -f {data} nothing; echo $?
ls nothing* 2>/dev/null || true
"""
    job = slurm.submit("-W", "-o", "out", text=script)
    assert (slurm.work / "out").read_text().splitlines() == [
        "640 1000000000",
        "removed",
        f"sgather: error: node1: Can't open {data}",
        "1",
        f"sgather: error: node1: Can't open {data}; ignored",
        "0",
    ], job
    told = slurm.run("sgather", "a", "b")
    assert (told.returncode, told.stderr) == (1, "sgather: error: Command only valid from within Slurm job\n")


def test_an_overcommitted_job_runs_more_tasks_than_it_has_cpus(slurm: Commands) -> None:
    script = "#!/bin/sh\necho $SLURM_NTASKS $SLURM_CPUS_ON_NODE; srun echo task | sort | uniq -c\n"
    slurm.submit("-W", "-O", "-n", "6", "-N1", "-o", "crowded", text=script)
    first, second = (slurm.work / "crowded").read_text().splitlines()
    assert (first, second.split()) == ("6 1", ["6", "task"])
    done = slurm.run("salloc", "-Q", "-O", "-n6", "-N1", "srun", "sh", "-c", "echo $SLURM_NTASKS")
    assert (done.returncode, done.stdout) == (0, "6\n" * 6), done.stderr


def test_the_association_manager_shows_limits_and_what_is_used(slurm: Commands) -> None:
    for words in (("account", "mgr"), ("user", "mgruser", "account=mgr", "maxjobs=7")):
        assert slurm.run("sacctmgr", "-i", "add", *words).returncode == 0
    assert slurm.run("sacctmgr", "-i", "modify", "account", "mgr", "set", "grpsubmitjobs=5").returncode == 0
    array = slurm.submit("-H", "-A", "mgr", "-a", "1-3")
    try:
        shown = slurm.run("scontrol", "-o", "show", "assoc_mgr", "accounts=mgr", "flags=assoc")
        assert shown.returncode == 0, shown.stderr
        account, user = (line for line in shown.stdout.splitlines() if line.startswith("ClusterName="))
        assert " Account=mgr UserName= " in account
        assert " GrpJobs=N(0) GrpSubmitJobs=5(3) " in account
        assert " UserName=mgruser " in user
        assert " MaxJobs=7 " in user
        whole = slurm.run("scontrol", "show", "assoc_mgr").stdout
        assert whole.startswith("Current Association Manager state\n\nUser Records\n")
        assert "\nQOS Records\n\nQOS=normal " in whole
        assert slurm.run("scontrol", "show", "assoc_mgr", "colour=red").returncode == 1
    finally:
        slurm.run("scancel", array)
        slurm.run("sacctmgr", "-i", "delete", "user", "mgruser")
        slurm.run("sacctmgr", "-i", "delete", "account", "mgr")


def test_a_preferred_feature_that_no_node_has_is_told_as_such(slurm: Commands) -> None:
    preferred = slurm.run("sbatch", "--prefer=nosuch", text="#!/bin/sh\n").stderr
    assert preferred.endswith("Invalid preferred feature specification\n")


def test_a_target_that_is_not_there_is_told(slurm: Commands) -> None:
    # 少写了节点不是整个集群。
    done = slurm.run("scontrol", "reboot", "ASAP")
    assert (done.returncode, done.stderr) == (1, "Missing node list. Specify ALL|<NodeList>\n")
    job = slurm.submit("-W", text="#!/bin/sh\n")
    done = slurm.run("scancel", "-i", job, text="y\n")
    wrong = f"scancel: error: Kill job error on job id {job}: Invalid job id specified\n"
    assert (done.returncode, done.stderr) == (1, wrong)
    done = slurm.run("scancel", f"{job}.7")
    wrong = f"scancel: error: Kill job error on job step id {job}.7: Invalid job id specified\n"
    assert (done.returncode, done.stderr) == (1, wrong)
    held = slurm.submit("-H", "-a", "1-3", text="#!/bin/sh\n")
    for words in (("hold", f"{held}_9"), ("update", f"jobid={held}_9", "nice=1")):
        done = slurm.run("scontrol", *words)
        assert (done.returncode, done.stderr) == (1, f"{held}_9: Invalid job id specified\n")
    slurm.run("scancel", held)
    done = slurm.run("scontrol", "show", "assoc_mgr", "flags=nope")
    assert done.stderr == "invalid flag 'nope', valid options are 'Assoc, QOS, and/or Users'\n"
