"""提交者写在环境里、说给节点听的（同 Slurm）：资源上限、先取登录之后的环境、内存超限整步结束。"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from scns_conductor.core.resource_limits import PREFIX, chosen_names, limits_here
from scns_conductor.worker.agent.core_binding import Locality
from scns_conductor.worker.wire.launch_spec import LoginSpec

# sbatch --get-user-env[=秒][S|L]；1 是没有写秒数。
LOGIN_VARIABLE = "SLURM_GET_USER_ENV"
LOGIN_WAIT_S = 8.0
_LOGIN = re.compile(r"(\d{0,4})([sSlL]?)")
OOM_VARIABLE = "SLURM_OOM_KILL_STEP"
GRES_VARIABLE = "SLURM_GRES_FLAGS"
# --acctg-freq=30、task=30,energy=10；--profile=None。
FREQUENCY_VARIABLE = "SLURM_ACCTG_FREQ"
PROFILE_VARIABLE = "SLURM_PROFILE"
_FREQUENCY = re.compile(r"(?:^|,)(?:task=)?(\d{1,5})(?:,|$)", re.IGNORECASE)
# 节点不采样而作业要（--profile=task）的，多久一次（秒；Slurm 的 JobAcctGatherFrequency）。
PROFILE_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class LaunchOrders:
    """environment 是去掉了这些话的环境。"""

    environment: dict[str, str]
    rlimits: dict[str, list[int]] | None
    login: LoginSpec | None
    oom_kill_step: bool | None


def launch_orders(environment: dict[str, str], propagated: Collection[str], left_out: Collection[str]) -> LaunchOrders:
    """没有点名也照设的上限是 propagated 去掉 left_out（PropagateResourceLimits 与 …Except）。"""
    oom_kill_step = environment.get(OOM_VARIABLE) == "1" or None
    own = {name: text for name, text in environment.items() if name != LOGIN_VARIABLE and not name.startswith(PREFIX)}
    if len(own) == len(environment):
        # 多数（不是 sbatch 提交的）什么也没有写。
        return LaunchOrders(environment, None, None, oom_kill_step)
    limits = limits_here(environment, chosen_names(propagated, left_out))
    return LaunchOrders(own, limits or None, _login(environment), oom_kill_step)


def core_locality(environment: Mapping[str, str]) -> Locality:
    """--gres-flags：作业的核要不要挨着它的卡。"""
    words = environment.get(GRES_VARIABLE, "").lower()
    return "off" if words == "disable-binding" else "only" if words == "enforce-binding" else "prefer"


def sample_interval_s(frequency: str | None, profile: str | None, node_s: float) -> float | None:
    """--acctg-freq、--profile：多久采一次样（秒），0 是不采；没有说、同节点的 node_s 一样的是 None。"""
    if not frequency and not profile:
        return None
    words = (profile or "").lower().split(",")
    if "none" in words:
        return 0.0
    found = _FREQUENCY.search(frequency or "")
    if found is not None:
        return float(found[1])
    return PROFILE_EVERY_S if not node_s and {"all", "task"} & set(words) else None


def _login(environment: Mapping[str, str]) -> LoginSpec | None:
    found = _LOGIN.fullmatch(environment.get(LOGIN_VARIABLE, "0"))
    if found is None or found[0] == "0":
        return None
    seconds = int(found[1] or 1)
    # 底子里的（PATH、LANG……）没有在提交时写的，让位给登录之后的。
    yields = [name for name in ("PATH", "LANG", "HOME", "USER", "LOGNAME", "SHELL") if name not in environment]
    return LoginSpec(
        wait_s=float(seconds) if seconds > 1 else LOGIN_WAIT_S, login=found[2].lower() != "s", yields=yields
    )
