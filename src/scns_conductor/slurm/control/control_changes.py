"""scontrol update 的 Key=Value -> API 的字段。"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scns_conductor.core.instants import local_now, parse_instant, zoned
from scns_conductor.core.sharing import oversubscribe
from scns_conductor.core.units import parse_duration, parse_memory_mb, parse_time_limit
from scns_conductor.slurm.parse.keywords import full_key
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit.batch_options import whole_minutes
from scns_conductor.slurm.table.times import epoch

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
    "endtime": "end_time", "reqnodes": "required_nodes", "mintmpdisknode": "temporary_disk_per_node",
    "oversubscribe": "oversubscribe", "shared": "oversubscribe", "switches": "required_switches",
    "trespertask": "tres_per_task", "contiguous": "contiguous", "prefer": "prefer",
    "reqsockets": "sockets_per_node", "reqcores": "cores_per_socket", "reqthreads": "threads_per_core",
}  # fmt: skip
_PARTITION = {
    "allowaccounts": "allow_accounts", "allowqos": "allow_qos", "denyaccounts": "deny_accounts",
    "default": "is_default", "defaulttime": "default_time", "gracetime": "grace_time", "maxnodes": "max_nodes",
    "maxtime": "max_time", "minnodes": "min_nodes", "nodes": "nodes", "priorityjobfactor": "priority_job_factor",
    "prioritytier": "priority_tier", "state": "state", "preemptmode": "preempt_mode",
    "maxcpuspernode": "max_cpus_per_node", "maxmempernode": "max_memory_per_node",
    "defmempercpu": "default_memory_per_cpu", "oversubscribe": "sharing", "shared": "sharing",
    "preemptexempttime": "preempt_exempt_time", "suspendtime": "suspend_time", "suspendtimeout": "suspend_timeout",
    "resumetimeout": "resume_timeout",
}  # fmt: skip
# 分区里这里没有、而写的就是缺省值的：等于没有写。
_PARTITION_DEFAULTS = {
    "hidden": "no", "rootonly": "no", "lln": "no", "disablerootjobs": "no", "exclusiveuser": "no", "reqresv": "no",
    "allocnodes": "all", "allowgroups": "all", "overtimelimit": "0",
}  # fmt: skip
_INTEGERS = frozenset(
    {"array_max_tasks", "minimum_cpus_per_node", "nice", "tasks", "priority", "cpus_per_task", "grace_time",
     "max_nodes", "min_nodes", "required_switches", "priority_job_factor", "priority_tier", "max_cpus_per_node"}
)  # fmt: skip
# 秒数；INFINITE（-1）只有 SuspendTime 有，GLOBAL 是按全局设置。
_POWER_TIMES = frozenset({"suspend_time", "suspend_timeout", "resume_timeout"})
_LISTS = frozenset({"allow_accounts", "allow_qos", "deny_accounts"})


class Relative(NamedTuple):
    """要看作业此刻的样子才定得下的时限：比现在多（少）几秒，或到 end_at（Unix 秒）为止。"""

    delta_s: int = 0
    end_at: float | None = None

    def resolved(self, job: Mapping[str, Any]) -> str:
        """换成时限（分钟）；作业没有开始而给了 EndTime 的抛 Fatal。"""
        if self.end_at is not None:
            start = epoch(job["start_time"])
            if start is None:
                raise Fatal("Invalid time specified for job " + str(job["job_id"]), prefix=None)
            seconds = self.end_at - start
        elif job["time_limit"] is None:
            return "UNLIMITED"
        else:
            seconds = float(job["time_limit"]) + self.delta_s
            if seconds < 0:
                raise Fatal(
                    f"TimeLimit decrement larger than current time limit "
                    f"({-self.delta_s // 60} > {int(job['time_limit']) // 60})"
                )
        return str(max(1, round(seconds / 60)))


def _time_limit(value: str) -> Any:
    if value[:1] not in ("+", "-"):
        try:
            return whole_minutes(value)
        except ValueError:
            raise Fatal("Invalid TimeLimit value") from None
    try:
        seconds = parse_time_limit(value[1:])
    except ValueError:
        raise Fatal(f"Invalid TimeLimit value: {value}", "Request aborted", prefix=None) from None
    return Relative(delta_s=int(seconds or 0) * (1 if value[0] == "+" else -1))


def _end_time(value: str) -> Relative:
    try:
        return Relative(end_at=parse_instant(value, local_now()).timestamp())
    except ValueError:
        raise Fatal(f"Invalid time specification (pos=0): {value}", prefix=None) from None


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Key=Value 的各词；键不分大小写，Key+=Value 的键以 + 结尾。不是这个形状的抛 Fatal。"""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key.lower() == "nice" and not equals:
            # 只写 nice 是 100（scontrol(1)）。
            equals, value = "=", "100"
        if not equals:
            raise Fatal(f"Invalid input: {word}", "Request aborted", prefix=None)
        found[key.lower()] = value
    return found


