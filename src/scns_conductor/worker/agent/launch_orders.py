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
