"""slurmrestd 的 job_desc_msg -> 本系统的 job：名字大多相同，差的是数的写法与几个旧名字。"""

import pwd
import re
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.resource_limits import NAMES, asked_limit
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit.batch_options import overcommitted
from scns_conductor.slurm.submit.newer_options import gpu_bound

# 名字不同的。
_RENAMED = {
    "requested_nodes": "required_nodes", "features": "constraints", "reservation_name": "reservation",
    "delay": "begin_time", "begin": "begin_time", "time_minimum": "time_minimum", "switches": "required_switches",
    "signal": "kill_warning_signal", "wait_for_switch": "maximum_switch_wait_time",
    "minimum_sockets_per_node": "sockets_per_node", "ntasks_per_core": "tasks_per_core",
    "ntasks_per_socket": "tasks_per_socket",
}  # fmt: skip
# 只是提示或与这里无关的：收下不用，新版在 warnings 里说。别的不认识的由 JobRequest 点名拒绝。
_HINTS = frozenset(
    {
        "allocation_node_list", "allocation_node_port", "argc", "cpu_binding",
        "cpu_binding_flags", "cpu_binding_hint", "cpu_frequency",
        "delay_boot", "distribution_plane_size", "end_time", "flags", "group_id", "het_group",
        "hetjob_group", "immediate", "job_id", "maximum_cpus", "memory_binding",
        "memory_binding_type", "minimum_boards_per_node", "minimum_sockets_per_board",
        "network", "power_flags",
        "segment_size", "selinux_context", "site_factor", "spank_environment", "step_id",
        "tasks_per_board", "tres_freq", "wait_all_nodes", "x11_magic_cookie", "x11_target_host", "x11_target_port",
    }
)  # fmt: skip
# flags 里有作用的。
_USED_FLAGS = frozenset(
    {
        "KILL_INVALID_DEPENDENCY", "NO_KILL_INVALID_DEPENDENCY", "SPREAD_JOB", "USE_MIN_NODES", "GRES_DISABLE_BIND",
        "GRES_ENFORCE_BIND",
    }
)  # fmt: skip
# 会改变作业的含义、这里做不到的：写了就点名拒绝，同 sbatch 的相应选项。
_REFUSED = frozenset(
    {
        "batch_features", "burst_buffer", "cluster_constraint", "cluster_constraints", "container_id", "cpus_per_tres",
        "crontab", "ntasks_per_tres", "reboot", "tres_per_socket", "x11",
    }
)  # fmt: skip
_DROPPED = frozenset(
    {
        "script", "user_name", "user_id", "clusters", "kill_warning_flags", "shared", "memory_per_tres", "overcommit",
        "tres_bind", "get_user_environment", "oom_kill_step", "rlimits", "account_gather_frequency", "profile",
        "reserve_ports", "resv_mpi_ports",
    }
)  # fmt: skip
_UNREAD = _HINTS | _DROPPED | _REFUSED
# 节点的布局；0 与 Slurm 的 NO_VAL16、INFINITE16 是没有写。
_LAYOUT = frozenset(
    {
        "sockets_per_node", "cores_per_socket", "threads_per_core", "tasks_per_core", "tasks_per_socket",
        "core_specification", "thread_specification",
    }
)  # fmt: skip
_NO_LAYOUT = (0, 0xFFFE, 0xFFFF)
# 秒为单位的 Unix 时刻；0 是没有写。
_INSTANTS = frozenset({"begin_time", "deadline"})
# 等于没有写的值，与 Slurm 的 NO_VAL、NO_VAL16。
_UNSET: tuple[Any, ...] = (None, "", 0, False, [], {}, 0xFFFE, 0xFFFFFFFE)
# 更大的是没有写（NO_VAL16、NO_VAL）。
_MOST_PORTS = 0xFFFD
_GPU = re.compile(r"gres[/:]gpu:(\d+)")
_SIGNAL = re.compile(r"^(B:)?(\w+)(?:@(\d+))?$")
_MAIL = {
    "TIME=100%": "TIME_LIMIT",
    "TIME=90%": "TIME_LIMIT_90",
    "TIME=80%": "TIME_LIMIT_80",
    "TIME=50%": "TIME_LIMIT_50",
    "INVALID_DEPENDENCY": "INVALID_DEPEND",
}


