"""slurmrestd 的 job_desc_msg -> 本系统的 job：名字大多相同，差的是数的写法与几个旧名字。"""

import re
from collections.abc import Mapping
from typing import Any

# 名字不同的。
_RENAMED = {
    "requested_nodes": "required_nodes", "features": "constraints", "reservation_name": "reservation",
    "delay": "begin_time", "begin": "begin_time", "cpus_per_tres": "", "user_name": "", "user_id": "",
    "group_id": "", "core_specification": "", "thread_specification": "", "get_user_environment": "",
    "het_group": "", "cluster_constraint": "", "cluster_constraints": "", "threads_per_core": "",
    "minimum_sockets_per_node": "", "cores_per_socket": "", "sockets_per_node": "", "ntasks_per_core": "",
    "ntasks_per_socket": "", "no_kill": "", "wait_all_nodes": "", "argc": "", "spank_environment": "",
    "cpu_binding": "", "cpu_binding_hint": "", "memory_binding": "", "cpu_frequency": "", "profile": "",
    "immediate": "", "flags": "", "script": "", "temporary_disk_per_node": "temporary_disk_per_node",
    "minimum_cpus_per_node": "minimum_cpus_per_node", "tres_bind": "", "tres_freq": "", "wckey": "wckey",
    "signal": "kill_warning_signal", "time_minimum": "time_minimum", "switches": "required_switches",
}  # fmt: skip
# 秒为单位的 Unix 时刻；0 是没有写。
_INSTANTS = frozenset({"begin_time", "deadline"})
_SIGNAL = re.compile(r"^(B:)?(\w+)(?:@(\d+))?$")


def plain_number(value: Any) -> Any:
    """v0.0.39 的 {"set", "infinite", "number"} -> 数；没有设置是 None，无限是 "UNLIMITED"。"""
    if not isinstance(value, Mapping) or "number" not in value:
        return value
    if value.get("infinite"):
        return "UNLIMITED"
    return value["number"] if value.get("set", True) else None


def job_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """换好的 job；只是提示的字段不要，不认识的留给 JobRequest 点名拒绝。"""
    job: dict[str, Any] = {}
    for key, raw in given.items():
        name = _RENAMED.get(key, key)
        value = plain_number(raw)
        if not name or value is None or value == "" or (name in _INSTANTS and value == 0):
            continue
        job[name] = value
    if isinstance(job.get("environment"), list):
        pairs = (str(item).partition("=") for item in job["environment"])
        job["environment"] = {name: value for name, _, value in pairs}
    if isinstance(job.get("nodes"), list):
        job["nodes"] = "-".join(str(count) for count in job["nodes"])
    for name in ("time_limit", "time_minimum", "nodes"):
        if isinstance(job.get(name), int):
            job[name] = str(job[name])
    for name in ("excluded_nodes", "required_nodes"):
        if isinstance(job.get(name), list):
            job[name] = ",".join(job[name])
    if isinstance(job.get("exclusive"), list):
        job["exclusive"] = bool(job["exclusive"])
    if isinstance(job.get("kill_warning_signal"), str):
        match = _SIGNAL.match(job["kill_warning_signal"])
        if match:
            job["kill_warning_signal"] = match[2].upper().removeprefix("SIG")
            job["kill_warning_batch_only"] = bool(match[1])
            if match[3]:
                job["kill_warning_delay"] = int(match[3])
    return job
