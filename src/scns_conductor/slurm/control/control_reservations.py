"""scontrol 的 reservation：新建、修改、删除、显示（scontrol(1) RESERVATIONS）。"""

import os
import pwd
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from scns_conductor.client import ClientError, JsonClient, Problem
from scns_conductor.core.hostlist import expand
from scns_conductor.core.instants import zoned
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.units import parse_time_limit
from scns_conductor.slurm.nodes.cluster_json import SHOWN_FLAGS
from scns_conductor.slurm.parse.keywords import full_key
from scns_conductor.slurm.session import Fatal, in_english, slurm_error
from scns_conductor.slurm.table.times import duration, epoch, instant

_FIELDS = {
    "starttime": "start_time", "endtime": "end_time", "duration": "duration", "nodes": "nodes", "comment": "comment",
    "partitionname": "partition", "partition": "partition", "licenses": "licenses", "license": "licenses",
}  # fmt: skip
_LISTS = {
    "users": "users", "user": "users", "accounts": "accounts", "account": "accounts", "flags": "flags",
    "groups": "groups", "group": "groups",
}  # fmt: skip
_COUNTS = {"nodecnt": "node_count", "nodecount": "node_count", "corecnt": "core_count", "corecount": "core_count"}
# 缩写按这个次序认（scontrol_parse_res_options）。
_KEYS = (
    "starttime", "endtime", "duration", "flags", "nodecnt", "nodecount", "nodes", "partitionname", "users", "groups",
    "accounts", "corecnt", "corecount", "licenses", "comment", "partition", "user", "account", "license", "tres",
)  # fmt: skip
_NODE_COUNT = re.compile(r"(\d+)(k?)", re.IGNORECASE)
# 显示的次序（Slurm 的 reservation_flags_string）。
_FLAG_ORDER = (
    "MAINT", "OVERLAP", "IGNORE_JOBS", "HOURLY", "DAILY", "WEEKDAY", "WEEKEND", "WEEKLY", "SPEC_NODES", "ALL_NODES",
    "ANY_NODES", "PART_NODES", "FLEX", "MAGNETIC", "REPLACE", "REPLACE_DOWN", "STATIC_ALLOC",
    "TIME_FLOAT", "PURGE_COMP", "NO_HOLD_JOBS_AFTER", "USER_DELETE",
)  # fmt: skip
# 集群自己推出、不能写的标志：写了不算。
_IMPLIED_FLAGS = frozenset({"SPEC_NODES", "ALL_NODES"})