def plain_number(value: Any) -> Any:
    """v0.0.39 的 {"set", "infinite", "number"} -> 数；没有设置是 None，无限是 "UNLIMITED"。"""
    if not isinstance(value, Mapping) or "number" not in value:
        return value
    if value.get("infinite"):
        return "UNLIMITED"
    return value["number"] if value.get("set", True) else None


def require_own_user(given: Mapping[str, Any], user_name: str) -> None:
    """user_id、user_name 只能是令牌里的那个人：替别人提交的作业不能悄悄用自己的身份运行。"""
    for key in ("user_id", "user_name"):
        wanted = str(plain_number(given.get(key)) or "")
        if wanted and wanted not in {user_name, *_own_ids(user_name)}:
            raise InvalidRequest(key, f"令牌是 {user_name} 的，不能替 {wanted[:64]} 提交", code="not_job_owner")


def _own_ids(user_name: str) -> Iterable[str]:
    try:
        return [str(pwd.getpwnam(user_name).pw_uid)]
    except KeyError:
        return []


def unused_hints(given: Mapping[str, Any]) -> list[str]:
    """写了而不起作用的字段；标志都有作用的不算。"""
    written = (key for key, value in given.items() if key in _HINTS and plain_number(value) not in (None, "", []))
    flags = given.get("flags")
    used = isinstance(flags, list) and _USED_FLAGS.issuperset(map(str, flags))
    return sorted(key for key in written if key != "flags" or not used)


def job_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """换好的 job；提示的字段不要，不认识的留给 JobRequest 点名拒绝。"""
    job: dict[str, Any] = {}
    for key, raw in given.items():
        if key in _REFUSED and plain_number(raw) not in _UNSET:
            raise InvalidRequest(key, "这里做不到；请去掉它")
        name = _RENAMED.get(key, key)
        value = plain_number(raw)
        if key in _UNREAD or value is None or value == "" or (name in _INSTANTS and value == 0):
            continue
        if name in _LAYOUT and value in _NO_LAYOUT:
            continue
        job[name] = value
    _lists(job)
    _words(given, job)
    _from_tres(given, job)
    if orders := _orders(given):
        job["environment"] = {**job.get("environment", {}), **orders}
    least = str(job.get("minimum_nodes") or job.get("nodes") or 1).partition("-")[0]
    # 写错了的节点数留给 JobRequest 点名。
    if given.get("overcommit") is True and least.isdecimal():
        overcommitted(job, int(least))
    if "kill_on_node_fail" in job:
        job["no_kill"] = not job.pop("kill_on_node_fail")
    for name in ("time_limit", "time_minimum", "nodes"):
        if isinstance(job.get(name), int) and not isinstance(job[name], bool):
            job[name] = str(job[name])
    if isinstance(job.get("kill_warning_signal"), str):
        match = _SIGNAL.match(job["kill_warning_signal"])
        if match:
            job["kill_warning_signal"] = match[2].upper().removeprefix("SIG")
            job["kill_warning_batch_only"] = bool(match[1]) or bool(job.get("kill_warning_batch_only"))
            if match[3]:
                job["kill_warning_delay"] = int(match[3])
    return job


def _from_tres(given: Mapping[str, Any], job: dict[str, Any]) -> None:
    """按 GPU 计的内存、GPU 的绑定；别的资源没有这些。"""
    memory = _GPU.fullmatch(str(given.get("memory_per_tres") or ""))
    if memory:
        job["memory_per_gpu"] = memory[1]
    elif given.get("memory_per_tres"):
        raise InvalidRequest("memory_per_tres", "只能按 GPU 写，如 gres/gpu:4096（MiB）")
    if given.get("tres_bind"):
        try:
            bind = gpu_bound({"tres_bind": str(given["tres_bind"])})["gpu_bind"]
        except (Fatal, KeyError) as error:
            raise InvalidRequest("tres_bind", "只能绑 GPU，如 gres/gpu:closest") from error
        job["environment"] = {**job.get("environment", {}), "SLURM_GPU_BIND": bind}


