"""我们说的是哪一版 Slurm：--version、--json 与 --yaml 的版本，22.05 之后才有的选项。"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_links import Commands

from running_system import RunningSystem, wait_until
from scns_conductor.slurm.shapes.schema import VERSIONS, fields_of

# 命令 -> (它的回答里的键, 记录的表)。
STRUCTURED = {
    "squeue": ("jobs", "job_info"),
    "sinfo": ("sinfo", None),
    "sacct -a": ("jobs", "job"),
    "sdiag": ("statistics", "stats_msg"),
    "sshare -a": ("shares", "shares_resp_msg"),
    "sacctmgr show account": ("accounts", "account"),
    "sacctmgr show user": ("users", "user"),
    "sacctmgr show associations": ("associations", "assoc"),
    "sacctmgr show qos": ("qos", "qos"),
    "sacctmgr show tres": ("TRES", "tres"),
    "sacctmgr show cluster": ("clusters", "cluster_rec"),
    "scontrol show jobs": ("jobs", "job_info"),
    "scontrol show nodes": ("nodes", "node"),
    "scontrol show partitions": ("partitions", "partition_info"),
    "scontrol show reservations": ("reservations", "reservation_info"),
    "scontrol show licenses": ("licenses", "license"),
    "scontrol show steps": ("steps", "step"),
    "scontrol ping": ("pings", "controller_ping"),
}


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def _answer(slurm: Commands, command: str, option: str, **environment: str) -> Any:
    name, *words = command.split()
    done = slurm.run(name, option, *words, environment=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "json" in option else yaml.safe_load(done.stdout)


def _both_say_the_same(slurm: Commands, command: str, version: str, job: str) -> bool:
    """--json 与 --yaml 是同样的内容。别的作业、还没有写上的原因在两次之间会变。"""
    key, _ = STRUCTURED[command]
    found, same = (_answer(slurm, command, f"--{form}={version}")[key] for form in ("json", "yaml"))
    if key == "jobs":
        found, same = ([each for each in answer if each["job_id"] == int(job)] for answer in (found, same))
        assert len(found) == 1
    return bool(found == same)


@pytest.mark.parametrize("command", STRUCTURED)
def test_every_command_writes_every_version_and_real_yaml(slurm: Commands, command: str) -> None:
    job = slurm.submit("--hold", "-t", "5", "--comment", 'quote " colon: # 中文 \t tab')
    key, table = STRUCTURED[command]
    for version in (VERSIONS[0], VERSIONS[-1]):
        found = _answer(slurm, command, f"--json={version}")
        assert found["meta"]["plugin"]["data_parser"] == f"data_parser/{version}"
        assert found["meta"]["command"][0] == command.split()[0]
        records = found[key] if isinstance(found[key], list) else [found[key]]
        for record in records if table else ():
            known = fields_of(table, version)
            assert record.keys() <= known.keys()
            assert {name for name, field in known.items() if not field.sparse} <= record.keys()
        if command not in ("sdiag", "scontrol ping"):
            wait_until(lambda: _both_say_the_same(slurm, command, version, job), what="两种写法相同")  # noqa: B023
    assert _answer(slurm, command, "--json")["meta"]["plugin"]["data_parser"] == "data_parser/v0.0.44"
    slurm.run("scancel", job)


def test_the_version_is_one_setting(slurm: Commands) -> None:
    assert slurm.run("scontrol", "--version").stdout == "slurm 25.11.0\n"
    for series, release, parser in (("23.11", "23.11.10", "v0.0.40"), ("24.11.3", "24.11.6", "v0.0.42")):
        environment = {"SCNS_SLURM_VERSION": series}
        assert slurm.run("sinfo", "-V", environment=environment).stdout == f"slurm {release}\n"
        found = _answer(slurm, "squeue", "--json", **environment)
        assert found["meta"]["plugin"]["data_parser"] == f"data_parser/{parser}"
        assert found["meta"]["slurm"]["release"] == release
    old = {"SCNS_SLURM_VERSION": "22.05"}
    assert slurm.run("sbatch", "-V", environment=old).stdout == "slurm 22.05.8\n"
    assert _answer(slurm, "squeue", "--yaml", **old)["meta"]["plugin"]["type"] == "openapi/v0.0.38"


def test_the_new_json_tells_states_limits_and_ends(slurm: Commands) -> None:
    job = slurm.submit("-t", "5", "-n", "2")
    wait_until(lambda: "FAILED" in slurm.run("sacct", "-nXP", "-o", "State", "-j", job).stdout, 60, "sacct 显示 FAILED")
    [record] = json.loads(slurm.run("squeue", "--json", "-t", "all", "-j", job).stdout)["jobs"]
    assert (record["job_state"], record["time_limit"]["number"], record["cpus"]["number"]) == (["FAILED"], 5, 2)
    assert record["exit_code"] == {
        "status": ["ERROR"],
        "return_code": {"set": True, "infinite": False, "number": 3},
        "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""},
    }
    [kept] = json.loads(slurm.run("sacct", "--json", "-j", job).stdout)["jobs"]
    assert (kept["state"]["current"], kept["exit_code"]) == (["FAILED"], record["exit_code"])
    assert [step["step"]["id"] for step in kept["steps"]] == [f"{job}.batch"]
    [row] = json.loads(slurm.run("sinfo", "--json").stdout)["sinfo"]
    assert (row["partition"]["name"], row["nodes"]["nodes"], row["cpus"]["total"]) == ("main", ["node1"], 8)


def test_unknown_parsers_and_unsupported_entities_are_refused(slurm: Commands) -> None:
    done = slurm.run("squeue", "--json=v0.0.99")
    assert (done.returncode, done.stdout) == (1, "")
    assert "data_parser/v0.0.99" in done.stderr
    assert "data_parser/v0.0.44" in slurm.run("squeue", "--json=list").stdout
    done = slurm.run("scontrol", "--json", "show", "config")
    assert (done.returncode, "show config" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "option",
    ["--oom-kill-step", "--oom-kill-step=1", "--tres-bind=gres/gpu:closest", "--stepmgr", "--resv-ports", "--segment=1",
     "--consolidate-segments", "--spread-segments", "--gres-flags=one-task-per-sharing", "--exclusive=topo",
     "--extra=anything"],
)  # fmt: skip
def test_newer_options_are_taken(slurm: Commands, option: str) -> None:
    job = slurm.submit("--hold", option)
    slurm.run("scancel", job)
    done = slurm.run("srun", option, "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.parametrize(
    "words",
    [("sbatch", "--container-id=x", "--wrap", "true"), ("srun", "--container-id=x", "true"),
     ("sbatch", "--segment=0", "--wrap", "true"), ("sbatch", "--oom-kill-step=7", "--wrap", "true"),
     ("scancel", "--admin-comment=x", "1"), ("srun", "--wait-for-children", "true"),
     ("sbatch", "--tres-bind=gres/fpga:closest", "--wrap", "true")],
)  # fmt: skip
def test_newer_options_that_cannot_be_are_refused_by_name(slurm: Commands, words: tuple[str, ...]) -> None:
    done = slurm.run(*words)
    assert done.returncode != 0
    assert words[1].partition("=")[0] in done.stderr


def test_newer_lists_and_patterns(slurm: Commands) -> None:
    assert "EXPEDITING" in slurm.run("squeue", "--helpstate").stdout
    assert "jobid" in slurm.run("squeue", "--helpFormat").stdout
    for words in (("squeue", "--expand-patterns"), ("sacct", "--expand-patterns"), ("sacct", "--array")):
        assert slurm.run(*words).returncode == 0
    assert slurm.run("sacctmgr", "ping").stdout.endswith(" is UP\n")
    assert slurm.run("scontrol", "getaddrs", "node1").stdout.startswith("node1: ")
    assert slurm.run("scontrol", "getaddrs", "nosuch").returncode == 1


def test_what_is_said_another_way_since_then(slurm: Commands) -> None:
    script = "#!/bin/sh\nsrun -Q --external-launcher sh -c 'srun -Q -n1 -c1 echo inside'; sleep 600\n"
    job = slurm.submit("-n1", "-c1", "--extra=any text", "-o", "launched.txt", text=script)
    try:
        launched = slurm.work / "launched.txt"
        # 外面的启动者不挡着里面的作业步。
        wait_until(lambda: launched.exists() and launched.read_text() == "inside\n")
        assert " Extra=any_text " in slurm.run("scontrol", "-o", "show", "job", job).stdout
        assert job in slurm.run("scontrol", "listjobs").stdout.splitlines()
        assert f"{job}.batch" in slurm.run("scontrol", "liststeps").stdout.splitlines()
    finally:
        slurm.run("scancel", job)
