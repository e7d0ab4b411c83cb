"""作业步怎样摆、带什么环境、写到哪里、怎样结束，对着真的三节点系统；期望的结果与三节点的真的 Slurm 22.05 对照过。"""

import signal
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, wait_until

WHERE = "echo $SLURM_PROCID ${SLURMD_NODENAME#node}"


@pytest.fixture(scope="module")
def cluster(lent_system: RunningSystem) -> RunningSystem:
    """三个节点，各 4 CPU。"""
    return lent_system


@pytest.fixture
def slurm(cluster: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(cluster, tmp_path)


def inside(slurm: Commands, text: str) -> list[str]:
    """在三个节点、每节点 4 CPU 的分配里运行一份脚本，返回它的输出行（含标准错误）。"""
    (slurm.work / "script").write_text(text)
    done = slurm.run("salloc", "-Q", "-N3", "-n6", "-c2", "bash", "-c", "bash script 2>&1")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def places(lines: list[str]) -> str:
    """'0 1' 这样的行 -> 按任务次序的节点号。"""
    return "".join(line.split()[1] for line in sorted(lines, key=lambda line: int(line.split()[0])))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-n4", "1123"),
        ("", "112233"),
        ("-n7 -m cyclic", "1231231"),
        ("-n8 -m plane=2", "11223311"),
        ("-n5 -m pack", "11112"),
        ("-n3 -m arbitrary -w node3,node1,node3", "313"),
        ("-N1-2 -n6", "111222"),
        ("-r1 -N2 -n2", "23"),
        ("-w node3 -N1 -n2", "33"),
        ("-w node3,node1 -n2", "13"),
        ("-x node1 -n2", "23"),
        ("-N2 -n2 -x exclude/file", "12"),
    ],
)
def test_where_the_tasks_of_a_step_go(slurm: Commands, options: str, expected: str) -> None:
    (slurm.work / "exclude").mkdir()
    (slurm.work / "exclude/file").write_text("node3\n")
    assert places(inside(slurm, f"srun -Q {options} sh -c '{WHERE}'")) == expected


def test_a_host_file_names_the_node_of_every_task(slurm: Commands) -> None:
    (slurm.work / "hosts").write_text("node3\nnode1\nnode3\n")
    done = slurm.run("srun", "sh", "-c", WHERE, environment={"SLURM_HOSTFILE": "./hosts"})
    assert places(done.stdout.splitlines()) == "313"
    done = slurm.run("srun", "-n4", "true", environment={"SLURM_HOSTFILE": "./hosts"})
    assert done.stderr.splitlines()[0] == "srun: error: Too few NodeNames in Slurm Hostfile"


def test_a_script_submitted_with_a_host_file_runs_its_steps_there(slurm: Commands) -> None:
    (slurm.work / "hosts").write_text("node3\nnode1\nnode3\n")
    script = f"#!/bin/bash\nsrun sh -c '{WHERE}'\nsrun -Q -n1 sh -c '{WHERE}'\n"
    for more in ([], ["-c2"]):
        words = ("sbatch", "--wait", "-m", "arbitrary", "-o", "placed", *more)
        done = slurm.run(*words, text=script, environment={"SLURM_HOSTFILE": "./hosts"})
        told = (slurm.work / "placed").read_text()
        assert done.returncode == 0, told
        assert (places(told.splitlines()[:3]), told.splitlines()[3:]) == ("313", ["0 3"]), told


def test_what_srun_says_of_nodes_and_words_it_cannot_honour(slurm: Commands) -> None:
    lines = inside(
        slurm,
        "srun -n1 -N2 true\nsrun -r2 -N2 -n2 true\nsrun -N5 true\nsrun -w node1 -r1 true\nsrun -n1 true : -n1 true\n"
        "srun -n1 -w node9 true\nsrun --overlap -n13 true\nsrun --jobid=99999 true\ntrue\n",
    )
    told = iter(lines)
    for expected in (
        "srun: Warning: can't run 1 processes on 2 nodes, setting nnodes to 1",
        "srun: error: --relative and --nodes option incompatible with count of allocated nodes (2+2>3)",
        "srun: error: Only allocated 3 nodes asked for 5",
        "srun: error: -r,--relative not allowed with -w,--nodelist or -x,--exclude.",
        "but the job allocation has maximum value of 0",
        "Requested node configuration is not available",
        "More processors requested than permitted",
        "Unable to confirm allocation for job 99999: Invalid job id specified",
    ):
        assert any(expected in line for line in told), (expected, lines)
    for words, code, expected in (
        (("-r1", "true"), 1, "srun: fatal: --relative option invalid for job allocation request"),
        (("-m", "plane", "true"), 255, "srun: error: Invalid plane size or size not specified"),
        (("-m", "foo", "true"), 255, "srun: error: Invalid --distribution specification"),
        (("--no-such", "true"), 255, "srun: unrecognized option '--no-such'"),
        ((), 1, "srun: fatal: No command given to execute."),
    ):
        done = slurm.run("srun", *words)
        assert (done.returncode, done.stderr.splitlines()[0]) == (code, expected)
    done = slurm.run("srun", "-n0", "true", environment={"SLURM_EXIT_ERROR": "55"})
    assert done.returncode == 55


