"""scns 的列表：数组的各个任务、空的列表、一直看着、颜色、成批取消、写错的命令。"""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import warm_commands
from running_system import RunningSystem, wait_until

SCNS = str(Path(sys.executable).parent / "scns")


def scns(
    system: RunningSystem, *arguments: str, code: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    answer = warm_commands.run([SCNS, *arguments], cwd=system.data_dir, env={**system.environment, **environment})
    assert answer.returncode == code, answer
    return answer


def submit(system: RunningSystem, *options: str) -> str:
    return scns(system, "submit", "--parsable", *options).stdout.strip()


def states(system: RunningSystem, job_id: str) -> list[str]:
    status, answer = system.call("GET", f"/jobs?job_id={job_id}&fields=state&limit=100")
    assert status == 200, answer
    return [str(job["state"]) for job in answer["jobs"]]


def finished_array(system: RunningSystem) -> str:
    array = submit(system, "--array", "0-2", "--wrap", "echo 任务 $SLURM_ARRAY_TASK_ID")
    wait_until(lambda: states(system, array) == ["COMPLETED"] * 3, what="数组跑完")
    return array


def test_an_array_shows_all_its_tasks(running_system: RunningSystem) -> None:
    array = finished_array(running_system)
    output = scns(running_system, "logs", array)
    assert output.stdout == "任务 0\n任务 1\n任务 2\n"
    assert re.findall(r"==> (\S+) <==", output.stderr) == [f"{array}_{index}" for index in range(3)]
    shown = scns(running_system, "show", array)
    assert re.findall(rf"^{array}_(\d)", shown.stdout, re.M) == ["0", "1", "2"]
    assert f"scns show {array}_0" in shown.stderr
    tasks = json.loads(scns(running_system, "logs", array, "--json").stdout)["tasks"]
    assert tasks == {f"{array}_{index}": f"任务 {index}\n" for index in range(3)}
    # 指明一个任务照旧是它的一切、它的输出。
    assert scns(running_system, "logs", f"{array}_1").stdout == "任务 1\n"
    assert "退出码" in scns(running_system, "show", f"{array}_1").stdout
    assert scns(running_system, "logs", "-f", array, code=2).stdout == ""


def test_an_empty_list_is_a_sentence_not_a_bare_header(running_system: RunningSystem) -> None:
    empty = scns(running_system, "jobs", "-J", "没有这个名字")
    assert (empty.stdout, empty.stderr) == ("", "没有符合条件的作业\n")


def test_misspelt_commands_get_a_suggestion(running_system: RunningSystem) -> None:
    assert "cancel" in scns(running_system, "canel", code=2).stderr
    assert "scns-slurm squeue" in scns(running_system, "squeue", code=2).stderr
    assert "没有命令 qqqqqq" in scns(running_system, "qqqqqq", code=2).stderr


def test_why_alone_lists_everything_that_waits_and_names_tasks_as_shown(running_system: RunningSystem) -> None:
    blocking = submit(running_system, "--array", "0-0", "-c", "8", "-t", "60", "--wrap", "sleep 600")
    running_system.wait_state(f"{blocking}_0", "RUNNING")
    waiting = submit(running_system, "-c", "8", "-J", "在等", "--wrap", "true")
    wait_until(lambda: "Resources" in scns(running_system, "why").stdout, what="说出原因")
    row = next(line for line in scns(running_system, "why").stdout.splitlines() if line.startswith(waiting))
    assert row.split()[1:4] == ["在等", running_system.query(waiting)["detail"]["user"], "Resources"]
    answer = json.loads(scns(running_system, "why", waiting, "--json").stdout)
    assert [holder["job_id"] for holder in answer["waiting_for"]] == [f"{blocking}_0"]
    assert f"{blocking}_0（" in answer["text"]
    # 同一个名字也认得。
    assert scns(running_system, "show", f"{blocking}_0").stdout
    scns(running_system, "cancel", blocking, waiting)
    running_system.wait_state(f"{blocking}_0", "CANCELLED")


def test_jobs_are_cancelled_by_state_and_all_at_once(running_system: RunningSystem) -> None:
    held = [submit(running_system, "--hold", "--wrap", "true") for _ in range(2)]
    array = submit(running_system, "--hold", "--array", "1-3", "--wrap", "true")
    running = submit(running_system, "--wrap", "sleep 600")
    running_system.wait_state(running, "RUNNING")
    scns(running_system, "cancel", code=2)
    scns(running_system, "cancel", "--all", running, code=2)
    assert scns(running_system, "cancel", "-u", "nobody-here").stderr == "没有符合条件的作业\n"
    # 结束了的没有可取消的，也不因此取消别的。
    assert scns(running_system, "cancel", "-t", "CD").stderr == "没有符合条件的作业\n"
    scns(running_system, "cancel", "-t", "PD")
    for job_id in held:
        assert running_system.wait_state(job_id)["state"] == "CANCELLED"
    wait_until(lambda: set(states(running_system, array)) == {"CANCELLED"}, what="数组取消")
    assert running_system.query(running)["state"] == "RUNNING"
    scns(running_system, "cancel", "--all")
    assert running_system.wait_state(running)["state"] == "CANCELLED"


def on_terminal(system: RunningSystem, *arguments: str, until: str, **environment: str) -> str:
    """在伪终端里运行，读到 until（正则）出现，再 Ctrl-C；返回看到的。"""
    process, master = pty.fork()
    if process == 0:
        os.chdir(system.data_dir)
        # 测试在后台跑时 SIGINT 是忽略着继承来的。
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execve(SCNS, [SCNS, *arguments], {**system.environment, "TERM": "xterm", **environment})
    seen = b""
    try:
        while not re.search(until, seen.decode(errors="replace"), re.S):
            chunk = read_some(master)
            if not chunk:
                break
            seen += chunk
    finally:
        os.kill(process, signal.SIGINT)
        os.waitpid(process, 0)
        os.close(master)
    text = seen.decode(errors="replace")
    assert re.search(until, text, re.S), text
    return text


def read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # 对方走了
        return b""


def test_watching_lists_again_and_colours_only_a_terminal(running_system: RunningSystem) -> None:
    held = submit(running_system, "--hold", "-J", "看着", "--wrap", "true")
    listing = ["jobs", "-J", "看着", "--watch", "0.2"]
    twice = rf"{held}.*JobHeldUser.*{held}.*JobHeldUser"
    assert "\x1b[33m" in on_terminal(running_system, *listing, until=twice)
    assert "\x1b[33m" not in on_terminal(running_system, *listing, until=twice, NO_COLOR="1")
    assert "\x1b" not in scns(running_system, "jobs", "-J", "看着").stdout
    scns(running_system, "jobs", "--watch", "--json", code=2)
    scns(running_system, "cancel", held)


@pytest.mark.parametrize("arguments", [["why", "--json"], ["jobs", "--json"]])
def test_lists_for_programs_are_json_even_when_empty(running_system: RunningSystem, arguments: list[str]) -> None:
    found: Any = json.loads(scns(running_system, *arguments).stdout)
    assert isinstance(found["jobs"], list)
