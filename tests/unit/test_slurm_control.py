"""scontrol：update 的时限、本机上的作业进程、show config。"""

import io
import os
import subprocess
import sys

import pytest

from scns_conductor.slurm.control.control_changes import Relative, job_changes, pairs, partition_changes
from scns_conductor.slurm.control.control_config import config_lines
from scns_conductor.slurm.control.control_processes import job_processes
from scns_conductor.slurm.control.control_reservations import check_new
from scns_conductor.slurm.control.scontrol import main as scontrol
from scns_conductor.slurm.session import Fatal, run

JOB = {"job_id": "12", "start_time": "2026-11-25T10:00:00+00:00", "time_limit": 600}
SETTINGS = {
    "cluster_name": "lab", "priority_type": "basic", "scheduler_policy": "easy", "licenses": "matlab:5",
    "default_memory_mb_per_cpu": 0, "preempt_type": "none", "preempt_mode": "requeue", "priority_weights": {},
    "kill_invalid_dependency": False, "allow_root_jobs": False, "single_user": False, "kill_wait_s": 45.0,
    "array_max_tasks": 1000, "min_job_age_s": 120, "backfill_depth": 7, "scheduler_lease_s": 10.0,
    "node_timeout_s": 90.0, "containment": "auto", "priority_max_age_s": 86400, "priority_calc_period_s": 300,
    "priority_decay_half_life_s": 86400, "priority_favor_small": False, "enforce_part_limits": True,
    "elastic": True, "health_check_interval_s": 300.0, "health_check_node_states": ["IDLE", "MIXED"],
    "prolog_epilog_timeout_s": 300.0, "prolog_serial": False, "suspend_time_s": 600.0, "suspend_timeout_s": 30.0,
    "resume_timeout_s": 120.0, "suspend_rate": 60, "resume_rate": 0, "suspend_exc_nodes": "n[1-2]",
    "suspend_exc_partitions": [], "job_sample_interval_s": 15.0, "propagate_resource_limits": ["NOFILE", "CORE"],
    "propagate_resource_limits_except": [],
}  # fmt: skip


@pytest.mark.parametrize(("given", "limit"), [("+10", "20"), ("-5", "5"), ("+1-00:00:00", "1450")])
def test_a_relative_time_limit_counts_from_the_present_one(given: str, limit: str) -> None:
    change = job_changes({"timelimit": given})["time_limit"]
    assert isinstance(change, Relative)
    assert change.resolved(JOB) == limit


def test_plus_equals_is_never_taken_for_equals() -> None:
    """TimeLimit+=10 是加十分钟；别的字段没有 += 的意思，按名字拒绝，不当作 =。"""
    for word in ("TimeLimit+=10", "TimeLimit=+10"):
        change = job_changes(pairs([word]))["time_limit"]
        assert isinstance(change, Relative)
        assert change.resolved(JOB) == "20"
    for changes in (job_changes, partition_changes):
        with pytest.raises(Fatal):
            changes(pairs(["Nodes+=2"]))


def test_a_decrement_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(Fatal, match="TimeLimit decrement larger than current time limit"):
        job_changes({"timelimit": "-99"})["time_limit"].resolved(JOB)


def test_the_two_kinds_of_memory_replace_each_other() -> None:
    assert job_changes({"minmemorycpu": "50"}) == {"memory_per_cpu": "50", "memory_per_node": None}
    assert job_changes({"minmemorynode": "1G"}) == {"memory_per_node": "1G", "memory_per_cpu": None}


def test_partition_options_at_their_default_are_accepted() -> None:
    assert partition_changes({"hidden": "no", "maxnodes": "1"}) == {"max_nodes": 1}
    with pytest.raises(Fatal):
        partition_changes({"hidden": "yes"})


def test_an_end_time_becomes_a_limit_from_the_start() -> None:
    change = job_changes({"endtime": "2026-11-25T11:30:00+00:00"})["time_limit"]
    assert change.resolved(JOB) == "90"
    with pytest.raises(Fatal):
        change.resolved({**JOB, "start_time": None})