def _orders(given: Mapping[str, Any]) -> dict[str, str]:
    """说给节点听的，同 sbatch 写在环境里：rlimits、get_user_environment、oom_kill_step、采样的间隔与种类。"""
    found: dict[str, str] = {}
    profile = given.get("profile")
    words = profile if isinstance(profile, list) else str(profile or "").split(",")
    for name, text in (
        ("SLURM_ACCTG_FREQ", str(given.get("account_gather_frequency") or "")),
        ("SLURM_PROFILE", ",".join(str(word).title() for word in words if str(word).upper() not in ("", "NOT_SET"))),
    ):
        if text:
            found[name] = text
    for name, raw in (given.get("rlimits") or {}).items() if isinstance(given.get("rlimits"), Mapping) else ():
        value = plain_number(raw)
        if name.upper() not in NAMES or (value is not None and value != "UNLIMITED" and not isinstance(value, int)):
            raise InvalidRequest("rlimits", f"不认识的资源上限 {str(name)[:64]!r}，或不是整数；有 {'、'.join(NAMES)}")
        if value is not None:
            found |= asked_limit(name.upper(), -1 if value == "UNLIMITED" else value)
    for flag, word in (("GRES_DISABLE_BIND", "disable-binding"), ("GRES_ENFORCE_BIND", "enforce-binding")):
        if flag in (given.get("flags") or ()):
            found["SLURM_GRES_FLAGS"] = word
    if plain_number(given.get("get_user_environment")) not in _UNSET:
        found["SLURM_GET_USER_ENV"] = "1"
    ports = plain_number(given.get("reserve_ports") or given.get("resv_mpi_ports"))
    if isinstance(ports, int) and 0 < ports <= _MOST_PORTS:
        found["SLURM_RESV_PORTS"] = str(ports)
    oom = plain_number(given.get("oom_kill_step"))
    if oom in (0, 1):
        found["SLURM_OOM_KILL_STEP"] = str(int(oom))
    return found


def _lists(job: dict[str, Any]) -> None:
    """列表换成我们的写法；空的是没有写。"""
    for name in ("environment", "nodes", "excluded_nodes", "required_nodes", "exclusive", "mail_type", "argv"):
        if job.get(name) in ([], {}):
            del job[name]
    if isinstance(job.get("environment"), list):
        pairs = (str(item).partition("=") for item in job["environment"])
        job["environment"] = {name: value for name, _, value in pairs}
    if isinstance(job.get("nodes"), list):
        job["nodes"] = "-".join(str(count) for count in job["nodes"])
    for name in ("excluded_nodes", "required_nodes"):
        if isinstance(job.get(name), list):
            job[name] = ",".join(map(str, job[name]))
    if isinstance(job.get("exclusive"), list):
        words = [str(word).lower() for word in job["exclusive"]]
        scope = next((word for word in words if word in ("user", "mcs")), None)
        job["exclusive"] = scope is None and "false" not in words
        if scope is not None:
            job["exclusive_to"] = scope
    if isinstance(job.get("mail_type"), list):
        job["mail_type"] = [_MAIL.get(str(word).upper(), word) for word in job["mail_type"]]
    if isinstance(job.get("open_mode"), list):
        mode = ",".join(map(str, job.pop("open_mode"))).lower()
        if mode:
            job["open_mode"] = mode


def _words(given: Mapping[str, Any], job: dict[str, Any]) -> None:
    """写在枚举列表里的：shared、flags、kill_warning_flags。"""
    shared = given.get("shared") or ()
    if "oversubscribe" in shared:
        job["oversubscribe"] = True
    elif scope := next((word for word in shared if word in ("user", "mcs")), None):
        job["exclusive_to"] = scope
    elif shared:
        job["exclusive"] = True
    flags = given.get("flags") or ()
    if "KILL_INVALID_DEPENDENCY" in flags or "NO_KILL_INVALID_DEPENDENCY" in flags:
        job["kill_on_invalid_dependency"] = "KILL_INVALID_DEPENDENCY" in flags
    for flag, field in (("SPREAD_JOB", "spread_job"), ("USE_MIN_NODES", "use_min_nodes")):
        if flag in flags:
            job[field] = True
    if "BATCH_JOB" in (given.get("kill_warning_flags") or ()):
        job["kill_warning_batch_only"] = True
