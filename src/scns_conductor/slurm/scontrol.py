"""scontrol：查看与控制（scontrol(1)）。"""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from scns_conductor.client import TERMINAL_STATES, Client, ClientError, Problem
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.slurm.entry import VERSION
from scns_conductor.slurm.hosts import split_list
from scns_conductor.slurm.options import Parsed, flags, values
from scns_conductor.slurm.scontrol_show import job_lines, node_lines, partition_lines, render
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error

OPTIONS = [
    *flags("-a --all", "-d --details", "--hide", "-h --help", "-o --oneliner", "-Q --quiet", "-v --verbose"),
    *flags("-V --version", "--local", "-F --future", "--federation"),
    *values("-M --clusters --cluster", "-u --uid"),
]
# update 的键 -> PATCH /jobs 的字段；None 表示另有处理。
_UPDATE_JOB = {
    "account": "account", "arraytaskthrottle": "array_max_tasks", "comment": "comment", "deadline": "deadline",
    "dependency": "dependency", "excnodelist": "excluded_nodes", "features": "constraints", "gres": "gres",
    "jobname": "name", "licenses": "licenses", "minmemorycpu": "memory_per_cpu", "minmemorynode": "memory_per_node",
    "name": "name", "nice": "nice", "nodelist": "required_nodes", "numnodes": "nodes", "numtasks": "tasks",
    "partition": "partition", "priority": "priority", "qos": "qos", "reqnodelist": "required_nodes",
    "reservationname": "reservation", "starttime": "begin_time", "timelimit": "time_limit", "wckey": "wckey",
}  # fmt: skip
_CONTROL = {"hold": "hold", "uhold": "hold", "release": "release", "requeue": "requeue", "suspend": "suspend",
            "resume": "resume"}  # fmt: skip


def main(words: list[str]) -> int:
    """执行一个子命令。"""
    parsed = parse_or_exit("scontrol", words, OPTIONS)
    arguments = parsed.arguments
    if "help" in parsed or not arguments:
        if "help" in parsed:
            print("scontrol [<OPTION>] [<COMMAND>]\n    Valid <COMMAND> values are: see scontrol(1)")
            return 0
        raise Fatal("scontrol without a command (interactive mode) is not supported by this system")
    verb, rest = arguments[0].lower(), arguments[1:]
    if verb in _CONTROL or verb == "requeuehold":
        return _control(verb, rest)
    table: dict[str, Callable[[Sequence[str], Parsed], int]] = {
        "show": _show, "update": _update, "ping": _ping, "wait_job": _wait_job, "write": _write,
        "version": lambda _words, _parsed: print(f"slurm {VERSION}") or 0,
    }  # fmt: skip
    matches = [name for name in table if name.startswith(verb)]
    if len(matches) != 1:
        print(f"invalid keyword: {arguments[0]}", file=sys.stderr)
        return 1
    return table[matches[0]](rest, parsed)


def _show(words: Sequence[str], parsed: Parsed) -> int:
    if not words:
        print("too few arguments for keyword:show", file=sys.stderr)
        return 1
    kind, _, glued = words[0].lower().partition("=")
    name = glued or (words[1] if len(words) > 1 else None)
    if kind.startswith("hostnames"[:9]) or kind == "hostname":
        return _hostnames(name)
    if kind in ("hostlist", "hostlistsorted"):
        hosts = expand(name or "")
        print(compress(sorted(hosts) if kind == "hostlistsorted" else hosts))
        return 0
    one_line = "oneliner" in parsed
    with connect() as client:
        if kind and "jobs".startswith(kind):
            return _show_jobs(client, name, one_line)
        if kind and "nodes".startswith(kind):
            return _show_nodes(client, name, one_line)
        if kind and "partitions".startswith(kind):
            return _show_partitions(client, name, one_line)
        if kind and "config".startswith(kind):
            return _show_config(client)
    if kind in ("reservation", "reservations", "res"):
        print("No reservations in the system")
        return 0
    print(f"invalid entity:{words[0]} for keyword:show ", file=sys.stderr)
    return 1


def _hostnames(text: str | None) -> int:
    listed = text or os.environ.get("SLURM_JOB_NODELIST") or os.environ.get("SLURM_NODELIST")
    if not listed:
        print("host list is empty", file=sys.stderr)
        return 1
    try:
        print("\n".join(expand(listed)))
    except ValueError:
        print(f"Invalid hostlist: {listed}", file=sys.stderr)
        return 1
    return 0


def _found(client: Client, name: str) -> list[dict[str, Any]]:
    try:
        found = list(client.jobs(job_id=name, sort="job_id"))
    except Problem as problem:
        if problem.status not in (404, 422):
            raise
        found = []
    if not found:
        raise Fatal("slurm_load_jobs error: Invalid job id specified", prefix=None)
    return found


def _show_jobs(client: Client, name: str | None, one_line: bool) -> int:
    jobs = _found(client, name) if name else list(client.jobs(state="PENDING,RUNNING,SUSPENDED", sort="job_id"))
    if not jobs:
        print("No jobs in the system")
    for job in jobs:
        print(render(job_lines(job), one_line))
    return 0


def _show_nodes(client: Client, name: str | None, one_line: bool) -> int:
    nodes, partitions = client.nodes(), client.partitions()
    names = expand(name) if name else [node["name"] for node in nodes]
    by_name = {node["name"]: node for node in nodes}
    code = 0
    for each in names:
        if each in by_name:
            print(render(node_lines(by_name[each], partitions), one_line))
        else:
            print(f"Node {each} not found")
            code = 1
    return code


