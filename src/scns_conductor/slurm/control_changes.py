"""scontrol update 的 Key=Value -> API 的字段。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.slurm.session import Fatal

_JOB = {
    "account": "account", "admincomment": "admin_comment", "arraytaskthrottle": "array_max_tasks",
    "comment": "comment", "deadline": "deadline", "dependency": "dependency", "starttime": "begin_time",
    "eligibletime": "begin_time", "excnodelist": "excluded_nodes", "extra": "extra", "features": "constraints",
    "gres": "tres_per_node", "jobname": "name", "name": "name", "licenses": "licenses", "mailtype": "mail_type",
    "mailuser": "mail_user", "mincpusnode": "minimum_cpus_per_node", "minmemorycpu": "memory_per_cpu",
    "minmemorynode": "memory_per_node", "nice": "nice", "numnodes": "nodes", "numtasks": "tasks",
    "partition": "partition", "priority": "priority", "qos": "qos", "reqnodelist": "required_nodes",
    "nodelist": "required_nodes", "requeue": "requeue", "reservationname": "reservation", "timelimit": "time_limit",
    "timemin": "time_minimum", "tresperjob": "tres_per_job", "trespernode": "tres_per_node", "wckey": "wckey",
    "numcpus": "tasks", "cpuspertask": "cpus_per_task",
}  # fmt: skip
_PARTITION = {
    "allowaccounts": "allow_accounts", "allowqos": "allow_qos", "denyaccounts": "deny_accounts",
    "default": "is_default", "defaulttime": "default_time", "gracetime": "grace_time", "maxnodes": "max_nodes",
    "maxtime": "max_time", "minnodes": "min_nodes", "nodes": "nodes", "priorityjobfactor": "priority_job_factor",
    "prioritytier": "priority_tier", "state": "state", "preemptmode": "preempt_mode",
    "maxcpuspernode": "max_cpus_per_node", "maxmempernode": "max_memory_per_node",
    "defmempercpu": "default_memory_per_cpu",
}  # fmt: skip
_INTEGERS = frozenset(
    {"array_max_tasks", "minimum_cpus_per_node", "nice", "tasks", "priority", "cpus_per_task", "grace_time",
     "max_nodes", "min_nodes", "priority_job_factor", "priority_tier", "max_cpus_per_node"}
)  # fmt: skip
_LISTS = frozenset({"allow_accounts", "allow_qos", "deny_accounts"})


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Key=Value 的各词；键不分大小写。不是这个形状的抛 Fatal。"""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise Fatal(f"Invalid input: {word}", "Request aborted", prefix=None)
        key = key.lower().removesuffix("+").removesuffix("-")
        found[key] = value
    return found


def job_changes(given: Mapping[str, str]) -> dict[str, Any]:
    """update job 的修改。"""
    return _changes(given, _JOB)


def partition_changes(given: Mapping[str, str]) -> dict[str, Any]:
    """update partition、create partition 的修改。"""
    return _changes(given, _PARTITION)


def _changes(given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, value in given.items():
        matches = [name for name in known if name == key] or [name for name in known if name.startswith(key)]
        if not matches:
            raise Fatal(f"Update of this parameter is not supported: {key}={value}", "Request aborted", prefix=None)
        field = known[matches[0]]
        changes[field] = _converted(field, value)
    return changes


def _converted(field: str, value: str) -> Any:
    if field in ("requeue", "is_default"):
        return value.lower() in ("1", "yes", "true")
    if field in _LISTS:
        return None if value.upper() in ("ALL", "") else value.split(",")
    if field in _INTEGERS:
        if value.upper() in ("UNLIMITED", "INFINITE"):
            return None
        try:
            return int(value)
        except ValueError:
            raise Fatal(f"Invalid {field} value: {value}", "Request aborted", prefix=None) from None
    if field in ("dependency", "constraints", "excluded_nodes", "required_nodes", "licenses") and not value:
        return None
    return value
