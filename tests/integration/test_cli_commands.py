"""scns 的客户端命令，对着真的系统用。"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import warm_commands
from running_system import TERMINAL, RunningSystem, start_system, wait_until
from scns_conductor.client import Client

SCNS = str(Path(sys.executable).parent / "scns")


def scns(
    system: RunningSystem, *arguments: str, stdin: str = "", code: int | None = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    answer = warm_commands.run(
        [SCNS, *arguments], text=stdin, cwd=system.data_dir, env={**system.environment, **environment}
    )
    assert code is None or answer.returncode == code, answer
    return answer


def parsed(system: RunningSystem, *arguments: str, **options: Any) -> Any:
    return json.loads(scns(system, *arguments, "--json", **options).stdout)


def test_a_script_is_submitted_with_its_header_and_arguments(running_system: RunningSystem) -> None:
    script = '#!/bin/bash\n#SBATCH -J 标题 -c 2\n#SCNS --comment="两 个词"\necho "$1|$2|$OWN|$SLURM_CPUS_PER_TASK"\n'
    file = running_system.data_dir / "job.sh"
    file.write_text(script)
    answer = scns(running_system, "submit", "--wait", "-c", "1", str(file), "一", "--two", OWN="自己的")
    assert answer.stdout == "一|--two|自己的|1\n"
    job_id = re.findall(r"作业 (\d+)", answer.stderr)[-1]
    job = parsed(running_system, "show", job_id)
    assert (job["name"], job["comment"], job["data_source"]) == ("标题", "两 个词", "CLI")
    assert job["current_working_directory"] == str(running_system.data_dir)
    assert scns(running_system, "show", job_id, "--script").stdout == script
    assert not any(name.startswith("SCNS_") for name in job["environment"])


@pytest.mark.parametrize(("script", "code"), [("exit 7\n", 7), ("kill -TERM $$\n", 143), ("true\n", 0)])
def test_waiting_returns_the_exit_code_of_the_job(running_system: RunningSystem, script: str, code: int) -> None:
    scns(running_system, "submit", "--wait", "-", stdin=script, code=code)


def test_waiting_streams_both_outputs_byte_for_byte(running_system: RunningSystem) -> None:
    script = "#!/bin/bash\n#SBATCH -e err-%j\nhead -c 3000000 /dev/zero | tr '\\0' x; echo 错 >&2\n"
    answer = scns(running_system, "submit", "--wait", "-Q", "-", stdin=script)
    assert answer.stdout == "x" * 3_000_000
    assert answer.stderr == "错\n"


def test_a_running_job_is_listed_followed_and_cancelled(running_system: RunningSystem) -> None:
    script = "#!/bin/bash\necho 开始; sleep 300\n"
    job_id = scns(running_system, "submit", "--parsable", "-J", "长", "-", stdin=script).stdout.strip()
    running_system.wait_state(job_id, "RUNNING")
    listed = parsed(running_system, "jobs", "-J", "长")["jobs"]
    assert [job["job_id"] for job in listed] == [job_id]
    assert "长" in scns(running_system, "jobs", "-t", "R").stdout
    follower = subprocess.Popen(
        [SCNS, "logs", "-f", job_id], env=running_system.environment, stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "开始\n"
    assert parsed(running_system, "cancel", job_id)[job_id]["job_id"] == job_id
    running_system.wait_state(job_id, "CANCELLED")
    assert follower.wait(30) == 0
    # 再取消一次什么也不变。
    assert parsed(running_system, "cancel", job_id)[job_id]["state"] == "CANCELLED"
    assert "CANCELLED" in scns(running_system, "show", job_id, "--events").stdout


def test_a_signal_reaches_the_script(running_system: RunningSystem) -> None:
    script = "trap 'echo 收到; exit 5' USR1\necho 等着\nwhile :; do sleep 0.1; done\n"
    job_id = scns(running_system, "submit", "--parsable", "-", stdin=script).stdout.strip()
    wait_until(lambda: "等着" in scns(running_system, "logs", job_id).stdout, what="脚本装好了信号")
    scns(running_system, "cancel", "-b", "-s", "SIGUSR1", job_id)
    assert running_system.wait_state(job_id)["detail"]["exit_code"] == "5:0"
    assert scns(running_system, "logs", "-n", "1", job_id).stdout == "收到\n"


def test_hold_update_release_and_requeue(running_system: RunningSystem) -> None:
    job_id = scns(running_system, "submit", "--hold", "--wrap", "true", "--parsable").stdout.strip()
    held = parsed(running_system, "jobs", "-j", job_id)["jobs"][0]
    assert (held["state"], held["reason"]) == ("PENDING", "JobHeldUser")
    scns(running_system, "update", job_id, "time_limit=30", "comment=改过", "nice=5")
    changed = parsed(running_system, "show", job_id)
    assert (changed["time_limit"], changed["comment"], changed["nice"]) == (1800, "改过", 5)
    assert "timelimit" in scns(running_system, "update", job_id, "timelimit=30", code=1).stderr
    scns(running_system, "release", job_id)
    running_system.wait_state(job_id, "COMPLETED")
    scns(running_system, "requeue", job_id)
    wait_until(lambda: parsed(running_system, "show", job_id)["restart_count"] == 1, what="再跑一遍")
    running_system.wait_state(job_id, "COMPLETED")
    assert "只有排队" in scns(running_system, "hold", job_id, code=1).stderr


def test_suspend_and_resume(running_system: RunningSystem) -> None:
    job_id = scns(running_system, "submit", "--parsable", "--wrap", "sleep 300").stdout.strip()
    running_system.wait_state(job_id, "RUNNING")
    scns(running_system, "suspend", job_id)
    running_system.wait_state(job_id, "SUSPENDED")
    scns(running_system, "resume", job_id)
    running_system.wait_state(job_id, "RUNNING")
    scns(running_system, "cancel", job_id)
    running_system.wait_state(job_id, "CANCELLED")


def test_nodes_are_listed_drained_and_resumed(running_system: RunningSystem) -> None:
    name = parsed(running_system, "nodes")["nodes"][0]["name"]
    assert scns(running_system, "nodes", name, "--drain", code=2).stdout == ""
    assert "DRAIN" in scns(running_system, "nodes", name, "--drain", "--reason", "换盘").stdout
    assert "换盘" in scns(running_system, "nodes").stdout
    assert "DRAIN" not in scns(running_system, "nodes", name, "--resume").stdout
    assert "没有节点" in scns(running_system, "nodes", "nowhere", code=1).stderr


def test_partitions_are_made_changed_and_deleted(running_system: RunningSystem) -> None:
    scns(running_system, "partitions", "create", "试", code=1)
    scns(running_system, "partitions", "create", "trial", "max_time=1-0")
    assert "1-00:00:00" in scns(running_system, "partitions").stdout
    assert parsed(running_system, "partitions", "update", "trial", "state=down")["state"] == "DOWN"
    scns(running_system, "partitions", "delete", "trial")
    names = [each["name"] for each in parsed(running_system, "partitions")["partitions"]]
    assert "main" in names
    assert "trial" not in names


def test_health_says_ready(running_system: RunningSystem) -> None:
    assert parsed(running_system, "health")["status"] == "ok"
    assert "就绪" in scns(running_system, "health").stdout


def test_errors_are_one_line_without_a_traceback(running_system: RunningSystem) -> None:
    for arguments in (["show", "99999999"], ["submit", "/nowhere.sh"], ["submit", "-p", "nowhere", "--wrap", "true"]):
        answer = scns(running_system, *arguments, code=1)
        assert answer.stdout == ""
        assert len(answer.stderr.splitlines()) == 1, answer.stderr
    away = scns(running_system, "jobs", code=1, SCNS_URL="http://127.0.0.1:1")
    assert len(away.stderr.splitlines()) == 1
    assert "连不上" in away.stderr
    for token in ("假的", "a.b.c"):
        wrong = scns(running_system, "jobs", code=1, SCNS_TOKEN=token)
        assert "scns token" in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1
    scns(running_system, "submit", "-", stdin="  \n", code=1)
    scns(running_system, "jobs", "--nonsense", code=2)


def test_the_data_directory_is_enough_to_find_the_system(running_system: RunningSystem) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCNS_")}
    answer = subprocess.run(
        [SCNS, "jobs", "--json"],
        env={**environment, "SCNS_DATA_DIR": str(running_system.data_dir)},
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 0, answer


def test_nothing_heavy_is_imported(running_system: RunningSystem) -> None:
    heavy = {"pydantic", "sqlalchemy", "httpx", "numpy", "fastapi", "asyncio", "sqlmodel"}
    for arguments in (["jobs"], ["submit", "--wrap", "true"], ["nodes"], ["health"], ["partitions"]):
        answer = subprocess.run(
            [sys.executable, "-X", "importtime", SCNS, *arguments],
            env=running_system.environment,
            cwd=running_system.data_dir,
            capture_output=True,
            text=True,
            check=True,
        )
        imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines() if "|" in line}
        assert not imported & heavy, arguments
    assert json.loads(scns(running_system, "jobs", "-a", "--json", "-l", "1").stdout)["jobs"]


def test_the_python_client_does_the_same(running_system: RunningSystem) -> None:
    with Client(running_system.url, running_system.token) as client:
        job = {"name": "sdk", "current_working_directory": str(running_system.data_dir)}
        key = "同一个键".encode().hex()
        first = client.submit(job, "echo hello\n", idempotency_key=key)
        assert client.submit(job, "echo hello\n", idempotency_key=key) == first
        assert client.wait(first, timeout_s=60).state == "COMPLETED"
        assert client.output(first) == b"hello\n"
        assert [event.to_state for event in client.events(first)][-1] == "COMPLETED"
        batch = client.submit_batch([{"job": job, "script": f"exit {code}\n"} for code in range(3)])
        assert [client.wait(job_id, timeout_s=60).exit_code for job_id in batch] == ["0:0", "1:0", "2:0"]
        assert {job.job_id for job in client.jobs(name="sdk")} == {first, *batch}
        assert all(job.state in TERMINAL for job in client.jobs(name="sdk"))


@pytest.mark.faults
def test_waiting_outlives_a_restart_of_the_api(scratch: Path) -> None:
    with start_system(scratch / "restart", "--nodes", "1", "--cpus", "2", "--memory", "2G") as system:
        script = "for i in $(seq 40); do echo 第 $i 行; sleep 0.1; done\n"
        waiting = subprocess.Popen(
            [SCNS, "submit", "--wait", "-"],
            env=system.environment,
            cwd=system.data_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        waiting.stdin.write(script)
        waiting.stdin.close()
        first = waiting.stdout.readline()
        system.kill("api")
        rest = waiting.stdout.read()
        assert waiting.wait(60) == 0
    assert (first + rest).splitlines() == [f"第 {i} 行" for i in range(1, 41)]


def test_a_node_that_was_put_down_does_not_keep_the_system_from_starting(scratch: Path) -> None:
    """管理员下线的节点重启之后仍是下线的：scns up 照样就绪，别的节点照样接作业。"""
    options = ("--nodes", "2", "--cpus", "2", "--memory", "2G")
    with start_system(scratch / "down", *options) as system:
        assert system.call("PATCH", "/nodes/node2", {"state": "DOWN", "reason": "换盘"})[0] == 200
    with start_system(scratch / "down", *options) as system:
        assert system.call("GET", "/nodes/node2")[1]["state"] == "DOWN"
        system.wait_state(system.submit("#!/bin/sh\ntrue\n"), "COMPLETED")
