"""srun、salloc 与作业步，对着真的两节点系统：输出、输入、信号、终端、结局、谁死了会怎样。"""

import hashlib
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from running_system import RunningSystem, alive, wait_until

BIG = 100_000_000


@pytest.fixture(scope="module")
def cluster(lent_system: RunningSystem) -> RunningSystem:
    """两个节点，各 4 CPU。"""
    return lent_system


@pytest.fixture
def slurm(cluster: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(cluster, tmp_path)


def background(slurm: Commands, *words: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(slurm.prefix / words[0]), *words[1:]],
        cwd=slurm.work,
        env=slurm.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def marked(path: Path) -> int:
    """任务写下的进程号。"""
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), 60, str(path)))


def test_tasks_are_spread_numbered_and_labelled(slurm: Commands) -> None:
    script = "echo $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURMD_NODENAME $SLURM_NTASKS $SLURM_STEP_NODELIST"
    done = slurm.run("srun", "-N2", "--ntasks-per-node=2", "-l", "bash", "-c", script)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"{rank}: {rank} {rank % 2} {rank // 2} node{rank // 2 + 1} 4 node[1-2]" for rank in range(4)
    ]


def test_exit_codes_and_the_lines_that_tell_them(slurm: Commands) -> None:
    done = slurm.run("srun", "-wnode1", "-n3", "bash", "-c", "exit $((SLURM_PROCID ? 3 : 0))")
    assert (done.returncode, done.stderr) == (3, "srun: error: node1: tasks 1-2: Exited with exit code 3\n")
    done = slurm.run("srun", "-wnode1", "bash", "-c", "kill -SEGV $$")
    assert done.returncode == 139
    assert "node1: task 0: Segmentation fault" in done.stderr
    done = slurm.run("srun", "no-such-command")
    assert done.returncode == 2
    assert "execve(): no-such-command: No such file or directory" in done.stderr
    done = slurm.run("salloc", "-Q", "-n1", "srun", "-n99", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("srun: error: ")


def test_steps_of_a_batch_script_are_recorded(slurm: Commands) -> None:
    script = "#!/bin/bash\nsrun true\nsrun -n1 -J second sh -c 'exit 4'\nsrun -n2 --multi-prog prog\ntrue\n"
    (slurm.work / "prog").write_text("0 echo zero %t\n* echo rest %t\n")
    job = slurm.submit("-N2", "-n4", "-o", "out", text=script)
    words = ("sacct", "-nP", "-o", "jobid,jobname,ntasks,nnodes,state,exitcode", "-j", job)
    wait_until(lambda: f"{job}|sbatch||2|COMPLETED|0:0" in slurm.run(*words).stdout, 60, "作业结束")
    assert slurm.run(*words).stdout.splitlines()[1:] == [
        f"{job}.batch|batch|1|1|COMPLETED|0:0",
        f"{job}.0|true|4|2|COMPLETED|0:0",
        f"{job}.1|second|1|1|FAILED|4:0",
        f"{job}.2|prog|2|2|COMPLETED|0:0",
    ]
    assert sorted((slurm.work / "out").read_text().splitlines()[-2:]) == ["rest 1", "zero 0"]


def test_every_task_of_an_array_can_launch_steps(slurm: Commands) -> None:
    job = slurm.submit("--array=0-3", "-o", "out-%a", text="#!/bin/bash\nsrun echo task $SLURM_ARRAY_TASK_ID\n")
    words = ("sacct", "-nXP", "-o", "state", "-j", job)
    wait_until(lambda: slurm.run(*words).stdout.split() == ["COMPLETED"] * 4, 60, "数组结束")
    assert [(slurm.work / f"out-{task}").read_text() for task in range(4)] == [f"task {task}\n" for task in range(4)]


def test_parallel_steps_share_or_wait(slurm: Commands) -> None:
    script = (
        "#!/bin/bash\nsrun -n1 --exact sh -c 'touch a; while [ ! -e b ]; do sleep 0.1; done' &\n"
        "srun -n1 --exact sh -c 'touch b; while [ ! -e a ]; do sleep 0.1; done' &\nwait\n"
        "srun sh -c 'echo $$ > first; while [ ! -e go ]; do sleep 0.1; done' &\n"
        "while [ ! -e first ]; do sleep 0.1; done\nsrun touch second &\nsrun --overlap touch third\nwait\n"
    )
    job = slurm.submit("-n2", "-o", "out", text=script)
    wait_until((slurm.work / "third").exists, 60, "overlap 的不等")
    wait_until(lambda: "temporarily disabled" in (slurm.work / "out").read_text(), 60, "另一个在等")
    assert not (slurm.work / "second").exists()
    (slurm.work / "go").touch()
    wait_until((slurm.work / "second").exists, 60, "占着的做完了就轮到它")
    wait_until(lambda: "COMPLETED" in slurm.run("sacct", "-nXP", "-o", "state", "-j", job).stdout, 60, "作业结束")


def test_nothing_is_lost_in_either_direction(slurm: Commands) -> None:
    data = os.urandom(1_000_000) * (BIG // 1_000_000)
    done = subprocess.run(
        [str(slurm.prefix / "srun"), "-N2", "-n2", "tee", "copy"],
        input=data, capture_output=True, cwd=slurm.work, env=slurm.environment, timeout=120, check=True,
    )  # fmt: skip
    # 两个任务的输出交错着来，字节一个不少。
    assert len(done.stdout) == 2 * BIG
    assert hashlib.md5((slurm.work / "copy").read_bytes()).digest() == hashlib.md5(data).digest()
    one = subprocess.run(
        [str(slurm.prefix / "srun"), "cat"], input=data, capture_output=True, cwd=slurm.work,
        env=slurm.environment, timeout=120, check=True,
    )  # fmt: skip
    assert hashlib.md5(one.stdout).digest() == hashlib.md5(data).digest()


def test_files_for_each_task_and_for_all(slurm: Commands) -> None:
    (slurm.work / "in").write_text("输入\n")
    words = ("srun", "-wnode1", "-n2", "-i", "in", "-o", "out-%J-%2t-%N", "-e", "err-%j", "sh", "-c")
    words += ("cat; echo oops >&2",)
    assert slurm.run(*words).returncode == 0
    names = sorted(path.name for path in slurm.work.glob("out-*"))
    job = names[0].split("-")[1].split(".")[0]
    assert names == [f"out-{job}.0-00-node1", f"out-{job}.0-01-node1"]
    assert all((slurm.work / name).read_text() == "输入\n" for name in names)
    assert (slurm.work / f"err-{job}").read_text() == "oops\noops\n"


def test_a_terminal(slurm: Commands) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(slurm.work)
        os.execve(slurm.prefix / "srun", ["srun", "--pty", "bash", "--norc", "-i"], slurm.environment)
    heard = b""

    def expect(text: bytes) -> None:
        nonlocal heard
        deadline = time.monotonic() + 60
        while text not in heard:
            assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], heard
            heard += os.read(fd, 4096)
        heard = heard.partition(text)[2]

    expect(b"bash")
    os.write(fd, b"test -t 0 && echo is-a-$((1 + 1))-terminal\n")
    expect(b"is-a-2-terminal")
    os.write(fd, b"sleep 1000; echo rc-$?\n")
    wait_until(lambda: subprocess.run(["pgrep", "-x", "-f", "sleep 1000"], capture_output=True).stdout, 60, "sleep")
    os.write(fd, b"\x03")
    os.write(fd, b"echo after-$((2 + 3))\n")
    expect(b"after-5")
    os.write(fd, b"exit 7\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(fd)


def test_signals_reach_the_tasks(slurm: Commands) -> None:
    script = "trap 'echo got-usr1; exit 5' USR1; echo $$ > pid; while :; do sleep 0.1; done"
    step = background(slurm, "srun", "bash", "-c", script)
    marked(slurm.work / "pid")
    step.send_signal(signal.SIGUSR1)
    assert step.communicate(timeout=30)[0] == "got-usr1\n"
    assert step.returncode == 5
    step = background(slurm, "srun", "sh", "-c", "echo $$ > pid2; exec sleep 300")
    pid = marked(slurm.work / "pid2")
    step.send_signal(signal.SIGINT)
    wait_until(lambda: select.select([step.stderr], [], [], 0)[0], 60, "第一次只是提醒")
    assert alive(pid)
    step.send_signal(signal.SIGINT)
    assert "sending Ctrl-C" in step.communicate(timeout=30)[1]
    assert step.returncode == 130
    assert not alive(pid)


def test_a_bad_exit_ends_the_others_when_asked(slurm: Commands) -> None:
    script = "[ $SLURM_PROCID = 1 ] && exit 6; echo $$ > pid; exec sleep 300"
    done = slurm.run("srun", "-n2", "-K", "sh", "-c", script)
    assert done.returncode == 143
    assert "Exited with exit code 6" in done.stderr


def test_a_step_dies_with_its_srun_and_the_allocation_is_given_back(slurm: Commands, cluster: RunningSystem) -> None:
    step = background(slurm, "srun", "-N2", "sh", "-c", "echo $$ > pid$SLURM_PROCID; exec sleep 300")
    pids = [marked(slurm.work / f"pid{rank}") for rank in range(2)]
    os.kill(step.pid, signal.SIGKILL)
    step.communicate()
    wait_until(lambda: not any(alive(pid) for pid in pids), 60, "任务都结束")
    wait_until(lambda: slurm.run("squeue", "-h").stdout == "", 60, "分配交还")


def test_scancel_of_a_step_leaves_the_job(slurm: Commands) -> None:
    script = "#!/bin/bash\nsrun sh -c 'echo $$ > pid; exec sleep 300'\necho rc $?\n"
    job = slurm.submit("-o", "out", text=script)
    pid = marked(slurm.work / "pid")
    assert slurm.run("squeue", "-hs").stdout.split()[0] == f"{job}.0"
    assert f"StepId={job}.0" in slurm.run("scontrol", "show", "step").stdout
    assert slurm.run("sstat", "-nP", "-o", "jobid,ntasks", "-j", job).stdout == f"{job}.0|1\n"
    assert slurm.run("scancel", f"{job}.0").returncode == 0
    wait_until(lambda: "rc 143" in (slurm.work / "out").read_text(), 60, "脚本接着走")
    assert not alive(pid)
    words = ("sacct", "-nP", "-o", "jobid,state", "-j", job)
    wait_until(lambda: f"{job}|COMPLETED" in slurm.run(*words).stdout, 60, "作业照常结束")
    assert f"{job}.0|CANCELLED" in slurm.run(*words).stdout


def test_salloc_gives_the_command_an_allocation_and_takes_it_back(slurm: Commands) -> None:
    words = ("salloc", "-N2", "sh", "-c", "echo $SLURM_JOB_ID $SLURM_JOB_NODELIST; srun -l hostname; exit 4")
    done = slurm.run(*words)
    job = done.stdout.split()[0]
    assert done.returncode == 4
    assert done.stdout.splitlines()[0] == f"{job} node[1-2]"
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == f"salloc: Granted job allocation {job}\nsalloc: Relinquishing job allocation {job}\n"
    shown = ("sacct", "-nP", "-o", "jobid,state,exitcode", "-j", job)
    wait_until(lambda: f"{job}|FAILED|4:0" in slurm.run(*shown).stdout, 60, "交还")
    assert f"{job}.0|COMPLETED|0:0" in slurm.run(*shown).stdout
    done = slurm.run("salloc", "-N3", "-I", "true")
    assert done.returncode == 1


@pytest.mark.faults
def test_running_steps_survive_the_agent(slurm: Commands, cluster: RunningSystem) -> None:
    step = background(slurm, "srun", "sh", "-c", "echo $$ > pid; while [ ! -e go ]; do sleep 0.1; done; echo done")
    marked(slurm.work / "pid")
    cluster.kill("worker.agent.process")
    (slurm.work / "go").touch()
    assert step.communicate(timeout=30)[0] == "done\n"
    assert step.returncode == 0
    wait_until(lambda: slurm.run("squeue", "-h").stdout == "", 60, "新的代理写下结束")


def test_a_step_without_srun_writes_files(slurm: Commands, cluster: RunningSystem) -> None:
    job = slurm.submit(text="#!/bin/bash\nwhile [ ! -e go ]; do sleep 0.1; done\n")
    wait_until(lambda: cluster.query(job)["state"] == "RUNNING", 60, "运行")

    def created() -> Any:
        status, answer = cluster.call("POST", f"/jobs/{job}/steps", {"argv": ["sh", "-c", "echo 你好; exit 3"]})
        return answer if status == 201 else None

    step = wait_until(created, 60, "节点就绪")
    path = f"/jobs/{job}/steps/{step['step_id']}"
    wait_until(lambda: cluster.call("GET", path)[1]["state"] == "FAILED", 60, "作业步结束")
    assert (slurm.work / f"slurm-{job}.0.out").read_text() == "你好\n"
    assert cluster.call("GET", path)[1]["exit_status"] == 3
    assert cluster.call("POST", f"{path}/signal", {"signal": "TERM"})[1]["code"] == "step_finished"
    assert cluster.call("GET", f"/jobs/{job}/steps/7")[1]["code"] == "step_not_found"
    too_many = {"argv": ["true"], "tasks": 99}
    assert cluster.call("POST", f"/jobs/{job}/steps", too_many)[1]["code"] == "step_too_large"
    assert cluster.call("POST", f"/jobs/{job}/release_allocation", {})[1]["code"] == "not_an_allocation"
    (slurm.work / "go").touch()
    cluster.wait_state(job, "COMPLETED")
    assert cluster.call("POST", f"/jobs/{job}/steps", {"argv": ["true"]})[1]["code"] == "job_not_running"


def test_a_stranger_gets_nothing_from_srun(slurm: Commands) -> None:
    step = background(slurm, "srun", "sh", "-c", "echo $SLURM_SRUN_COMM_PORT > port; cat; echo done",
                      stdin=subprocess.PIPE)  # fmt: skip
    port = marked(slurm.work / "port")
    hello = b'{"key": "0123456789abcdef", "node": "node2", "ranks": [0]}'
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
        stranger.sendall(struct.pack("!BiI", 1, 0, len(hello)) + hello)
        assert stranger.recv(100) == b""
    assert step.communicate("x\n", timeout=30)[0] == "x\ndone\n"


def test_a_running_job_gives_nodes_back_and_its_processes_there_end(cluster: RunningSystem, slurm: Commands) -> None:
    script = "#!/bin/bash\nsrun -N2 -n2 bash -c 'echo $$ > pid.$SLURM_PROCID; exec sleep 300' &\nsleep 300\n"
    job = slurm.submit("-N2", "-n2", "--exclusive", text=script)
    first, second = (marked(slurm.work / f"pid.{rank}") for rank in (0, 1))
    refused = slurm.run("scontrol", "update", f"jobid={job}", "numnodes=3")
    assert refused.returncode == 1
    refused = slurm.run("scontrol", "update", f"jobid={job}", "nodelist=node2")
    assert refused.returncode == 1
    done = slurm.run("scontrol", "update", f"jobid={job}", "numnodes=1")
    assert done.returncode == 0, done.stderr
    assert f"  For bash or sh shells:  . ./slurm_job_{job}_resize.sh\n" in done.stdout
    wait_until(lambda: not alive(second), what="交还的节点上的任务结束")
    assert cluster.call("GET", "/nodes/node2")[1]["allocated_cpus"] == 0
    assert cluster.call("GET", "/nodes/node1")[1]["allocated_cpus"] == 4
    shown = slurm.run("scontrol", "show", "job", job).stdout
    assert "NumNodes=1 NumCPUs=4" in shown
    assert "NodeList=node1\n" in shown
    # 交还的马上就给别人；脚本还在跑。
    assert slurm.run("srun", "-N1", "-n4", "-w", "node2", "true").returncode == 0
    sourced = f". ./slurm_job_{job}_resize.sh; echo $SLURM_JOB_NODELIST $SLURM_NNODES $SLURM_JOB_CPUS_PER_NODE"
    assert subprocess.check_output(["bash", "-c", sourced], cwd=slurm.work, text=True) == "node1 1 4\n"
    assert slurm.run("squeue", "-h", "-j", job, "-o", "%T %N").stdout == "RUNNING node1\n"
    slurm.run("scancel", job)
    wait_until(lambda: not alive(first), what="取消")
    wait_until(lambda: cluster.call("GET", "/nodes/node1")[1]["allocated_cpus"] == 0, what="只归还一次")


@pytest.mark.faults
def test_no_kill_lets_a_job_live_on_without_a_lost_node(cluster: RunningSystem, slurm: Commands) -> None:
    jobs = {}
    for option in ("-k", "--no-requeue"):
        script = "#!/bin/bash\nsrun -k -N2 -n2 bash -c 'echo $$ > pid; exec sleep 300' &\ntouch up; sleep 300\n"
        (slurm.work / option).mkdir()
        jobs[option] = slurm.submit("-N2", "-n2", option, "-D", str(slurm.work / option), text=script)
        wait_until((slurm.work / option / "pid").exists)
    slurm.run("scontrol", "update", "nodename=node2", "state=down", "reason=test")
    try:
        state = ("squeue", "-h", "-t", "all", "-o", "%T %N", "-j")
        wait_until(lambda: slurm.run(*state, jobs["--no-requeue"]).stdout.startswith("NODE_FAIL"))
        wait_until(lambda: slurm.run(*state, jobs["-k"]).stdout == "RUNNING node1\n")
    finally:
        slurm.run("scontrol", "update", "nodename=node2", "state=resume")
        slurm.run("scancel", jobs["-k"])
    wait_until(lambda: cluster.call("GET", "/nodes/node1")[1]["allocated_cpus"] == 0)
    assert cluster.call("GET", "/nodes/node2")[1]["allocated_cpus"] == 0