def test_the_environment_of_a_task_is_that_of_srun(slurm: Commands) -> None:
    text = (
        "#!/bin/bash\nunset GONE\numask 077\nsrun -Q -n1 sh -c 'echo gone=$GONE kept=$KEPT umask=$(umask)'\n"
        "srun -Q -n1 sh -c 'echo cpus=$SLURM_CPUS_PER_TASK on=$SLURM_CPUS_ON_NODE nodes=$SLURM_JOB_NUM_NODES'\n"
        "srun -Q -n1 -c1 -m cyclic sh -c 'echo cpus=$SLURM_CPUS_PER_TASK on=$SLURM_CPUS_ON_NODE $SLURM_DISTRIBUTION'\n"
    )
    slurm.environment |= {"GONE": "1", "KEPT": "2"}
    done = slurm.run("sbatch", "-W", "-N3", "-n6", "-c2", "-o", "out", text=text)
    assert done.returncode == 0, done.stderr
    assert (slurm.work / "out").read_text().splitlines() == [
        "gone= kept=2 umask=0077", "cpus=2 on=4 nodes=3", "cpus=1 on=1 cyclic",
    ]  # fmt: skip
    # --export=ALL 里有的胜过同时写出的值（与 sbatch 相反）。
    done = slurm.run("srun", "--export=ALL,KEPT=9,NEW=3", "sh", "-c", "echo $KEPT $NEW $GONE")
    assert done.stdout == "2 3 1\n"
    assert slurm.run("srun", "--export=NEW=3", "sh", "-c", "echo [$KEPT] $NEW").stdout == "[] 3\n"


def test_outputs_of_one_task_and_programs_that_see_a_terminal(slurm: Commands) -> None:
    both = "echo out$SLURM_PROCID; echo err$SLURM_PROCID >&2"
    done = slurm.run("srun", "-n2", "-o", "1", "sh", "-c", both)
    assert (done.stdout, done.stderr) == ("out1\n", "err1\n")
    done = slurm.run("srun", "-n2", "-e", "1", "sh", "-c", both)
    assert (sorted(done.stdout.split()), done.stderr) == (["out0", "out1"], "err1\n")
    done = slurm.run("srun", "-n2", "-o", "NONE", "sh", "-c", both)
    assert done.stdout == ""
    done = slurm.run("srun", "-n1", "-o", "%x-%a-%s-%3j\\", "-J", "name", "sh", "-c", both)
    assert (slurm.work / "%x-%a-%s-%3j").read_text() == "out0\nerr0\n"
    # -u：程序看到的标准输出是终端，就逐行写；换行还是原样。
    done = slurm.run("srun", "-u", "sh", "-c", "for fd in 0 1 2; do test -t $fd && echo tty $fd; done; true")
    assert done.stdout == "tty 1\n"
    (slurm.work / "here").write_text("#!/bin/sh\necho from here\n")
    (slurm.work / "here").chmod(0o755)
    assert slurm.run("srun", "here").stdout == "from here\n"


# 最短的时限是一分钟。
@pytest.mark.parametrize("by", ["scancel", pytest.param("time limit", marks=pytest.mark.faults)])
def test_an_ended_allocation_gives_its_steps_their_grace(slurm: Commands, by: str) -> None:
    """占位的进程先死：任务仍有 KillWait 来收拾，每个节点上都是；收拾得快的不催慢的。"""
    (slurm.work / "task").write_text(
        "trap 'sleep $((SLURM_PROCID * 2)); touch saved$SLURM_PROCID; exit' TERM; touch up$SLURM_PROCID\n"
        "while :; do sleep 0.1; done\n"
    )
    step = subprocess.Popen(
        [str(slurm.prefix / "srun"), "-N2", "-n2", "-t1", "bash", "task"], cwd=slurm.work, env=slurm.environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: all((slurm.work / f"up{rank}").exists() for rank in range(2)), 60, "任务都在")
    job = slurm.run("squeue", "-ho", "%i").stdout.strip()
    if by == "scancel":
        assert slurm.run("scancel", job).returncode == 0
    told = step.communicate(timeout=100)[1]
    assert step.returncode == 0, told
    assert "CANCELLED AT" in told
    assert all((slurm.work / f"saved{rank}").exists() for rank in range(2))
    ended = "CANCELLED" if by == "scancel" else "TIMEOUT"
    wait_until(lambda: slurm.run("sacct", "-nXP", "-o", "state", "-j", job).stdout == f"{ended}\n", 60, "作业结束")