def test_oversubscribe_of_a_partition_is_exclusive_or_shared_in_turns() -> None:
    assert partition_changes({"oversubscribe": "EXCLUSIVE"}) == {"exclusive": True, "oversubscribe": "NO"}
    assert partition_changes({"oversubscribe": "NO"}) == {"exclusive": False, "oversubscribe": "NO"}
    assert partition_changes({"shared": "force"}) == {"exclusive": False, "oversubscribe": "FORCE:4"}
    with pytest.raises(Fatal):
        partition_changes({"oversubscribe": "force:0"})


def test_config_shows_the_settings_that_are_in_force() -> None:
    lines = config_lines(SETTINGS, [{"name": "n1", "gres": {"gpu:a100": 2}}], "http://127.0.0.1:1")
    values = dict(line.split(" = ", 1) for line in lines if " = " in line)
    found = {name.strip(): value for name, value in values.items()}
    assert found["KillWait"] == "45 sec"
    assert found["MinJobAge"] == "120 sec"
    assert found["SlurmdTimeout"] == "90 sec"
    assert found["MaxArraySize"] == "1000"
    assert found["PreemptMode"] == "OFF"
    assert found["GresTypes"] == "gpu"
    assert found["Licenses"] == "matlab:5"
    assert found["EnforcePartLimits"] == "ALL"
    assert (found["SuspendTime"], found["ResumeTimeout"], found["SuspendExcNodes"]) == ("600 sec", "120 sec", "n[1-2]")
    assert (found["HealthCheckNodeState"], found["ResumeRate"]) == ("IDLE,MIXED", "0 nodes/min")
    multi = config_lines({**SETTINGS, "priority_type": "multifactor", "priority_weights": {"age": 7}}, [], "")
    assert "PriorityWeightAge       = 7" in multi


def test_processes_of_a_job_are_found_by_their_environment() -> None:
    mine = {"SLURM_JOB_ID": "77", "SCNS_URL": "http://a"}
    other = {"SLURM_JOB_ID": "78", "SCNS_URL": "http://b"}
    started = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, **each})
        for each in (mine, other)
    ]
    try:
        found = [each for each in job_processes("http://a") if each.pid in {child.pid for child in started}]
        assert [(each.pid, each.job_id, each.step) for each in found] == [(started[0].pid, "77", "batch")]
    finally:
        for child in started:
            child.communicate(b"\n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "A start time must be given"),
        ({"start_time": "now"}, "An end time or duration must be given"),
        (
            {"start_time": "now", "duration": "5", "nodes": "ALL"},
            "Either Users/Groups and/or Accounts must be specified",
        ),
        ({"start_time": "now", "duration": "5", "users": ["a"]}, "CoreCnt, Nodes, NodeCnt"),
        ({"start_time": "xyz", "duration": "5", "users": ["a"], "nodes": "n1"}, "Invalid start time starttime=xyz"),
        ({"start_time": "now", "duration": "x", "users": ["a"], "nodes": "n1"}, "Invalid duration duration=x"),
    ],
)
def test_a_reservation_that_lacks_something_is_refused_in_slurms_words(given: dict[str, object], message: str) -> None:
    with pytest.raises(Fatal) as refused:
        check_new(given)
    assert refused.value.lines[0].startswith(message)
    assert refused.value.lines[0].endswith(".  No reservation created.")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maxtime": "xyz"}, "Invalid input maxtime=xyz"),
        ({"state": "nope"}, "Invalid input: state=nope"),
        ({"nonsense": "1"}, "Update of this parameter is not supported: nonsense=1"),
    ],
)
def test_a_bad_change_of_a_partition_is_refused_here(given: dict[str, str], message: str) -> None:
    with pytest.raises(Fatal) as refused:
        partition_changes(given)
    assert refused.value.lines[0] == message


def test_a_bad_weight_of_a_node_is_an_error_and_not_an_exception(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scontrol", scontrol, ["update", "nodename=n1", "weight=abc"]) == 1
    assert (
        capsys.readouterr().err == "scontrol: error: Weight value (abc) is not a valid number\nNo changes specified\n"
    )


def test_lines_of_standard_input_are_commands_and_one_bad_line_does_not_stop_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("show hostnames n[1-2]\nshow\nshow hostnames m\n"))
    assert run("scontrol", scontrol, []) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["scontrol: show hostnames n[1-2]", "n1", "n2", "scontrol: show", "scontrol: show hostnames m",
                     "m", "scontrol: "]  # fmt: skip
