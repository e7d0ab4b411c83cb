"""scns ssh：到运行中的作业里运行命令、开 shell，对着真的系统。"""

import os
import pty
import select
import subprocess
import sys
import time

from running_system import RunningSystem

MAIN = "from scns_conductor.cli.main import main; main()"


def scns(system: RunningSystem, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=system.environment,
        check=False,
    )


def read_until(terminal: int, *wanted: bytes) -> None:
    """读到其中一样为止；登录 shell 的提示符由它自己的 profile 定。"""
    seen, deadline = b"", time.monotonic() + 60
    while not any(each in seen for each in wanted):
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096)


def test_a_command_and_a_shell_inside_the_job(running_system: RunningSystem) -> None:
    job_id = running_system.submit("sleep 300\n", memory_per_node="64")
    running_system.wait_state(job_id, "RUNNING")
    done = scns(running_system, "ssh", job_id, "sh", "-c", "cat /proc/self/cgroup; echo $SLURM_JOB_ID; exit 4")
    assert done.returncode == 4, done.stderr
    assert f"/job_{job_id}_" in done.stdout
    assert done.stdout.splitlines()[-1] == job_id
    # 引号里的一行交给 shell，同 ssh。
    line = scns(running_system, "ssh", job_id, "echo in $SLURM_JOB_ID; exit 7")
    assert (line.returncode, line.stdout) == (7, f"in {job_id}\n")
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", MAIN, "ssh", job_id],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**running_system.environment, "SHELL": "/bin/sh"},
        start_new_session=True,
    )
    os.close(slave)
    read_until(master, b"# ", b"$ ")
    os.write(master, b"test -t 0 && echo shell $((40 + 2)); exit 3\n")
    read_until(master, b"shell 42")
    assert shell.wait(timeout=60) == 3
    os.close(master)
    running_system.call("POST", f"/jobs/cancel/{job_id}")
    running_system.wait_state(job_id)
    gone = scns(running_system, "ssh", job_id, "true")
    assert gone.returncode != 0
    assert gone.stderr == f"错误：作业 {job_id} 不在运行，状态是 CANCELLED\n"
