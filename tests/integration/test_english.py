"""要英文的人看到的都是英文：帮助、表、错误、接口说明、为什么；别人起的名字照旧。"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

import warm_commands
from running_system import RunningSystem, wait_until
from scns_conductor.cli.job_text import LABELS
from scns_conductor.cli.main import COMMANDS
from scns_conductor.cli.show import APART
from scns_conductor.cli.submit import PLAN_TOLD
from scns_conductor.cli.why import TOLD
from scns_conductor.language.catalogue import CHINESE

SCNS = str(Path(sys.executable).with_name("scns"))


def ask(system: RunningSystem, method: str, path: str, body: Any = None, language: str = "en-US,en;q=0.9") -> Any:
    request = urllib.request.Request(
        system.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {system.token}", "Content-Type": "application/json", "Accept-Language": language,
        },
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return json.loads(error.read())


def scns(system: RunningSystem, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return warm_commands.run(
        [SCNS, *words], env={**system.environment, "LC_ALL": "en_US.UTF-8", **environment}, real_first=False
    )


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_is_english(command: str) -> None:
    words = [SCNS, *command.split(), "--help"]
    environment = {**os.environ, "SCNS_LANG": "en"}
    done = warm_commands.run(words, env=environment, real_first=False)
    told = done.stdout
    assert done.returncode == 0
    assert told.startswith("Usage: scns")
    assert not CHINESE.search(told), told


def test_errors_and_explanations_of_the_api(running_system: RunningSystem) -> None:
    bad = {"job": {"memory_per_nod": "16Q", "time_limit": "x"}, "script": " "}
    problem = ask(running_system, "POST", "/jobs/submit", bad)
    assert problem["code"] == "unknown_field"
    assert not CHINESE.search(json.dumps(problem, ensure_ascii=False)), problem
    assert CHINESE.search(json.dumps(ask(running_system, "POST", "/jobs/submit", bad, "zh-CN"), ensure_ascii=False))
    for method, path, body in (
        ("GET", "/jobs/999999999", None),
        ("GET", "/nowhere", None),
        ("PATCH", "/nodes/nosuch", {"state": "DRAIN"}),
        ("POST", "/partitions", {"name": "x", "nodes": "n[9-1]"}),
        ("POST", "/jobs/submit", {"job": {"partition": "nosuch"}, "script": "true"}),
        ("POST", "/jobs/submit", {"job": {"tasks": 9999}, "script": "true"}),
        ("GET", "/health/ready", None),
    ):
        answer = ask(running_system, method, path, body)
        assert not CHINESE.search(json.dumps(answer, ensure_ascii=False)), answer


def test_why_speaks_english_and_keeps_names(running_system: RunningSystem) -> None:
    holding = running_system.submit("sleep 600", cpus_per_task=8, time_limit="60")
    running_system.wait_state(holding, "RUNNING")
    waiting = running_system.submit("true", cpus_per_task=8, name="在等", time_limit="5")
    told = wait_until(
        lambda: (found := ask(running_system, "GET", f"/jobs/{waiting}/why"))["reason"] == "Resources" and found
    )
    assert isinstance(told, dict)
    assert holding in told["text"]
    assert not CHINESE.search(told["text"]), told["text"]
    shown = scns(running_system, "why")
    assert shown.returncode == 0
    # 只有作业自己的名字是中文。
    assert not CHINESE.search(shown.stdout.replace("在等", "")), shown.stdout
    assert "在等" in shown.stdout
    running_system.cancel_everything()


def test_tables_and_mistakes_of_the_commands(running_system: RunningSystem) -> None:
    job_id = running_system.submit("echo done")
    running_system.wait_state(job_id)
    for words, code in (
        (("jobs", "--all"), 0),
        (("show", job_id, "--events"), 0),
        (("nodes",), 0),
        (("partitions",), 0),
        (("health",), 0),
        (("jobs", "-s", "NOSUCH"), 2),
        (("show", "999999999"), 1),
        (("canel",), 2),
        (("cancel",), 2),
    ):
        done = scns(running_system, *words)
        assert done.returncode == code, done
        # 别的测试起的名字是用户自己的。
        told = done.stderr if words[0] == "jobs" and code == 0 else done.stdout + done.stderr
        assert not CHINESE.search(told), told
    assert CHINESE.search(scns(running_system, "canel", LC_ALL="zh_CN.UTF-8").stderr)


def test_words_that_the_commands_put_together(running_system: RunningSystem, tmp_path: Path) -> None:
    """表里的话、自己排的版、带缩进的、接在别的话后面的，也是英文；哪种语言都说得出来。"""
    ran = running_system.submit("sleep 1.5", cpus_per_task=4, time_limit="60")
    running_system.wait_state(ran)
    holding = running_system.submit("sleep 600", cpus_per_task=8, time_limit="60")
    running_system.wait_state(holding, "RUNNING")
    waiting = running_system.submit("true", cpus_per_task=8, time_limit="5")
    script = tmp_path / "late.sh"
    script.write_text("#!/bin/sh\n")
    late = ("submit", "-c", "8", "-t", "10", "--deadline", "now+11minutes", str(script))
    plan = ("submit", "-c", "8", "--test-only", str(script))
    for words, code, said in (
        (("efficiency", ran), 0, "are enough"),
        (("simulate", "--live"), 0, "jobs"),
        (("show", waiting), 0, "scheduler"),
        (("suspend", waiting), 1, "cannot be suspended"),
        (("update", waiting, "zzzz=1"), 1, "/docs"),
        (("setup", "worker", "--dry-run"), 0, "write /etc/"),
        (("slurm", "install", "--prefix", str(script / "x")), 1, "Not a directory"),
        (("ssh", ran, "true"), 1, "is not running"),
        (("import", "slurm", "--conf", str(tmp_path / "nosuch")), 1, "No such file"),
        (late, 0, "DEADLINE"),
        (plan, 0, "CPUs allocated"),
    ):
        if words[0] == "setup" and os.geteuid() != 0:
            continue
        done = scns(running_system, *words)
        told = done.stdout + done.stderr
        assert done.returncode == code, (words, told)
        assert said in told, (words, told)
        assert not CHINESE.search(told.replace(str(tmp_path), "")), (words, told)
        assert "Errno" not in told, told
    in_chinese = scns(running_system, *late, LC_ALL="zh_CN.UTF-8")
    assert in_chinese.returncode == 0, in_chinese
    assert "赶不上期限" in in_chinese.stderr
    running_system.cancel_everything()
    wait_until(lambda: ask(running_system, "GET", "/dashboard")["resources"]["cpus"]["used"] == 0)
    # 立即能开始的没有什么要解释的。
    free = scns(running_system, *plan).stdout
    assert "None" not in free.splitlines(), free
    assert "CPUs allocated" in free


def test_every_field_shown_has_a_name_in_the_language(running_system: RunningSystem) -> None:
    """scns show、why、submit --test-only 不把字段的原名当作标题。"""
    document = ask(running_system, "GET", "/openapi.json")

    def fields(path: str, method: str = "get") -> set[str]:
        answer = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        return set(document["components"]["schemas"][answer["$ref"].rpartition("/")[2]]["properties"])

    assert fields("/jobs/{job_id}") - APART - set(LABELS) == set()
    assert fields("/jobs/{job_id}/why") - TOLD - set(LABELS) == set()
    assert fields("/jobs/plan", "post") - PLAN_TOLD - set(LABELS) == set()


def test_the_interface_description(running_system: RunningSystem) -> None:
    def spoken(value: Any, key: str = "") -> list[str]:
        if isinstance(value, dict):
            return [text for name, item in value.items() for text in spoken(item, name)]
        if isinstance(value, list):
            return [text for item in value for text in spoken(item, key)]
        return [value] if isinstance(value, str) and key in ("description", "summary", "title", "tags") else []

    left = [text for text in spoken(ask(running_system, "GET", "/openapi.json")) if CHINESE.search(text)]
    assert left == []


def test_slurm_commands_speak_english_to_everybody(running_system: RunningSystem, tmp_path: Path) -> None:
    """没有 Slurm 的原话的错误，也是英文的一句，不是“错误码: 中文”；使用者说中文也一样。"""
    slurm = Commands.beside(running_system, tmp_path)
    job = slurm.submit("-H", "--begin=now+1day")
    refused = [
        ("sbatch", "-J", "x" * 300, "--wrap", "true"),
        ("sbatch", "--mail-type=END", "--mail-user=a\nb", "--wrap", "true"),
        ("sacctmgr", "-i", "add", "qos", "a b"),
        ("scontrol", "update", f"jobid={job}", f"comment={'x' * 5000}"),
    ]
    try:
        for words in refused:
            done = slurm.run(*words, environment={"LC_ALL": "zh_CN.UTF-8"})
            told = done.stdout + done.stderr
            assert done.returncode != 0, words
            assert told.strip(), words
            assert not CHINESE.search(told), (words, told)
            assert "invalid_field" not in told, (words, told)
    finally:
        slurm.run("scancel", job)


def test_slurm_commands_speak_english_whatever_the_language_of_the_user(
    running_system: RunningSystem, tmp_path: Path
) -> None:
    slurm = Commands.beside(running_system, tmp_path)
    in_chinese = {"LANG": "zh_CN.UTF-8", "LC_ALL": "zh_CN.UTF-8", "SCNS_LANG": "zh"}
    node = running_system.call("GET", "/nodes")[1]["nodes"][-1]["name"]
    # 系统自己写的原因，存在数据库里是中文。
    running_system.call("PATCH", f"/nodes/{node}", {"state": "DRAIN", "reason": "健康检查没有通过：disk full"})
    try:
        told = {
            words: slurm.run(*words, environment=in_chinese)
            for words in (
                ("sinfo", "-R"), ("sinfo", "-N", "-n", node, "-o", "%E"), ("sinfo", "--json"),
                ("scontrol", "show", "node", node), ("scontrol", "show", "node", node, "--json"),
                ("sacctmgr", "show", "event", "-p"),
                ("sbatch", "-n", "99999", "--wrap=true"), ("sbatch", "-d", "afterok:99999999", "--wrap=true"),
                ("sbatch", "--container=/b", "--container-image=i", "--wrap=true"),
                ("scontrol", "update", f"nodename={node}", "weight=x"),
            )
        }  # fmt: skip
    finally:
        running_system.call("PATCH", f"/nodes/{node}", {"state": "RESUME"})
    told["srun",] = slurm.run("srun", "-n1", "--container=/no/such", "true", environment=in_chinese)
    for words, done in told.items():
        assert not CHINESE.search(done.stdout + done.stderr), (words, done.stdout, done.stderr)
    for words in list(told)[:6]:
        assert "health check" in told[words].stdout, (words, told[words])
    unreachable = {**in_chinese, "SCNS_URL": "http://127.0.0.1:1"}
    for words in (("squeue",), ("sbatch", "--wrap=true")):
        done = slurm.run(*words, environment=unreachable)
        assert done.returncode != 0, words
        assert not CHINESE.search(done.stdout + done.stderr), (words, done.stdout, done.stderr)
