"""作业步分资源、绑定、prolog、等待与中止、sattach、sbcast，对着真的两节点系统（各 4 CPU、4 块声明的 GPU）。"""

import contextlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest
from slurm_links import Commands
from x_server import HERE, x_server

from running_system import RunningSystem, alive, wait_until


@pytest.fixture(scope="module")
def cluster(lent_system: RunningSystem) -> RunningSystem:
    return lent_system


@pytest.fixture
def slurm(cluster: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(cluster, tmp_path)


def batch(slurm: Commands, text: str, *words: str) -> list[str]:
    """运行一份脚本到结束，返回它的输出行；作业号写在 job 文件里。"""
    done = slurm.run("sbatch", "--wait", "-o", "out", *words, text=f"#!/bin/bash\necho $SLURM_JOB_ID > job\n{text}")
    assert done.returncode == 0, done.stderr + (slurm.work / "out").read_text()
    return (slurm.work / "out").read_text().splitlines()


def steps_of(slurm: Commands, field: str) -> list[str]:
    """batch 的那个作业的各步：步号与一列。"""
    job = (slurm.work / "job").read_text().strip()
    rows = [line.partition(".")[2] for line in sacct(slurm, job, f"jobid,{field}")]
    return [row for row in rows if row[:1].isdigit()]


def sacct(slurm: Commands, job: str, fields: str) -> list[str]:
    return slurm.run("sacct", "-nP", "-o", fields, "-j", job).stdout.splitlines()


def test_the_first_host_of_the_list_runs_the_script_and_task_0(slurm: Commands) -> None:
    # 先占 node1 的一部分：放置时空的 node2 排在前面，列表的次序不变。
    holder = slurm.submit("-w", "node1", "-n2", "--gpus=1", text="#!/bin/bash\nwhile [ ! -e go ]; do sleep 0.1; done\n")
    wait_until(lambda: sacct(slurm, holder, "state")[0] == "RUNNING", 60, "占着")
    show = "sh -c 'echo $SLURM_PROCID $SLURM_NODEID $SLURMD_NODENAME'"
    script = f"scontrol show hostnames | head -n1\necho $SLURMD_NODENAME\nsrun -l {show} | sort\n"
    lines = batch(slurm, script, "-N2", "--ntasks-per-node=1")
    assert lines == ["node1", "node1", "0: 0 0 node1", "1: 1 1 node2"]
    (slurm.work / "go").touch()
    wait_until(lambda: sacct(slurm, holder, "state")[0] == "COMPLETED", 60, "让出来")


def test_parallel_steps_never_share_a_card(slurm: Commands) -> None:
    show = "echo $CUDA_VISIBLE_DEVICES; echo > $0; while [ ! -e $1 ]; do sleep 0.1; done"
    step = f"srun -n1 -N1 --exact --gpus=2 sh -c '{show}'"
    script = f"{step} a b &\n{step} b a &\nwait\n"
    lines = batch(slurm, script, "-N1", "-n2", "--gpus-per-node=4")
    assert sorted(lines) == ["0,1", "2,3"]


def test_cards_of_a_step_its_tasks_and_none(slurm: Commands) -> None:
    show = "sh -c 'echo $SLURM_PROCID [$CUDA_VISIBLE_DEVICES] of [$SLURM_STEP_GPUS]'"
    script = (
        f"srun {show}\nsrun --gres=gpu:1 {show}\nsrun --gres=none {show}\nsrun --gpus-per-task=1 {show}\n"
        f"srun --gpus=3 --gpu-bind=single:1 {show}\nsrun --gpus=5 true || echo refused $?\n"
    )
    lines = batch(slurm, script, "-N1", "-n2", "--gpus-per-node=4")
    steps = [sorted(lines[first : first + 2]) for first in range(0, 10, 2)]
    assert steps == [
        ["0 [0,1,2,3] of [0,1,2,3]", "1 [0,1,2,3] of [0,1,2,3]"],
        ["0 [0] of [0]", "1 [0] of [0]"],
        ["0 [] of []", "1 [] of []"],
        ["0 [0] of [0,1]", "1 [1] of [0,1]"],
        ["0 [0] of [0,1,2]", "1 [1] of [0,1,2]"],
    ]
    assert "Invalid generic resource (gres) specification" in lines[10]
    assert lines[-1] == "refused 1"


def test_a_step_is_held_to_its_own_memory_and_the_job_goes_on(slurm: Commands) -> None:
    eat = "python3 -c 'x = bytearray(400_000_000); import time; time.sleep(60)'"
    script = f"srun -n1 --mem=120M {eat}\necho rc $?\nsrun -n1 --mem=99G true\nsrun -n1 --mem=1G true && echo fine\n"
    lines = batch(slurm, script, "-N1", "-n2", "--mem=2G")
    assert "rc 137" in lines
    assert lines[-1] == "fine"
    assert any("Memory required by task is not available" in line for line in lines)
    assert steps_of(slurm, "state") == ["0|OUT_OF_MEMORY", "1|COMPLETED"]


def test_two_steps_wait_for_memory(slurm: Commands) -> None:
    script = (
        "srun -n1 --exact --mem=700M sh -c 'echo > first; while [ ! -e go ]; do sleep 0.1; done' &\n"
        "while [ ! -e first ]; do sleep 0.1; done\n"
        "srun -n1 --exact --mem=700M touch second &\nsrun -n1 --exact --mem=300M touch third\nwait\n"
    )
    job = slurm.submit("-n2", "--mem=1G", "-o", "out", text=f"#!/bin/bash\n{script}")
    wait_until((slurm.work / "third").exists, 60, "放得下的不等")
    wait_until(lambda: "temporarily disabled" in (slurm.work / "out").read_text(), 60, "放不下的在等")
    assert not (slurm.work / "second").exists()
    (slurm.work / "go").touch()
    wait_until((slurm.work / "second").exists, 60, "让出来就轮到它")
    wait_until(lambda: sacct(slurm, job, "state")[0] == "COMPLETED", 60, "作业结束")


def test_relative_nodes_overcommit_and_binding(slurm: Commands) -> None:
    script = (
        "srun -r1 -N1 -n1 sh -c 'echo $SLURMD_NODENAME'\n"
        "srun -N1 -n9 -O sh -c 'echo over' | wc -l\nsrun -N1 -n9 true || echo refused\n"
        "srun -n1 -N1 --cpu-bind=map_cpu:1 taskset -cp 0 >/dev/null; "
        "srun -n1 -N1 --cpu-bind=verbose,map_cpu:1 sh -c 'taskset -cp $$' 2>&1\n"
        "srun -n1 -N1 --cpu-bind=map_cpu:4000 true 2>&1\nsrun --cpu-bind=rubbish true\n"
    )
    lines = batch(slurm, script + "true\n", "-N2", "-n2")
    assert lines[:2] == ["node2", "9"]
    assert "refused" in lines
    assert any(line.endswith("mask 0x2 set") for line in lines)
    assert any(line.endswith("affinity list: 1") for line in lines)
    # 没有的核：说一句，不是默默地不绑。
    assert "slurmstepd: error: cpu-bind 4000: Invalid argument" in lines
    assert lines[-1] == "srun: error: Invalid --cpu-bind argument: rubbish"


def test_prologs_and_epilogs(slurm: Commands) -> None:
    programs = {
        "task_prolog": "echo export MOOD=good\necho unset GONE\necho print prolog $SLURM_PROCID\necho ignored",
        "task_epilog": "echo epilog $SLURM_PROCID >> log",
        "before": "echo before >> log",
        "after": "echo after >> log",
    }
    for name, text in programs.items():
        (slurm.work / name).write_text(f"#!/bin/sh\n{text}\n")
        (slurm.work / name).chmod(0o755)
    slurm.environment["GONE"] = "1"
    words = ("srun", "--task-prolog=./task_prolog", "--task-epilog=./task_epilog", "--prolog=./before")
    done = slurm.run(*words, "--epilog=./after", "sh", "-c", "echo $MOOD [$GONE]; echo task >> log")
    assert (done.returncode, done.stdout) == (0, "prolog 0\ngood []\n")
    assert (slurm.work / "log").read_text().split() == ["before", "task", "epilog", "0", "after"]
    (slurm.work / "task_prolog").write_text("#!/bin/sh\nexit 3\n")
    done = slurm.run("srun", "--task-prolog=./task_prolog", "touch", "ran")
    assert done.returncode == 1
    assert not (slurm.work / "ran").exists()


def test_wait_ends_the_rest_after_the_first(slurm: Commands) -> None:
    began = time.monotonic()
    done = slurm.run("srun", "-n2", "-W1", "sh", "-c", "[ $SLURM_PROCID = 0 ] || exec sleep 300")
    assert time.monotonic() - began < 60
    assert done.returncode == 143
    assert "First task exited 1s ago" in done.stderr


def test_what_cannot_be_done_is_refused_by_name(slurm: Commands) -> None:
    for words, told in (
        (("--mpi=openshmem",), "MPI plugin type openshmem"),
        (("--het-group=1",), "--het-group"),
        (("-Z",), "--no-allocate"),
        (("--send-libs=yes",), "--send-libs"),
    ):
        done = slurm.run("srun", *words, "true")
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert slurm.run("srun", "--mpi=list").stderr.split()[4:] == ["none", "pmi2", "pmix"]


def test_a_running_step_shows_its_use(slurm: Commands) -> None:
    grow = "x=$(head -c 60000000 /dev/zero | tr '\\0' a); echo > grown; while [ ! -e go ]; do :; done; echo ${#x}"
    (slurm.work / "grow").write_text(grow)
    job = slurm.submit("-n2", "-o", "out", text="#!/bin/bash\nsrun -n1 bash grow\n")
    wait_until((slurm.work / "grown").exists, 60, "长大了")

    def figures() -> list[str] | None:
        line = slurm.run("sstat", "-nP", "-o", "jobid,maxrss,avecpu", "-j", job).stdout.strip()
        found = line.split("|")
        return found if found[0] == f"{job}.0" and found[2] >= "00:00:01" else None

    _, memory, _ = wait_until(figures, 60, "看得见 CPU")
    assert int(memory.removesuffix("K")) > 55_000
    (slurm.work / "go").touch()
    wait_until(lambda: sacct(slurm, job, "state")[0] == "COMPLETED", 60, "作业结束")
    _, ended = sacct(slurm, job, "jobid,maxrss")[-1].split("|")
    assert int(ended.removesuffix("K")) > 55_000


def test_sattach_watches_feeds_and_leaves(slurm: Commands) -> None:
    (slurm.work / "task").write_text(
        "echo > up$SLURM_PROCID; read w; echo $SLURM_PROCID heard $w\nexit $SLURM_PROCID\n"
    )
    waiting = "< <(while [ ! -e never ]; do sleep 0.1; done)"
    script = f"#!/bin/bash\nsrun -N2 -n2 sh task {waiting} > /dev/null\n"
    job = slurm.submit("-N2", "-n2", "-o", "out", text=script)
    wait_until(lambda: all((slurm.work / f"up{rank}").exists() for rank in range(2)), 60, "任务都在")
    layout = slurm.run("sattach", "--layout", f"{job}.0").stdout
    assert "Node 1 (node2), 1 task(s): 1" in layout
    leaver = subprocess.Popen(
        [str(slurm.prefix / "sattach"), "--input-filter=none", f"{job}.0"], cwd=slurm.work, env=slurm.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    # 有人离开不影响任务。
    wait_until(lambda: _connected(leaver.pid), 60, "接上了")
    leaver.send_signal(signal.SIGINT)
    leaver.communicate(timeout=30)
    assert sacct(slurm, job, "state")[0] == "RUNNING"
    done = slurm.run("sattach", "-l", f"{job}.0", text="hello\n")
    assert sorted(done.stdout.splitlines()) == ["0: 0 heard hello", "1: 1 heard hello"]
    assert done.returncode == 1
    assert "node2: task 1: Exited with exit code 1" in done.stderr
    (slurm.work / "never").touch()
    wait_until(lambda: sacct(slurm, job, "state")[0] != "RUNNING", 60, "作业结束")
    for wrong in (f"{job}.0", f"{job}.7", "999999.0"):
        done = slurm.run("sattach", wrong)
        assert (done.returncode, done.stderr) == (
            1, "sattach: error: Could not get job step info: Invalid job id specified\n",
        )  # fmt: skip


def _connected(pid: int) -> bool:
    """sattach 有没有被两个节点连上：除了监听的，还有两个连接。"""
    sockets = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # 列出之后它关了
            sockets += os.readlink(fd).startswith("socket:")
    return sockets >= 4


def test_sbcast_copies_to_every_node_and_srun_bcast_runs_the_copy(slurm: Commands) -> None:
    data = os.urandom(20_000_000)
    (slurm.work / "data").write_bytes(data)
    (slurm.work / "data").chmod(0o640)
    os.utime(slurm.work / "data", (1_000_000_000, 1_000_000_000))
    (slurm.work / "prog").write_text("#!/bin/sh\necho I am $0\n")
    (slurm.work / "prog").chmod(0o755)
    script = (
        "sbcast -p data copy; echo $?\nsbcast data copy; echo $?\nsbcast -f data copy; echo $?\n"
        "sbcast nothing copy; echo $?\nsbcast data /no/such/place; echo $?\nsrun -n1 --bcast=$PWD/p2 ./prog\n"
        "srun true\n"
    )
    lines = batch(slurm, script, "-N2", "-n2")
    assert [line for line in lines if line.isdigit()] == ["0", "1", "0", "1", "1"]
    assert any(line.endswith(": File exists") for line in lines)
    assert lines[-1] == f"I am {slurm.work}/p2"
    copy = slurm.work / "copy"
    assert (copy.read_bytes() == data, copy.stat().st_mode & 0o777) == (True, 0o640)
    assert not list(slurm.work.glob("*.sbcast-*"))
    # sbcast 自己的步不列出来，也不占步号。
    assert steps_of(slurm, "jobname") == ["0|p2", "1|true"]
    done = slurm.run("sbcast", "data", "copy")
    assert (done.returncode, "Need a job id" in done.stderr) == (1, True)


def test_the_window_of_a_terminal_follows(slurm: Commands) -> None:
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
    ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    os.write(fd, b"until [ \"$(stty size)\" = '33 101' ]; do :; done; echo size-$((1 + 1))-good\n")
    expect(b"size-2-good")
    # 一次粘贴很多：终端写不进时不丢。
    os.write(fd, b"stty -echo; IFS= read -r -d q big; stty echo; echo got-${#big}-\n")
    expect(b"read")
    chunk = b"0123456789abcde\n" * 64
    sent = 0
    while sent < 200 * len(chunk):
        if select.select([], [fd], [], 5)[1]:
            sent += os.write(fd, chunk[sent % len(chunk) :])
        if select.select([fd], [], [], 0)[0]:
            heard += os.read(fd, 65536)
    os.write(fd, b"q")
    expect(f"got-{sent}-".encode())
    os.write(fd, b"exit 0\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)


def test_each_task_has_its_own_files_and_input(slurm: Commands) -> None:
    for rank in range(4):
        (slurm.work / f"in{rank}").write_text(f"for {rank}\n")
    files = ("-i", "in%t", "-o", "out%t", "-e", "err%n")
    done = slurm.run("srun", "-N2", "-n4", *files, "sh", "-c", "cat; echo e$SLURM_PROCID >&2")
    assert done.returncode == 0
    assert [(slurm.work / f"out{rank}").read_text() for rank in range(4)] == [f"for {rank}\n" for rank in range(4)]
    assert sorted((slurm.work / "err1").read_text().split()) == ["e2", "e3"]
    done = slurm.run("srun", "-n3", "-i1", "sh", "-c", "echo $SLURM_PROCID $(cat)", text="only one\n")
    assert sorted(done.stdout.splitlines()) == ["0", "1 only one", "2"]


def test_multi_prog_with_ranges(slurm: Commands) -> None:
    (slurm.work / "prog").write_text(
        "# 注释\n0 echo first #\n1-2 echo range %t %o\n3 sh -c 'echo third \\\n  %t'\n* echo rest %t\n"
    )
    done = slurm.run("srun", "-N2", "-n5", "-O", "--multi-prog", "prog", "more")
    lines = ["first # more", "range 1 0 more", "range 2 1 more", "rest 4 more", "third 3"]
    assert sorted(done.stdout.splitlines()) == lines
    (slurm.work / "gap").write_text("0 echo a\n2 echo %t\n")
    done = slurm.run("srun", "--multi-prog", "gap")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "srun: error: Configuration file gap invalid, no record for task id 1\n"
    (slurm.work / "two").write_text("0-1 echo task %t\n")
    # 没有写任务数的由文件定；写了的不能小于文件里的。
    assert sorted(slurm.run("srun", "--multi-prog", "two").stdout.split()) == ["0", "1", "task", "task"]
    done = slurm.run("srun", "-n1", "--multi-prog", "two")
    assert done.stderr.splitlines() == [
        "srun: error: Invalid task id, 1 >= ntasks", "srun: error: Line 1 of configuration file two invalid",
    ]  # fmt: skip


def test_tasks_that_ignore_the_signal_are_killed(slurm: Commands) -> None:
    stubborn = "trap '' TERM; echo $$ > pid; while :; do sleep 0.2; done"
    step = subprocess.Popen(
        [str(slurm.prefix / "srun"), "bash", "-c", stubborn], cwd=slurm.work, env=slurm.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pid = int(wait_until(lambda: (slurm.work / "pid").exists() and (slurm.work / "pid").read_text().strip(), 60, "pid"))
    step.send_signal(signal.SIGTERM)
    assert step.stderr is not None
    assert b"forcing job termination" in step.stderr.readline()
    assert alive(pid)
    step.send_signal(signal.SIGTERM)
    wait_until(lambda: not alive(pid), 60, "第二次就是 SIGKILL")
    step.communicate(timeout=30)
    assert step.returncode == 137


def test_the_warning_reaches_every_task_once_and_not_the_script(slurm: Commands) -> None:
    """--signal=USR1：两个节点上的任务各收到一次；没有处理它的批处理 shell 照常（Slurm 的缺省）。"""
    (slurm.work / "task").write_text(
        "trap 'echo got >> got$SLURM_PROCID' USR1; echo > up$SLURM_PROCID\nwhile [ ! -e go ]; do sleep 0.1; done\n"
    )
    script = "#!/bin/bash\nsrun -N2 -n2 bash task\necho rc $?\n"
    job = slurm.submit("-N2", "-n2", "-t", "1", "--signal=USR1@52", "-o", "out", text=script)
    wait_until(lambda: all((slurm.work / f"got{rank}").exists() for rank in range(2)), 60, "都收到了")
    assert slurm.run("scancel", "--signal=USR1", job).returncode == 0
    wait_until(
        lambda: all((slurm.work / f"got{rank}").read_text() == "got\ngot\n" for rank in range(2)), 30, "各再一次"
    )
    (slurm.work / "go").touch()
    wait_until(lambda: sacct(slurm, job, "state")[0] == "COMPLETED", 60, "脚本照常结束")
    assert (slurm.work / "out").read_text().splitlines()[-1] == "rc 0"
    assert all((slurm.work / f"got{rank}").read_text() == "got\ngot\n" for rank in range(2))


def test_the_owner_of_a_step_does_not_count_as_the_jobs_memory(slurm: Commands) -> None:
    """主人自己有十来兆；--mem=6 的步照样跑得完，超了照样结束。"""
    done = slurm.run("srun", "-n1", "--mem=6", "sh", "-c", "echo fine")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    eat = "b = bytearray(300_000_000); import time; time.sleep(60)"
    assert slurm.run("srun", "-n1", "--mem=100", "python3", "-c", eat).returncode == 137


@pytest.mark.skipif(not HERE, reason="要 xvfb、xauth、x11-utils")
def test_which_nodes_have_the_display(slurm: Commands, tmp_path: Path) -> None:
    show = "echo $SLURMD_NODENAME ${DISPLAY%:*}; xprop -root >/dev/null || echo no display"
    with x_server(tmp_path) as server:
        slurm.environment |= server.environment
        for where, chosen in (("all", "12"), ("first", "1"), ("batch", "1"), ("last", "2")):
            done = slurm.run("srun", "-N2", "-n2", f"--x11={where}", "sh", "-c", show)
            # 别的节点上还是带去的那个 DISPLAY。
            wanted = [f"node{n} localhost" if n in chosen else f"node{n}" for n in "12"]
            assert sorted(done.stdout.splitlines()) == wanted, done.stderr