def job_changes(given: Mapping[str, str]) -> dict[str, Any]:
    """update job 的修改。"""
    given = dict(given)
    for key in ("starttime", "eligibletime", "deadline"):
        try:
            if given.get(key):
                given[key] = zoned(given[key])
        except ValueError:
            raise Fatal(
                f"Invalid time specification (pos=0): {given[key]}", "No changes specified", prefix=None
            ) from None
    for key, name in (("minmemorynode", "MinMemoryNode"), ("minmemorycpu", "MinMemoryCPU")):
        try:
            parse_memory_mb(given.get(key) or "1")
        except ValueError:
            raise Fatal(f"Invalid {name} value: {given[key]}") from None
    changes = _changes(given, _JOB)
    # 每节点与每 CPU 的内存只留一种。
    if "memory_per_cpu" in changes:
        changes["memory_per_node"] = None
    elif "memory_per_node" in changes:
        changes["memory_per_cpu"] = None
    return changes


def step_changes(given: Mapping[str, str]) -> dict[str, int | None]:
    """update step 的修改：只有时限（秒；None 是不限），以分钟计。"""
    changes = _changes(given, {"timelimit": "time_limit"})
    limit = changes.get("time_limit")
    if limit is None or isinstance(limit, Relative):
        raise Fatal("No changes specified" if limit is None else "Invalid TimeLimit value", prefix=None)
    return {"time_limit": None if limit == "UNLIMITED" else int(limit) * 60}


def partition_changes(given: Mapping[str, str]) -> dict[str, Any]:
    """update partition、create partition 的修改。"""
    for key in ("maxtime", "defaulttime"):
        try:
            parse_time_limit(given.get(key, "1"))
        except ValueError:
            raise Fatal(f"Invalid input {key}={given[key]}") from None
    if given.get("state", "UP").upper() not in ("UP", "DOWN", "DRAIN", "INACTIVE"):
        raise Fatal(
            f"Invalid input: state={given['state']}", "Acceptable State values are UP, DOWN, DRAIN and INACTIVE"
        )
    meant = {key: value for key, value in given.items() if _PARTITION_DEFAULTS.get(key) != value.lower()}
    return _changes(meant, _PARTITION)


def _changes(given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, value in given.items():
        word = key.rstrip("+-")
        match = full_key(word, known)
        if match and word != key and known[match] == "time_limit" and known is _JOB:
            # TimeLimit+=30 就是 TimeLimit=+30。
            value = key[-1] + value
        elif word != key:
            match = None
        if match is None:
            raise Fatal(f"Update of this parameter is not supported: {key}={value}", "Request aborted", prefix=None)
        field = known[match]
        if field == "sharing":
            changes |= _sharing(value)
        elif field == "end_time":
            changes["time_limit"] = _end_time(value)
        else:
            changes[field] = _converted(field, value)
        if field == "required_switches" and "@" in value:
            with contextlib.suppress(ValueError):
                changes["maximum_switch_wait_time"] = parse_duration(value.partition("@")[2])
    return changes


def _sharing(value: str) -> dict[str, Any]:
    """分区的 OverSubscribe：独占是一列，几个作业轮流用 CPU 是另一列。"""
    if value.upper() == "EXCLUSIVE":
        return {"exclusive": True, "oversubscribe": "NO"}
    try:
        return {"exclusive": False, "oversubscribe": oversubscribe(value)}
    except ValueError:
        raise Fatal(f"Invalid OverSubscribe value: {value}", "Request aborted", prefix=None) from None


def _preempt_mode(value: str) -> str:
    """分区的 PreemptMode：GANG 是全系统的设置（preempt_gang），这里只看另一样；只写它是 OFF，同 Slurm。"""
    modes = set(value.lower().split(",")) - {"gang"}
    if len(modes) > 1 or not modes <= {"off", "cancel", "requeue", "suspend"}:
        raise Fatal(f"Invalid input: PreemptMode={value}", "Request aborted", prefix=None)
    return next(iter(modes), "off")


def _power_time(field: str, value: str) -> int | None:
    """分区的节能的时间；写错了抛 Fatal。"""
    word = value.upper()
    if word in ("GLOBAL", ""):
        return None
    if field == "suspend_time" and word in ("INFINITE", "UNLIMITED", "-1"):
        return -1
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise Fatal(f"Invalid {field.replace('_', ' ')} value: {value}", "Request aborted", prefix=None)
    return int(word)


def _converted(field: str, value: str) -> Any:
    if field == "time_limit":
        return _time_limit(value)
    if field == "preempt_mode":
        return _preempt_mode(value)
    if field == "preempt_exempt_time":
        try:
            return None if value.upper() in ("UNLIMITED", "NONE", "INFINITE", "-1") else parse_duration(value)
        except ValueError:
            raise Fatal(f"Invalid PreemptExemptTime value: {value}", "Request aborted", prefix=None) from None
    if field in _POWER_TIMES:
        return _power_time(field, value)
    if field == "required_switches":
        value = value.partition("@")[0]
    if field in ("requeue", "is_default", "oversubscribe", "contiguous"):
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