def test_the_steps_of_a_script_have_their_grace_too(slurm: Commands) -> None:
    """SIGTERM 先杀死脚本的 shell；它的作业步照样有 KillWait，记账已经说取消了。"""
    (slurm.work / "task").write_text(
        "trap 'touch asked$SLURM_PROCID; while [ ! -e go ]; do sleep 0.1; done; touch saved$SLURM_PROCID; exit' TERM\n"
        "touch up$SLURM_PROCID\nwhile :; do sleep 0.1; done\n"
    )
    job = slurm.submit("-N2", "-n2", "-o", "out", text="#!/bin/bash\nsrun bash task\n")
    for name in ("up", "asked"):
        if name == "asked":
            assert slurm.run("scancel", job).returncode == 0
        wait_until(lambda name=name: all((slurm.work / f"{name}{n}").exists() for n in range(2)), 60, name)  # type: ignore[misc]
    assert slurm.run("sacct", "-nXP", "-o", "state", "-j", job).stdout == "CANCELLED\n"
    (slurm.work / "go").touch()
    wait_until(lambda: all((slurm.work / f"saved{rank}").exists() for rank in range(2)), 60, "都收拾好了")
    wait_until(lambda: job not in slurm.run("squeue", "-h", "-t", "R").stdout, 60, "作业结束")


def test_salloc_tells_when_its_allocation_is_gone(slurm: Commands) -> None:
    done = slurm.run("salloc", "-n1", "sh", "-c", "scancel $SLURM_JOB_ID; sleep 5; echo still; exit 3")
    job = done.stderr.split()[4]
    assert (done.returncode, done.stdout) == (3, "still\n")
    assert done.stderr == f"salloc: Granted job allocation {job}\nsalloc: Job allocation {job} has been revoked.\n"
    done = slurm.run(
        "salloc", "-Q", "-KUSR1", "bash", "-c", "trap 'exit 7' USR1; scancel $SLURM_JOB_ID; while :; do sleep 0.1; done"
    )
    assert done.returncode == 7
    for number, code in ((signal.SIGKILL, 0), (signal.SIGTERM, 1)):
        assert slurm.run("salloc", "-Q", "sh", "-c", f"kill -{int(number)} $$").returncode == code
    done = slurm.run("salloc", "-n1", "no-such-command")
    assert (done.returncode, "Unable to find command" in done.stderr) == (1, True)


def test_steps_that_may_not_wait_and_jobs_that_are_only_planned(slurm: Commands) -> None:
    lines = inside(
        slurm,
        "srun -N1 -n1 -w node1 sh -c 'echo > up; while [ ! -e go ]; do sleep 0.1; done' &\n"
        "while [ ! -e up ]; do sleep 0.1; done\n"
        "SLURM_EXIT_IMMEDIATE=44 srun -Q -I1 -N3 true; echo rc $?\ntouch go\nwait\n",
    )
    assert lines[-1] == "rc 44"
    assert any("Requested nodes are busy" in line for line in lines)
    done = slurm.run("srun", "--test-only", "-n2", "touch", "ran")
    assert done.returncode == 0
    assert "srun: Job 0 to start at" in done.stderr
    assert not (slurm.work / "ran").exists()


def test_a_planned_job_behind_one_without_a_limit_starts_in_a_year(slurm: Commands) -> None:
    # 与真的 Slurm 22.05 对照过：不限时的当它运行一年；保留与依赖都不看。
    started, *told = inside(
        slurm,
        "squeue -h -j $SLURM_JOB_ID -o %S\n"
        "for more in '' -H -dafterok:$SLURM_JOB_ID; do sbatch --test-only -n2 $more --wrap true || echo rc $?; done\n"
        "srun --test-only -n3 true\nsbatch --test-only -n99 --wrap true || echo rc $?\n",
    )
    year = (datetime.fromisoformat(started) + timedelta(days=365)).isoformat()
    assert told == [
        *[f"sbatch: Job 0 to start at {year} using 2 processors in partition main"] * 3,
        f"srun: Job 0 to start at {year} using 3 processors in partition main",
        "allocation failure: Requested node configuration is not available",
        "rc 1",
    ]


def test_a_job_waits_a_moment_for_the_folder_of_its_output(slurm: Commands) -> None:
    job = slurm.submit("-o", "later/%j/out", text="#!/bin/sh\necho found\n")
    folder = slurm.work / "later" / job
    folder.mkdir(parents=True)
    wait_until((folder / "out").exists, 60, "目录建好之后启动")
    job = slurm.submit("-o", "never/out", text="#!/bin/sh\ntouch ran\n")
    shown = ("scontrol", "show", "job", job)
    wait_until(lambda: "JobState=FAILED" in slurm.run(*shown).stdout, 60, "一直没有目录的失败")
    assert not (slurm.work / "ran").exists()
