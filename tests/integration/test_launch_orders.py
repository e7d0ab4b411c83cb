"""提交者说给节点听的选项，看进程得到了什么：--propagate、--get-user-env、--oom-kill-step。"""

import resource
import subprocess
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem

LIMITS = "#!/bin/bash\necho $(ulimit -Sn) $(ulimit -Sc)\nenv | grep -c SLURM_RLIMIT || true\n"
# 核心文件的软上限（KiB）；这里的硬上限也许更低。
_MOST_CORE = resource.getrlimit(resource.RLIMIT_CORE)[1]
CORE = 7 if _MOST_CORE < 0 else min(7, _MOST_CORE // 1024)
# 一个任务的子进程超出内存，被内核杀死；没有 --oom-kill-step 时脚本接着走。
EATER = "python3 -c 'import time; x = bytearray(300 << 20); time.sleep(15)'; sleep 20; echo went on $SLURM_PROCID"


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def limited(slurm: Commands, *words: str, text: str | None = None) -> str:
    """在 ulimit -Sn 321、-Sc CORE 的 shell 里执行，返回标准输出。"""

    def lower() -> None:
        for number, soft in ((resource.RLIMIT_NOFILE, 321), (resource.RLIMIT_CORE, CORE * 1024)):
            resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))

    done = subprocess.run(
        [str(slurm.prefix / words[0]), *words[1:]], input=text, capture_output=True, text=True, cwd=slurm.work,
        env=slurm.environment, timeout=120, check=False, preexec_fn=lower,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_soft_limits_of_the_submitting_shell_reach_the_script_and_the_tasks(slurm: Commands) -> None:
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    expected = {(): f"321 {CORE}\n0\n", ("--propagate=NONE",): None, ("--propagate=CORE",): f"{own} {CORE}\n0\n"}
    for options, shown in expected.items():
        limited(slurm, "sbatch", "--wait", "-o", "limits.txt", *options, text=LIMITS)
        found = (slurm.work / "limits.txt").read_text()
        assert found == shown if shown is not None else found.startswith(f"{own} "), (options, found)
    assert limited(slurm, "srun", "bash", "-c", "ulimit -Sn") == "321\n"
    assert limited(slurm, "srun", "--propagate=CORE", "bash", "-c", "ulimit -Sn; ulimit -Sc") == f"{own}\n{CORE}\n"


def test_get_user_env_and_export_none_load_the_login_environment(slurm: Commands) -> None:
    (slurm.work / ".bash_profile").write_text("echo noise\nexport FROM_LOGIN=yes OWN=login\n")
    home = {"HOME": str(slurm.work), "SHELL": "/bin/bash", "OWN": "submitted"}
    script = "#!/bin/bash\necho $FROM_LOGIN $OWN $SLURM_GET_USER_ENV\n"
    for options, shown in (
        ((), "submitted"),
        (("--get-user-env",), "yes submitted"),
        (("--get-user-env=20L",), "yes submitted"),
    ):
        done = slurm.run("sbatch", "--wait", "-o", "login.txt", *options, text=script, environment=home)
        assert done.returncode == 0, done.stderr
        assert (slurm.work / "login.txt").read_text().strip() == shown, options
    (slurm.work / ".bash_profile").write_text("sleep 100\n")
    slurm.run("sbatch", "--wait", "-o", "slow.txt", "--get-user-env=2", text=script, environment=home)
    told, shown = (slurm.work / "slow.txt").read_text().splitlines()
    assert told.endswith("Unable to get user's local environment, running only with passed environment: timed out")
    assert shown.strip() == "submitted"


def test_out_of_memory_in_one_process_ends_the_whole_step(slurm: Commands) -> None:
    batch = slurm.run(
        "sbatch", "--wait", "--mem=100", "--oom-kill-step", "-o", "oom.txt", text=f"#!/bin/bash\n{EATER}\n"
    )
    assert batch.returncode != 0
    assert "went on" not in (slurm.work / "oom.txt").read_text()
    eats_on_one = f"[ $SLURM_PROCID = 0 ] || {{ sleep 20; echo went on; exit; }}; {EATER}"
    step = slurm.run("srun", "-n2", "--mem=100", "--oom-kill-step", "bash", "-c", eats_on_one)
    assert step.returncode != 0
    assert "went on" not in step.stdout


def test_reserved_ports_belong_to_one_step_at_a_time(slurm: Commands) -> None:
    script = """#!/bin/bash
tell='echo $SLURM_STEP_RESV_PORTS'
srun -n1 --overlap bash -c "$tell; until [ -e go ]; do sleep 0.1; done" > first &
until [ -s first ]; do sleep 0.1; done
srun -n1 --overlap --resv-ports=3 bash -c "$tell" > second
scontrol show step $SLURM_JOB_ID.0 | grep -o 'ResvPorts=[^ ]*' > shown
touch go; wait
srun -n2 -O --overlap --resv-ports=0 bash -c "$tell" > none
"""
    done = slurm.run("sbatch", "--wait", "--resv-ports", "-o", "ports.txt", text=script)
    assert done.returncode == 0, (slurm.work / "ports.txt").read_text()
    first, second, shown, none = (
        (slurm.work / name).read_text().split() for name in ("first", "second", "shown", "none")
    )
    spans = [range(int(low), int(high) + 1) for low, high in (text.split("-") for text in (*first, *second))]
    # 没有写几个的是每节点任务数加一；同时在跑的两步没有一个端口相同。
    assert [len(span) for span in spans] == [2, 3]
    assert not set(spans[0]) & set(spans[1])
    assert shown == [f"ResvPorts={first[0]}"]
    assert none == []
    many = slurm.run("srun", "--resv-ports=9999", "true")
    assert "Invalid number of ports requested" in many.stderr


# salloc(1) 的 OUTPUT ENVIRONMENT VARIABLES 里，这样申请应当有的（作业号、时刻另看）。
MANUAL = """
SLURM_CLUSTER_NAME SLURM_CPUS_PER_TASK SLURM_DISTRIBUTION SLURM_JOB_CPUS_PER_NODE SLURM_JOB_NAME SLURM_JOB_NODELIST
SLURM_JOB_NUM_NODES SLURM_JOB_PARTITION SLURM_MEM_BIND SLURM_MEM_BIND_VERBOSE SLURM_MEM_PER_NODE SLURM_NNODES
SLURM_NODELIST SLURM_NODE_ALIASES SLURM_NTASKS SLURM_NPROCS SLURM_NTASKS_PER_CORE SLURM_NTASKS_PER_NODE SLURM_PROFILE
SLURM_SUBMIT_DIR SLURM_SUBMIT_HOST SLURM_TASKS_PER_NODE SLURM_TRES_PER_TASK
"""
SALLOC_VARIABLES = frozenset(MANUAL.split())


def test_salloc_sets_the_variables_of_the_manual_as_sbatch_does(slurm: Commands) -> None:
    asked = ["-J", "env", "-N1", "--ntasks-per-node=2", "-c1", "-m", "block", "--mem=50", "--mem-bind=local", "-t", "5"]
    asked += ["--ntasks-per-core=2", "--profile=none"]
    done = slurm.run("salloc", *asked, "env")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("SLURM_"))
    batch = slurm.run("sbatch", "--wait", "-o", "env.txt", *asked, "--wrap", "env")
    assert (done.returncode, batch.returncode) == (0, 0), done.stderr + batch.stderr
    shown = (line.split("=", 1) for line in (slurm.work / "env.txt").read_text().splitlines())
    expected = {name: value for name, value in shown if name in SALLOC_VARIABLES}
    assert expected.keys() == SALLOC_VARIABLES
    assert {name: found.get(name) for name in SALLOC_VARIABLES} == expected
    assert int(found["SLURM_JOB_END_TIME"]) - int(found["SLURM_JOB_START_TIME"]) == 300
    assert found["SLURM_JOB_ID"] == found["SLURM_JOBID"]
    assert "SLURM_EXPORT_ENV" not in found
    # 没有说几个任务的不写任务数；每节点几个照 CPU。
    plain = dict(line.split("=", 1) for line in slurm.run("salloc", "-c2", "env").stdout.splitlines() if "=" in line)
    assert (plain["SLURM_TASKS_PER_NODE"], plain["SLURM_CPUS_PER_TASK"]) == ("1", "2")
    assert "SLURM_NTASKS" not in plain
