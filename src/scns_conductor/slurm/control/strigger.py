"""strigger：作业结束、将到时限，节点变了时，以定下它的人的身份运行一个程序（strigger(1)）。

程序不在控制器上跑：系统从不以服务的身份执行用户的程序，它是那个人的一个短作业，照常排队。
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from scns_conductor.client import Problem
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.parse.options import Parsed, flags, option, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error
from scns_conductor.slurm.table.job_values import require_own_cluster

# 这里没有的事：没有单独的 slurmdbd，数据库不在时什么也记不下。
_ABSENT = refused(
    flags("--burst_buffer", "-F --fail", "--front_end"),
    flags("-e --primary_slurmctld_acct_buffer_full", "-g --primary_slurmdbd_failure"),
    flags("-G --primary_slurmdbd_resumed_operation", "-h --primary_database_failure"),
    flags("-H --primary_database_resumed_operation"),
)
_EVENTS = ("fini", "time", "down", "up", "drained", "draining", "resume", "idle")
# 集群的事：领导者没了、当选了，运行时的设置改了。候选者不分主备。
_CLUSTER_FLAGS = flags(
    "-a --primary_slurmctld_failure", "-A --primary_slurmctld_resumed_operation", "-r --reconfig",
    "-b --primary_slurmctld_resumed_control", "-B --backup_slurmctld_failure",
    "-c --backup_slurmctld_resumed_operation", "-C --backup_slurmctld_assumed_control",
)  # fmt: skip
_CLUSTER_EVENTS = tuple(each.key for each in _CLUSTER_FLAGS)
OPTIONS = [
    *flags("--set", "--get", "--clear", "-d --down", "-D --drained", "--draining", "-f --fini", "-t --time", "-u --up"),
    *flags("-I --idle", "--resume", "-N --noheader", "-Q --quiet", "-v --verbose", "-V --version", "--help", "--usage"),
    *values("-i --id", "-j --jobid", "-M --clusters --cluster", "-o --offset", "-p --program", "--flags", "--user"),
    option("-n --node", "optional"),
    *_CLUSTER_FLAGS,
    *_ABSENT,
]
# 程序至多跑这么久（分钟），同 Slurm。
_LIMIT = "5"
_HEADER = ("TRIG_ID", "RES_TYPE", "RES_ID", "TYPE", "OFFSET", "USER", "FLAGS", "PROGRAM")


def main(words: list[str]) -> int:
    """定、看、删触发。"""
    parsed = parse_or_exit("strigger", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: strigger [--set | --get | --clear] [OPTIONS]")
        return 0
    require_own_cluster(parsed.last("clusters"))
    chosen = [key for key in ("set", "get", "clear") if key in parsed]
    if len(chosen) != 1:
        raise Fatal("You must use exactly one of the following options: --set, --get or --clear")
    for each in _ABSENT:
        if each.key in parsed:
            raise Fatal(f"--{each.long[0]} is not supported by this system")
    return {"set": _set, "get": _get, "clear": _clear}[chosen[0]](parsed)


def _number(parsed: Parsed, key: str, least: int = 1) -> int | None:
    text = parsed.last(key)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number < 2**63:
        raise Fatal(f"Invalid {key} {text}")
    return number


def _user(parsed: Parsed) -> str | None:
    import pwd

    text = parsed.last("user")
    if text is None or not text.isdigit():
        return text
    try:
        return pwd.getpwuid(int(text)).pw_name
    except (KeyError, OverflowError):
        raise Fatal(f"Invalid user id: {text}") from None


def _set(parsed: Parsed) -> int:
    program, events = parsed.last("program"), [key for key in (*_EVENTS, *_CLUSTER_EVENTS) if key in parsed]
    job_id = parsed.last("jobid")
    node = parsed.last("node") if "node" in parsed else None
    if not program:
        raise Fatal("You must specify a --program value")
    if not os.path.isabs(program):
        raise Fatal('The --program value must start with "/"')
    if len(events) != 1:
        raise Fatal(
            "You must specify a trigger (--block_err, --down, --up, --time or --fini)"
            if not events
            else f"Only one trigger can be set at a time: {', '.join('--' + event for event in events)}"
        )
    if events[0] in ("fini", "time") and job_id is None:
        raise Fatal("You must specify a --jobid value")
    if job_id is not None and "node" in parsed:
        raise Fatal("You can not use both the --node and --jobid options together.")
    words = [word.strip().upper() for word in (parsed.last("flags") or "").split(",") if word.strip()]
    if set(words) - {"PERM"}:
        raise Fatal(f"Invalid flag: {parsed.last('flags')}")
    wanted: dict[str, Any] = {
        "event": events[0],
        "job_id": job_id,
        "nodes": node or None,
        "offset": _number(parsed, "offset", -(2**31)) or 0,
        "permanent": "PERM" in words,
        "program": program,
        "script": f'#!/bin/sh\n# This job was submitted through strigger\nexec {program} "$@"\n',
        "job": {
            "name": "strigger",
            "current_working_directory": "/",
            "standard_output": "/dev/null",
            "standard_error": "/dev/null",
            "time_limit": _LIMIT,
        },
    }
    with connect() as client:
        try:
            trigger_id = client.set_trigger({key: value for key, value in wanted.items() if value is not None})
        except Problem as problem:
            raise Fatal(f"slurm_set_trigger: {slurm_error(problem)}", prefix=None) from problem
    if "verbose" in parsed:
        print(f"strigger: trigger set, id {trigger_id}", file=sys.stderr)
    return 0


def _get(parsed: Parsed) -> int:
    with connect() as client:
        found = client.triggers(_number(parsed, "id"), _number(parsed, "jobid"), _user(parsed))
    events = {key for key in (*_EVENTS, *_CLUSTER_EVENTS) if key in parsed}
    rows = [_row(each) for each in found if not events or each["event"] in events]
    if rows and "noheader" not in parsed:
        _print(_HEADER)
    for row in rows:
        _print(row)
    return 0


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    nodes = each["node_names"]
    resource = str(each["job_id"]) if each["job_id"] is not None else compress(nodes) if nodes else "*"
    kind = "slurmctld" if each["event"] in _CLUSTER_EVENTS else "node" if each["job_id"] is None else "job"
    return (
        str(each["trigger_id"]), kind, resource, each["event"],
        str(each["offset_s"]), each["user_name"], "PERM" if each["permanent"] else "", each["program"],
    )  # fmt: skip


def _print(row: Sequence[str]) -> None:
    widths = (7, 8, 7, 11, 6, 8, 5)
    print(" ".join([*(f"{word:>{width}}" for word, width in zip(row, widths, strict=False)), row[-1]]))


def _clear(parsed: Parsed) -> int:
    trigger_id, job_id, user = _number(parsed, "id"), _number(parsed, "jobid"), _user(parsed)
    if trigger_id is None and job_id is None and user is None:
        raise Fatal("You must specify a --id, --jobid, or --user option with --clear")
    with connect() as client:
        try:
            client.clear_triggers(trigger_id, job_id, user)
        except Problem as problem:
            if problem.code == "trigger_not_found":
                if "quiet" in parsed:
                    return 0
                raise Fatal("slurm_clear_trigger: No such process", prefix=None) from problem
            raise Fatal(f"slurm_clear_trigger: {slurm_error(problem)}", prefix=None) from problem
    return 0
