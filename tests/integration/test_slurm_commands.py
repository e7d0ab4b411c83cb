"""Slurm 的命令对着真的 scns up：客户端会读的每一行与退出码。"""

import json
import sys
from pathlib import Path

import pytest
from slurm_links import SCRIPT, Commands

from running_system import RunningSystem, second_api, wait_until
from scns_conductor.slurm.install import install


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def test_sbatch_prints_the_one_line_clients_parse(slurm: Commands) -> None:
    done = slurm.run("sbatch", text=SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Submitted batch job ")
    assert done.stdout.split()[-1].isdigit()


def test_sacct_shows_a_finished_job_and_its_batch_step(slurm: Commands) -> None:
    job = slurm.submit()
    expected = f"JobID|State|ExitCode\n{job}|FAILED|3:0\n{job}.batch|FAILED|3:0\n"
    words = ("sacct", "-o", "jobid,State,exitcode,", "--parsable2", "-j", job)
    wait_until(lambda: slurm.run(*words).stdout == expected, 60, "sacct 显示 FAILED")
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
    # 没有开始的没有步可取消，也不能排到前面。
    done = slurm.run("scancel", f"{job}.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        slurm.run("scontrol", "top", job).stderr == f"Job is in held state, pending scheduler release for job {job}\n"
    )
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


def test_an_array_shows_its_tasks_and_a_dependency_whether_it_is_met(slurm: Commands) -> None:
    array = slurm.submit("--hold", "-a", "1-9:2%3")
    assert slurm.run("squeue", "-h", "-j", array, "-o", "%i|%K").stdout == f"{array}_[1,3,5,7,9%3]|1,3,5,7,9%3\n"
    assert len(slurm.run("squeue", "-h", "-r", "-j", array).stdout.splitlines()) == 5
    after = slurm.submit("-d", f"afterany:{array}")
    assert slurm.run("squeue", "-h", "-j", after, "-o", "%E").stdout == f"afterany:{array}(unfulfilled)\n"
    slurm.run("scancel", after, array)


OLD = {"SCNS_SLURM_VERSION": "22.05"}


def test_json_of_the_old_version_has_the_shape_of_slurm(slurm: Commands) -> None:
    job = slurm.submit("--hold", "-t", "5", "-n", "2")
    found = json.loads(slurm.run("squeue", "--json", "-j", job, environment=OLD).stdout)
    assert found["meta"]["plugin"]["type"] == "openapi/v0.0.38"
    [record] = found["jobs"]
    assert (record["job_id"], record["job_state"], record["time_limit"]) == (int(job), "PENDING", 5)
    assert (record["state_reason"], record["tres_req_str"]) == ("JobHeldUser", "cpu=2,node=1,billing=2")
    [node] = json.loads(slurm.run("sinfo", "--json", environment=OLD).stdout)["nodes"]
    assert (node["name"], node["cpus"], node["partitions"]) == ("node1", 8, ["main"])
    slurm.run("scancel", job)


def test_a_node_that_does_not_exist_is_an_error_for_squeue_and_an_empty_row_for_sinfo(slurm: Commands) -> None:
    done = slurm.run("squeue", "-w", "nosuch")
    assert (done.returncode, done.stderr) == (1, "squeue: error: Invalid node name nosuch\n")
    assert slurm.run("sinfo", "-h", "-n", "nosuch", "-o", "%P %D %t").stdout == "main* 0 n/a\n"


def test_sacct_json_tells_how_the_job_and_its_step_ended(slurm: Commands) -> None:
    job = slurm.submit("-t", "5", "--mem", "100")
    wait_until(lambda: "FAILED" in slurm.run("sacct", "-nXP", "-o", "State", "-j", job).stdout, 60, "sacct 显示 FAILED")
    [record] = json.loads(slurm.run("sacct", "--json", "-j", job, environment=OLD).stdout)["jobs"]
    assert record["exit_code"] == {"status": "ERROR", "return_code": 3}
    assert (record["state"]["current"], record["time"]["limit"]) == ("FAILED", 5)
    assert [step["step"]["id"] for step in record["steps"]] == ["batch"]
    assert slurm.run("sacct", "-nXP", "--units=G", "-o", "ReqMem", "-j", job).stdout == "0.10G\n"
    assert slurm.run("sacct", "-B", "-j", job).stdout.endswith(f"{'-' * 80}\n{SCRIPT}\n")
    assert slurm.run("sacct", "-nXP", "-k", "5", "-o", "JobID", "-j", job).stdout == f"{job}\n"
    assert slurm.run("sacct", "-nXP", "-k", "6", "-o", "JobID", "-j", job).stdout == ""


def test_the_path_of_the_script_is_remembered(slurm: Commands) -> None:
    (slurm.work / "a.sh").write_text(SCRIPT)
    job = slurm.run("sbatch", "--parsable", "-H", "a.sh").stdout.strip()
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%o").stdout == f"{slurm.work}/a.sh\n"
    assert f"Command={slurm.work}/a.sh" in slurm.run("scontrol", "-o", "show", "job", job).stdout.split()
    slurm.run("scancel", job)


def test_show_config_tells_the_settings_in_force_and_unknown_verbs_are_refused_by_name(slurm: Commands) -> None:
    config = slurm.run("scontrol", "show", "config").stdout
    assert "MinJobAge               = 300 sec" in config
    assert "NodeNames               = node1" in config
    assert slurm.run("scontrol", "reconfigure").returncode == 0
    refused = slurm.run("scontrol", "shutdown")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "scontrol shutdown is not supported by this system" in refused.stderr
    trigger = slurm.run("strigger", "--set", "--jobid=1", "--fini", "--program=/bin/true")
    assert (trigger.returncode, trigger.stdout) == (1, "")


def test_a_running_job_lists_its_processes_and_takes_a_relative_limit(slurm: Commands) -> None:
    job = slurm.submit("-t", "5", text="#!/bin/sh\nsleep 100\n")
    wait_until(lambda: slurm.run("squeue", "-h", "-j", job, "-o", "%T").stdout == "RUNNING\n", 60, "运行")
    wait_until(lambda: slurm.run("scontrol", "listpids", job).returncode == 0, 60, "listpids 看见进程")
    assert slurm.run("scontrol", "listpids", job).stdout.splitlines()[1].split()[1:3] == [job, "batch"]
    assert f"StepId={job}.batch " in slurm.run("scontrol", "show", "step", job).stdout
    assert slurm.run("scontrol", "update", f"jobid={job}", "timelimit=-2").returncode == 0
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%l").stdout == "3:00\n"
    slurm.run("scancel", job)


def test_tasks_of_an_array_can_be_asked_for_one_by_one(slurm: Commands) -> None:
    job = slurm.submit("--hold", "-a", "1-5")
    assert slurm.run("squeue", "-h", "-j", f"{job}_2", "-o", "%K").stdout == "2\n"
    assert slurm.run("squeue", "-h", "-j", f"{job}_[2-3]", "-o", "%K").stdout == "2\n3\n"
    missing = slurm.run("squeue", "-h", "-j", f"{job}_99")
    assert (missing.returncode, missing.stdout, missing.stderr) == (0, "", "")
    slurm.run("scancel", job)


def test_a_script_of_another_system_is_understood(slurm: Commands) -> None:
    job = slurm.submit("--hold", text="#!/bin/sh\n#PBS -N theirs -l walltime=00:07:00\ntrue\n")
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%j %l").stdout == "theirs 7:00\n"
    ignored = slurm.submit("--hold", "--ignore-pbs", "-J", "ours", text="#!/bin/sh\n#PBS -N theirs\ntrue\n")
    assert slurm.run("squeue", "-h", "-j", ignored, "-o", "%j").stdout == "ours\n"


def test_the_exit_code_of_an_error_can_be_set(slurm: Commands) -> None:
    done = slurm.run("sbatch", "-p", "nope", text=SCRIPT, environment={"SLURM_EXIT_ERROR": "9"})
    assert done.returncode == 9


def test_another_cluster_is_an_error_and_our_own_is_not(slurm: Commands) -> None:
    for command in ("squeue", "sinfo", "sacct"):
        other = slurm.run(command, "-M", "nosuch")
        assert (other.returncode, other.stdout) == (1, "")
        assert "No cluster 'nosuch' known by database." in other.stderr
        assert slurm.run(command, "-M", "all").returncode == 0


def test_one_waiting_task_of_an_array_is_not_changed_together_with_the_others(slurm: Commands) -> None:
    job = slurm.submit("--hold", "-a", "1-3", "-J", "all")
    done = slurm.run("scontrol", "update", f"jobid={job}_2", "name=two")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(slurm.run("squeue", "-h", "-r", "-j", job, "-o", "%K %j").stdout.splitlines()) == [
        "1 all",
        "2 two",
        "3 all",
    ]
    slurm.run("scancel", job)


def test_a_job_cannot_be_moved_into_a_reservation_that_does_not_exist(slurm: Commands) -> None:
    job = slurm.submit("--hold")
    done = slurm.run("scontrol", "update", f"jobid={job}", "reservation=nosuch")
    assert (done.returncode, done.stderr) == (1, f"Requested reservation is invalid for job {job}\n")


def test_a_new_duration_of_a_reservation_counts_from_its_start(slurm: Commands) -> None:
    words = ("starttime=now+2hours", "duration=10", "users=root", "nodes=ALL", "flags=overlap")
    assert slurm.run("scontrol", "create", "reservationname=later", *words).returncode == 0
    assert slurm.run("scontrol", "update", "reservationname=later", "duration=20").returncode == 0
    assert " Duration=00:20:00" in slurm.run("scontrol", "show", "reservation", "later").stdout
    assert slurm.run("scontrol", "delete", "reservationname=later").returncode == 0


def test_a_reservation_for_a_user_that_does_not_exist_is_refused(slurm: Commands) -> None:
    words = ("starttime=now+3hours", "duration=10", "users=nosuchuser", "nodes=ALL")
    done = slurm.run("scontrol", "create", "reservation", *words)
    assert (done.returncode, done.stderr) == (1, "Error creating the reservation: Invalid user id\n")


def test_config_and_partitions_say_alike_whether_root_may_run_jobs(
    running_system: RunningSystem, slurm: Commands, tmp_path: Path
) -> None:
    """单用户的收 root 的作业；多用户的缺省不收，各个分区也照它（Slurm 的 DisableRootJobs）。"""

    def shown(commands: Commands) -> tuple[bool, bool]:
        config = commands.run("scontrol", "show", "config").stdout
        partition = commands.run("scontrol", "-o", "show", "partition", "main").stdout
        return "DisableRootJobs         = Yes" in config, " DisableRootJobs=YES " in partition

    assert shown(slurm) == (False, False)
    with second_api(running_system, {"SCNS_SINGLE_USER": "false", "SCNS_ALLOW_ROOT_JOBS": "false"}) as strict:
        (tmp_path / "strict").mkdir()
        assert shown(Commands.beside(strict, tmp_path / "strict")) == (True, True)
