"""提交者说给节点听的选项，看进程得到了什么：--propagate、--get-user-env、--oom-kill-step。"""

import resource
import subprocess
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem

LIMITS = "#!/bin/bash\necho $(ulimit -Sn) $(ulimit -Sc)\nenv | grep -c SLURM_RLIMIT || true\n"
# 一个任务的子进程超出内存，被内核杀死；没有 --oom-kill-step 时脚本接着走。
EATER = "python3 -c 'x = bytearray(300 << 20)'; sleep 20; echo went on $SLURM_PROCID"


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def limited(slurm: Commands, *words: str, text: str | None = None) -> str:
    """在 ulimit -Sn 321、-Sc 7 的 shell 里执行，返回标准输出。"""

    def lower() -> None:
        for number, soft in ((resource.RLIMIT_NOFILE, 321), (resource.RLIMIT_CORE, 7 * 1024)):
            resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))

    done = subprocess.run(
        [str(slurm.prefix / words[0]), *words[1:]], input=text, capture_output=True, text=True, cwd=slurm.work,
        env=slurm.environment, timeout=120, check=False, preexec_fn=lower,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_soft_limits_of_the_submitting_shell_reach_the_script_and_the_tasks(slurm: Commands) -> None:
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    expected = {(): "321 7\n0\n", ("--propagate=NONE",): None, ("--propagate=CORE",): f"{own} 7\n0\n"}
    for options, shown in expected.items():
        limited(slurm, "sbatch", "--wait", "-o", "limits.txt", *options, text=LIMITS)
        found = (slurm.work / "limits.txt").read_text()
        assert found == shown if shown is not None else found.startswith(f"{own} "), (options, found)
    assert limited(slurm, "srun", "bash", "-c", "ulimit -Sn") == "321\n"
    assert limited(slurm, "srun", "--propagate=CORE", "bash", "-c", "ulimit -Sn; ulimit -Sc") == f"{own}\n7\n"


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