def _values(given: Mapping[str, str], old: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """old 是原来的预留，+= 与 -= 从它改起。"""
    found: dict[str, Any] = {}
    for written, value in given.items():
        name, sign = (written[:-1], written[-1]) if written[-1:] in ("+", "-") else (written, "")
        name = full_key(name, _KEYS) or name
        key = name + sign
        if not sign and key in _FIELDS:
            found[_FIELDS[key]] = value or None
        elif name in _LISTS and not (sign and old is None):
            words = [word for word in value.split(",") if word]
            if name == "flags":
                words = [word.upper() for word in words if word.upper() not in _IMPLIED_FLAGS]
            kept = [] if old is None or not sign else list(old[_LISTS[name]])
            if sign == "-":
                words = [word for word in kept if word not in words]
            found[_LISTS[name]] = list(dict.fromkeys([*kept, *words])) if sign == "+" else words
        elif key in ("corecnt", "corecount") and "," in value:
            found["core_count"] = [_count(word) for word in value.split(",")]
        elif key == "tres":
            found |= _tres(value)
        elif key in _COUNTS:
            found[_COUNTS[key]] = _count(value)
        else:
            raise Fatal(f"Update of this parameter is not supported: {key}={value}", "Request aborted", prefix=None)
    return found


def _count(text: str) -> int:
    count = _NODE_COUNT.fullmatch(text)
    if count is None or int(count[1]) == 0:
        raise Fatal(f"Invalid node count {text}", prefix=None)
    return int(count[1]) * (1024 if count[2] else 1)


def _tres(text: str) -> dict[str, Any]:
    """TRES=cpu=4,node=2,license/matlab=1。"""
    found: dict[str, Any] = {}
    licenses = []
    for word in text.split(","):
        name, _, amount = word.lower().partition("=")
        if name == "cpu":
            found["core_count"] = _count(amount)
        elif name == "node":
            found["node_count"] = _count(amount)
        elif name.startswith("license/"):
            licenses.append(f"{name.removeprefix('license/')}:{_count(amount)}")
        else:
            raise Fatal(f"TRES type '{name}' not supported with reservations", "Request aborted", prefix=None)
    return {**found, "licenses": ",".join(licenses)} if licenses else found


def check_new(values: dict[str, Any]) -> None:
    """时刻换成带时区的；新建的必须写明的，次序与话同 Slurm：开始、结束、给谁、哪些节点。"""
    absent = None
    if "start_time" not in values:
        absent = "A start time must be given"
    elif not values.keys() & {"end_time", "duration"}:
        absent = "An end time or duration must be given"
    elif not values.get("users") and not values.get("accounts") and not values.get("groups"):
        absent = "Either Users/Groups and/or Accounts must be specified"
    elif not values.keys() & {"nodes", "node_count", "core_count", "licenses", "partition"}:
        absent = "CoreCnt, Nodes, NodeCnt, BurstBuffer, Licenses or Watts must be specified"
    for key, name in (("start_time", "start"), ("end_time", "end")):
        try:
            if values.get(key):
                values[key] = zoned(values[key])
        except ValueError:
            print(f"Invalid time specification (pos=0): {values[key]}", file=sys.stderr)
            absent = f"Invalid {name} time {name}time={values[key]}"
    try:
        parse_time_limit(values.get("duration", "1"))
    except ValueError:
        absent = f"Invalid duration duration={values['duration']}"
    if absent:
        raise Fatal(f"{absent}.  No reservation created.")


def _check_users(client: JsonClient, names: Sequence[str]) -> None:
    """本机没有、记账里也没有的用户是写错了：这样的预约谁也用不了，还占着节点。"""
    strangers = [name for name in names if not _is_local(name)]
    known = {row["name"] for row in client.users()} if strangers else set()
    if set(strangers) - known:
        raise Fatal("Error creating the reservation: Invalid user id", prefix=None)


def _is_local(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def create(client: JsonClient, given: dict[str, str]) -> int:
    """没有名字的叫 用户_序号。"""
    written = next((key for key in given if full_key(key, ["reservationname"], least=3)), None)
    name = given.pop(written) if written else None
    values = _values(given)
    check_new(values)
    _check_users(client, values.get("users", ()))
    if name is None:
        owner = (values.get("users") or values.get("accounts") or [os.environ.get("USER") or "root"])[0]
        known = {each["name"] for each in client.reservations()}
        name = next(text for number in range(1, 10_000) if (text := f"{owner}_{number}") not in known)
    _call("Error creating the reservation", lambda: client.create_reservation({"name": name, **values}))
    print(f"Reservation created: {name}")
    return 0


def update(client: JsonClient, name: str, given: dict[str, str]) -> int:
    """修改；只写了时长的，从预约原来的开始算起。"""
    old = next((each for each in client.reservations() if each["name"] == name), None)
    values = _values(given, old)
    for key in ("start_time", "end_time"):
        try:
            if values.get(key):
                values[key] = zoned(values[key])
        except ValueError:
            print(f"Invalid time specification (pos=0): {values[key]}", file=sys.stderr)
            shown = key.removesuffix("_time")
            raise Fatal(f"Invalid {shown} time {shown}time={values[key]}.  No reservation update.") from None
    if values.get("duration") and "start_time" not in values:
        try:
            seconds = parse_time_limit(values["duration"])
        except ValueError:
            raise Fatal(f"Invalid duration duration={values['duration']}.  No reservation update.") from None
        if old is not None and seconds is not None:
            started = datetime.fromisoformat(str(old["start_time"]))
            values["end_time"] = (started + timedelta(seconds=seconds)).isoformat()
            del values["duration"]
    try:
        _call("Error updating the reservation", lambda: client.update_reservation(name, values))
    except Fatal as error:
        told = error.lines[0].partition(": ")[2]
        raise Fatal(*error.lines, f"slurm_update error: {told}", prefix=None) from error
    print("Reservation updated.")
    return 0


def delete(client: JsonClient, name: str, word: str) -> int:
    """删除；word 是命令行上的写法。"""
    _call(f"delete_reservation {word}", lambda: client.delete_reservation(name))
    return 0


def _call(what: str, action: Any) -> None:
    try:
        action()
    except ClientError as error:
        text = slurm_error(error)
        if isinstance(error, Problem) and error.code in ("reservation_nodes_busy", "reservation_too_large"):
            text = "Requested nodes are busy"
        if isinstance(error, Problem) and error.code == "flag_unknown" and what.startswith("Error creating"):
            raise Fatal(f"Error parsing flags: {in_english(error)}.  No reservation created.") from error
        if isinstance(error, Problem) and error.code == "reservation_over":
            text = "Invalid time specified"
        if isinstance(error, Problem) and error.code == "reservation_overlaps":
            text = "Requested reservation overlaps existing reservation"
        raise Fatal(f"{what}: {text}", prefix=None) from error


def lines(reservation: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """scontrol show reservation 的一块。"""
    names = list(expand(reservation["node_list"])) if reservation["node_list"] else []
    kept = reservation["node_cpus"] or {name: int(nodes[name]["cpus"]) for name in names if name in nodes}
    cpus = sum(kept.values())
    cores = sum(count // _threads(nodes.get(name)) for name, count in kept.items())
    seconds = (epoch(reservation["end_time"]) or 0) - (epoch(reservation["start_time"]) or 0)
    words = {flag.partition("=")[0]: flag for flag in reservation["flags"]}
    flags = ",".join(_shown_flag(words[name]) for name in _FLAG_ORDER if name in words)
    return [
        f"ReservationName={reservation['name']} StartTime={instant(reservation['start_time'])}"
        f" EndTime={instant(reservation['end_time'])} Duration={duration(seconds)}",
        f"Nodes={reservation['node_list'] or '(null)'} NodeCnt={len(names)} CoreCnt={cores} Features=(null)"
        f" PartitionName={reservation['partition'] or '(null)'} Flags={flags}",
        *(
            f"  NodeName={name} CoreIDs={_core_ids(nodes.get(name), kept[name])}"
            for name in names
            if reservation["node_cpus"]
        ),
        f"TRES={f'cpu={cpus}' if cpus else '(null)'}",
        f"Users={_list(reservation['users'])} Groups={_list(reservation['groups'])}"
        f" Accounts={_list(reservation['accounts'])}"
        f" Licenses={_licenses(reservation)}"
        f" State={'ACTIVE' if reservation['state'] == 'ACTIVE' else 'INACTIVE'} BurstBuffer=(null) Watts=n/a",
        "MaxStartDelay=(null)",
    ]


def _threads(node: Mapping[str, Any] | None) -> int:
    """一个核算几个 CPU。"""
    if node is None:
        return 1
    threads = int(node["threads_per_core"])
    return threads if int(node["sockets"]) * int(node["cores_per_socket"]) * threads == int(node["cpus"]) else 1


def _core_ids(node: Mapping[str, Any] | None, cpus: int) -> str:
    """留几个核，写成头几个的号；作业落在哪几个核上由节点挑。"""
    cores = cpus // _threads(node)
    return f"0-{cores - 1}" if cores > 1 else "0"


def _shown_flag(flag: str) -> str:
    """TIME_FLOAT 离此刻多久不写（Slurm 也不写）；有的写与显示不同名。"""
    return "TIME_FLOAT" if flag.startswith("TIME_FLOAT=") else SHOWN_FLAGS.get(flag, flag)


def _licenses(reservation: Mapping[str, Any]) -> str:
    return ",".join(f"{name}:{count}" for name, count in parse_licenses(reservation["licenses"])) or "(null)"


def _list(words: list[str]) -> str:
    return ",".join(words) or "(null)"