def _show_partitions(client: Client, name: str | None, one_line: bool) -> int:
    nodes, partitions = client.nodes(), client.partitions()
    chosen = [part for part in partitions if name in (None, part["name"])]
    if name and not chosen:
        print(f"Partition {name} not found")
        return 1
    for part in chosen:
        print(render(partition_lines(part, nodes), one_line))
    return 0


def _show_config(client: Client) -> int:
    print(time.strftime("Configuration data as of %Y-%m-%dT%H:%M:%S"))
    host = socket.gethostname()
    pairs = {
        "ClusterName": "scns",
        "MinJobAge": "300 sec",
        "SLURM_VERSION": VERSION,
        "SlurmctldHost[0]": host,
        "SchedulerType": "sched/scns",
        "SelectType": "select/cons_tres",
    }
    for name, value in pairs.items():
        print(f"{name:<23} = {value}")
    up, _ = client.ready()
    print(f"\nSlurmctld(primary) at {host} is {'UP' if up else 'DOWN'}")
    return 0


def _ping(_words: Sequence[str], _parsed: Parsed) -> int:
    host = socket.gethostname()
    try:
        with connect() as client:
            up, _ = client.ready()
    except ClientError:
        up = False
    print(f"Slurmctld(primary) at {host} is {'UP' if up else 'DOWN'}")
    return 0 if up else 1


def _control(verb: str, words: Sequence[str]) -> int:
    if not words:
        print(f"too few arguments for keyword:{verb}", file=sys.stderr)
        return 1
    code = 0
    with connect() as client:
        for word in [each for text in words for each in split_list(text)]:
            job_id = word.partition("=")[2] or word
            try:
                if verb == "requeuehold":
                    client.requeue(job_id)
                    client.hold(job_id)
                else:
                    client.act(job_id, _CONTROL[verb])  # type: ignore[arg-type]
            except Problem as problem:
                print(f"{slurm_error(problem)} for job {word}", file=sys.stderr)
                code = 1
    return code


def _update(words: Sequence[str], _parsed: Parsed) -> int:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            print(f"Invalid input: {word}", file=sys.stderr)
            return 1
        pairs[key.lower().rstrip("+-")] = value
    with connect() as client:
        try:
            if "nodename" in pairs:
                return _update_nodes(client, pairs)
            if "partitionname" in pairs and "jobid" not in pairs and "job" not in pairs:
                return _update_partition(client, pairs)
            if "jobid" in pairs or "job" in pairs:
                return _update_job(client, pairs)
        except Problem as problem:
            print(f"slurm_update error: {slurm_error(problem)}", file=sys.stderr)
            return 1
    print("No valid entity in update command\nInput line must include \"NodeName\", \"JobId\" or \"PartitionName\"",
          file=sys.stderr)  # fmt: skip
    return 1


def _unsupported(key: str) -> int:
    print(f"Update of this parameter is not supported: {key}\nRequest aborted", file=sys.stderr)
    return 1


def _update_job(client: Client, pairs: dict[str, str]) -> int:
    ids = pairs.pop("jobid", None) or pairs.pop("job")
    changes: dict[str, Any] = {}
    for key, value in pairs.items():
        full = [name for name in _UPDATE_JOB if name == key] or [name for name in _UPDATE_JOB if name.startswith(key)]
        if not full:
            return _unsupported(key)
        field = _UPDATE_JOB[full[0]]
        changes[field] = int(value) if value.lstrip("-").isdigit() and field not in ("name", "comment") else value
    for job_id in split_list(ids):
        client.update(job_id, changes)
    return 0


def _update_nodes(client: Client, pairs: dict[str, str]) -> int:
    names = expand(pairs.pop("nodename"))
    changes: dict[str, Any] = {}
    for key, value in pairs.items():
        if key == "state":
            changes["state"] = {"IDLE": "RESUME"}.get(value.upper(), value.upper())
        elif key == "reason":
            changes["reason"] = value
        elif key == "weight" and value.isdigit():
            changes["weight"] = int(value)
        elif key in ("features", "availablefeatures", "activefeatures"):
            changes["features"] = [word for word in value.split(",") if word]
        else:
            return _unsupported(key)
    if changes.get("state") in ("DOWN", "DRAIN") and not changes.get("reason"):
        print(f"You must specify a reason when {changes['state']}ING a node. Request denied", file=sys.stderr)
        return 1
    for name in names:
        client.update_node(name, changes)
    return 0


def _update_partition(client: Client, pairs: dict[str, str]) -> int:
    name = pairs.pop("partitionname")
    if set(pairs) - {"state"}:
        return _unsupported(sorted(set(pairs) - {"state"})[0])
    client.update_partition(name, {"state": pairs["state"].upper()} if pairs else {})
    return 0


def _wait_job(words: Sequence[str], _parsed: Parsed) -> int:
    """等到作业的节点就绪：开始了是 0，没有开始就结束了是 1。"""
    if not words:
        print("too few arguments for keyword:wait_job", file=sys.stderr)
        return 1
    with connect() as client:
        pause_s = 0.05
        while True:
            job = client.job(words[0])
            if job["start_time"] or job["state"] in TERMINAL_STATES:
                return 0 if job["start_time"] else 1
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 1.5)


def _write(words: Sequence[str], _parsed: Parsed) -> int:
    if len(words) < 2 or words[0].lower() not in ("batch_script", "batch"):
        print("invalid arguments for keyword:write", file=sys.stderr)
        return 1
    path = words[2] if len(words) > 2 else f"slurm-{words[1]}.sh"
    with connect() as client:
        text = client.script(words[1])
    if path == "-":
        sys.stdout.write(text)
        return 0
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    print(f"batch script for job {words[1]} written to {path}")
    return 0
