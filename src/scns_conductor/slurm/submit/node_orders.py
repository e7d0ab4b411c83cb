"""说给节点听的选项，写在作业（作业步）的环境里，同 Slurm：资源上限、登录之后的环境、内存超限整步结束。"""

from collections.abc import Mapping

from scns_conductor.core.resource_limits import chosen_names, own_limits
from scns_conductor.slurm.session import Fatal


def limit_variables(given: Mapping[str, str]) -> dict[str, str]:
    """--propagate 点名的软上限；没有写的全部带上，由节点照 PropagateResourceLimits 挑。写错了抛 Fatal。"""
    text = given.get("propagate")
    if text is None:
        return own_limits(None)
    try:
        return own_limits(chosen_names([word for word in text.split(",") if word] or ["ALL"]))
    except ValueError:
        names = (word for word in text.split(",") if not _known(word))
        raise Fatal(f"Bad rlimit name: {next(names)}", f"--propagate={text} is not valid.") from None


def _known(word: str) -> bool:
    try:
        chosen_names([word])
    except ValueError:
        return not word
    return True


def batch_variables(given: Mapping[str, str]) -> dict[str, str]:
    """脚本的：连同 --get-user-env（--export=NONE 也是，sbatch(1)）。"""
    found = limit_variables(given) | step_variables(given)
    wait = given.get("get_user_env")
    if wait is None and given.get("export", "").upper() == "NONE":
        wait = ""
    if wait is not None:
        found["SLURM_GET_USER_ENV"] = f"1{wait}" if not wait[:1].isdigit() else wait
    return found


def oom_variables(given: Mapping[str, str]) -> dict[str, str]:
    """--oom-kill-step[=0|1]。"""
    text = given.get("oom_kill_step")
    return {} if text is None else {"SLURM_OOM_KILL_STEP": text or "1"}


def step_variables(given: Mapping[str, str]) -> dict[str, str]:
    """里面的 srun 照着的：--oom-kill-step、--resv-ports。"""
    found = oom_variables(given)
    if "resv_ports" in given:
        found["SLURM_RESV_PORTS"] = given["resv_ports"] or "auto"
    return found
