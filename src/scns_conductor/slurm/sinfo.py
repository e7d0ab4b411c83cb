"""sinfo：分区与节点（sinfo(1)）。"""

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from scns_conductor.core.hostlist import compress, expand
from scns_conductor.slurm import node_values as of
from scns_conductor.slurm.columns import Column, Row, fields, letters, table
from scns_conductor.slurm.options import Parsed, flags, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.times import duration, epoch, instant, short_duration

OPTIONS = [
    *flags("-a --all", "-d --dead", "-e --exact", "--future", "-h --noheader", "--hide", "-l --long", "--local"),
    *flags("-N --Node", "-r --responding", "-R --list-reasons", "-s --summarize", "-T --reservation", "-v --verbose"),
    *flags("-V --version", "--help", "--usage", "--federation", "--noconvert"),
    *values("-i --iterate", "-M --clusters --cluster", "-n --nodes", "-o --format", "-O --Format"),
    *values("-p --partition", "-S --sort", "-t --states --state"),
    option("--json", "optional"),
]
_FORMATS = {
    "": "%#P %.5a %.10l %.6D %.6t %N",
    "long": "%#P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N",
    "summarize": "%#P %.5a %.10l %.16F %N",
    "Node": "%#N %.6D %.#P %6t",
    "Node long": "%#N %.6D %#P %.11T %.4c %.8z %.6m %.8d %.6w %.8f %20E",
    "list_reasons": "%20E %9u %19H %N",
    "list_reasons long": "%20E %12U %19H %6t %N",
}
# 一行里的节点必须相同的东西：出现了这些字母才按它分组。
_GROUPED = {
    "t": of.short_state,
    "T": of.state_word,
    "c": lambda node: node["cpus"],
    "m": lambda node: node["memory"],
    "f": lambda node: ",".join(node["features"]),
    "b": lambda node: ",".join(node["features"]),
    "G": lambda node: of.gres_text(node["gres"]),
    "E": lambda node: node["reason"] or "",
    "w": lambda node: node["weight"],
    "n": lambda node: node["name"],
    "o": lambda node: node["name"],
    "O": lambda node: node["name"],
    "e": lambda node: node["name"],
    "H": lambda node: node["reason_time"] or "",
    "u": lambda node: node["reason_user"] or "",
    "U": lambda node: node["reason_user"] or "",
    "d": lambda node: node["temporary_disk"],
    "C": None,
    "F": None,
    "A": None,
}


def _counts(row: Row, names: tuple[str, ...]) -> str:
    groups = {"A": 0, "I": 0, "O": 0}
    for node in row["nodes"]:
        word = of.state_word(node)
        groups["A" if word in ("allocated", "mixed", "draining") else "I" if word == "idle" else "O"] += 1
    return "/".join(str(len(row["nodes"]) if name == "T" else groups[name]) for name in names)


def _cpu_counts(row: Row) -> str:
    used = sum(int(node["allocated_cpus"]) for node in row["nodes"])
    total = sum(int(node["cpus"]) for node in row["nodes"])
    away = sum(
        int(node["cpus"]) - int(node["allocated_cpus"])
        for node in row["nodes"]
        if node["drain"] or node["availability"] != "UP"
    )
    return f"{used}/{total - used - away}/{away}/{total}"


def _first(row: Row, read: Callable[[Mapping[str, Any]], str], empty: str = "n/a") -> str:
    return read(row["nodes"][0]) if row["nodes"] else empty


def _span(name: str) -> Callable[[Row], str]:
    return lambda row: of.span([int(node[name]) for node in row["nodes"]]) if row["nodes"] else "0"


def _size(row: Row) -> str:
    low, high = int(row["partition"]["min_nodes"]), row["partition"]["max_nodes"]
    if high is None:
        return f"{low}-infinite"
    return str(low) if low == high else f"{low}-{high}"


def _limit(seconds: float | None) -> str:
    return "infinite" if seconds is None else short_duration(seconds)


def _groups(row: Row) -> str:
    return ",".join(row["partition"].get("allow_accounts") or []) or "all"


Field = tuple[str, Callable[[Row], str]]
LETTERS: Mapping[str, Field] = {
    "a": ("AVAIL", lambda row: row["partition"]["state"].lower()[:5]),
    "A": ("NODES(A/I)", lambda row: _counts(row, ("A", "I"))),
    "b": ("ACTIVE_FEATURES", lambda row: _first(row, lambda node: ",".join(node["features"]) or "(null)", "(null)")),
    "B": ("MAX_CPUS_PER_NODE", lambda row: str(row["partition"]["max_cpus_per_node"] or "UNLIMITED")),
    "c": ("CPUS", _span("cpus")),
    "C": ("CPUS(A/I/O/T)", _cpu_counts),
    "d": ("TMP_DISK", _span("temporary_disk")),
    "D": ("NODES", lambda row: str(len(row["nodes"]))),
    "e": (
        "FREE_MEM",
        lambda row: _first(row, lambda node: str(node["free_memory"] if node["free_memory"] is not None else "N/A")),
    ),
    "E": ("REASON", lambda row: _first(row, lambda node: node["reason"] or "none", "none")),
    "f": ("AVAIL_FEATURES", lambda row: _first(row, lambda node: ",".join(node["features"]) or "(null)", "(null)")),
    "F": ("NODES(A/I/O/T)", lambda row: _counts(row, ("A", "I", "O", "T"))),
    "g": ("GROUPS", _groups),
    "G": ("GRES", lambda row: _first(row, lambda node: of.gres_text(node["gres"]), "(null)")),
    "h": ("OVERSUBS", lambda row: "EXCLUSIV" if row["partition"]["exclusive"] else "NO"),
    "H": ("TIMESTAMP", lambda row: _first(row, lambda node: instant(node["reason_time"], "Unknown"), "Unknown")),
    "I": ("PRIO_JOB_FACTOR", lambda row: str(row["partition"]["priority_job_factor"])),
    "l": ("TIMELIMIT", lambda row: _limit(row["partition"]["max_time"])),
    "L": (
        "DEFAULTTIME",
        lambda row: _limit(row["partition"]["default_time"]) if row["partition"]["default_time"] else "n/a",
    ),
    "m": ("MEMORY", _span("memory")),
    "M": ("PREEMPT_MODE", lambda row: (row["partition"]["preempt_mode"] or "off").upper()),
    "n": ("HOSTNAMES", lambda row: _first(row, lambda node: node["name"], "")),
    "N": ("NODELIST", lambda row: compress(node["name"] for node in row["nodes"])),
    "o": ("NODE_ADDR", lambda row: _first(row, lambda node: node["address"], "")),
    "O": ("CPU_LOAD", lambda row: _first(row, lambda node: f"{node['cpu_load'] or 0:.2f}")),
    "p": ("PRIO_TIER", lambda row: str(row["partition"]["priority_tier"])),
    "P": ("PARTITION", lambda row: row["partition"]["name"] + ("*" if row["partition"]["is_default"] else "")),
    "r": ("ROOT", lambda _row: "no"),
    "R": ("PARTITION", lambda row: row["partition"]["name"]),
    "s": ("JOB_SIZE", _size),
    "S": ("ALLOCNODES", lambda _row: "all"),
    "t": ("STATE", lambda row: _first(row, of.short_state)),
    "T": ("STATE", lambda row: _first(row, of.state_word)),
    "u": ("USER", lambda row: _first(row, lambda node: node["reason_user"] or "Unknown", "Unknown")),
    "U": ("USER", lambda row: _first(row, lambda node: node["reason_user"] or "Unknown", "Unknown")),
    "v": ("VERSION", lambda row: _first(row, lambda node: node["agent_version"] or "unknown", "")),
    "V": ("CLUSTER", lambda _row: "N/A"),
    "w": ("WEIGHT", _span("weight")),
    "X": ("SOCKETS", lambda row: "1" if row["nodes"] else "0"),
    "Y": ("CORES", _span("cpus")),
    "Z": ("THREADS", lambda row: "1" if row["nodes"] else "0"),
    "z": ("S:C:T", lambda row: f"1:{_span('cpus')(row)}:1"),
}
_NAMES = {
    "available": "a",
    "cluster": "V",
    "cpus": "c",
    "cpusload": "O",
    "cpusstate": "C",
    "cores": "Y",
    "defaulttime": "L",
    "disk": "d",
    "features": "f",
    "features_act": "b",
    "freemem": "e",
    "gres": "G",
    "groups": "g",
    "maxcpuspernode": "B",
    "memory": "m",
    "nodeaddr": "o",
    "nodeai": "A",
    "nodeaiot": "F",
    "nodehost": "n",
    "nodelist": "N",
    "nodes": "D",
    "oversubscribe": "h",
    "partition": "P",
    "partitionname": "R",
    "preemptmode": "M",
    "priorityjobfactor": "I",
    "prioritytier": "p",
    "reason": "E",
    "root": "r",
    "size": "s",
    "statecompact": "t",
    "statelong": "T",
    "state": "T",
    "sockets": "X",
    "socketcorethread": "z",
    "time": "l",
    "timestamp": "H",
    "threads": "Z",
    "user": "u",
    "userlong": "U",
    "version": "v",
    "weight": "w",
    "allocnodes": "S",
}
NAMES: Mapping[str, Field] = {
    **{name: LETTERS[letter] for name, letter in _NAMES.items()},
    "allocmem": ("ALLOCMEM", _span("allocated_memory")),
    "gresused": ("GRES_USED", lambda row: _first(row, lambda node: of.gres_text(node["allocated_gres"]), "(null)")),
    "comment": ("COMMENT", lambda _row: "(null)"),
}


def _reservation_lines(reservations: list[dict[str, Any]]) -> list[str]:
    """-T。"""
    if not reservations:
        return ["No reservations in the system"]
    width = max(10, *(len(each["name"]) for each in reservations))
    lines = [f"{'RESV_NAME':<{width}} {'STATE':>8} {'START_TIME':>19} {'END_TIME':>19} {'DURATION':>11}  NODELIST"]
    for each in reservations:
        seconds = (epoch(each["end_time"]) or 0) - (epoch(each["start_time"]) or 0)
        lines.append(
            f"{each['name']:<{width}} {each['state']:>8} {instant(each['start_time'])} {instant(each['end_time'])} "
            f"{duration(seconds):>11}  {each['nodes']}"
        )
    return lines


def main(words: list[str]) -> int:
    """列出分区与节点。"""
    parsed = parse_or_exit("sinfo", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sinfo [-abdelNRrsTv] [-i seconds] [-t states] [-p partition] [-n nodes] ...")
        return 0
    for key in ("clusters", "iterate"):
        if key in parsed:
            raise Fatal(f"--{key} is not supported by this system")
    if parsed.arguments:
        raise Fatal(f"Unrecognized option: {parsed.arguments[0]}")
    with connect() as client:
        nodes, partitions = client.nodes(), client.partitions()
        reservations = client.reservations() if "reservation" in parsed else []
    if "reservation" in parsed:
        print("\n".join(_reservation_lines([each for each in reservations if each["state"] != "ENDED"])))
        return 0
    nodes = _chosen(nodes, parsed)
    wanted = parsed.last("partition") or os.environ.get("SINFO_PARTITION")
    if wanted:
        partitions = [each for each in partitions if each["name"] in wanted.split(",")]
    if "json" in parsed:
        print(json.dumps({"meta": {}, "errors": [], "nodes": nodes, "partitions": partitions}, indent=2, default=str))
        return 0
    columns, form = _columns(parsed)
    by_node = "Node" in parsed
    rows = _rows(partitions, nodes, form, by_node, filtered="states" in parsed or "nodes" in parsed)
    if "list_reasons" in parsed:
        rows = [row for row in rows if row["nodes"] and row["nodes"][0]["reason"]]
        rows = list({tuple(node["name"] for node in row["nodes"]): row for row in rows}.values())
    if "long" in parsed:
        print(time.strftime("%a %b %d %H:%M:%S %Y"))
    for line in table(columns, rows, header="noheader" not in parsed):
        print(line)
    return 0


def _columns(parsed: Parsed) -> tuple[list[Column], str]:
    if parsed.last("Format"):
        text = parsed.last("Format") or ""
        known = "".join(_NAMES.get(word.partition(":")[0].strip().lower(), "") for word in text.split(","))
        return fields(text, NAMES), "".join(f"%{letter}" for letter in known)
    kind = next((key for key in ("list_reasons", "Node", "summarize") if key in parsed), "")
    name = f"{kind} long".strip() if "long" in parsed else kind
    form = (
        parsed.last("format")
        or (None if name else os.environ.get("SINFO_FORMAT"))
        or _FORMATS.get(name, _FORMATS[kind])
    )
    return letters("sinfo", form, LETTERS), form


def _chosen(nodes: list[dict[str, Any]], parsed: Parsed) -> list[dict[str, Any]]:
    if parsed.last("nodes"):
        try:
            names = set(expand(parsed.last("nodes") or ""))
        except ValueError:
            raise Fatal(f"Invalid node list specified: {parsed.last('nodes')}") from None
        nodes = [node for node in nodes if node["name"] in names]
    if parsed.last("states"):
        words = {word.strip().lower() for word in (parsed.last("states") or "").split(",")}
        known = {
            "alloc",
            "allocated",
            "mix",
            "mixed",
            "idle",
            "down",
            "drain",
            "drained",
            "drng",
            "draining",
            "unk",
            "unknown",
            "all",
            "fail",
            "failing",
            "maint",
            "resv",
            "reserved",
            "comp",
            "completing",
            "future",
            "planned",
            "plnd",
            "power_down",
            "power_up",
            "no_respond",
            "npc",
            "perfctrs",
            "err",
            "error",
            "cloud",
            "blocked",
            "reboot",
        }
        for word in sorted(words - known):
            raise Fatal(f'Bad state string: "{word}"')
        if "all" not in words:
            nodes = [node for node in nodes if _in_state(node, words)]
    if "dead" in parsed:
        nodes = [node for node in nodes if node["availability"] != "UP"]
    if "responding" in parsed:
        nodes = [node for node in nodes if node["availability"] == "UP"]
    return nodes


def _in_state(node: dict[str, Any], words: set[str]) -> bool:
    names = {of.state_word(node).rstrip("*"), of.short_state(node).rstrip("*")}
    if node["drain"]:
        names |= {"drain"}
    return bool(names & words)


def _rows(
    partitions: list[dict[str, Any]], nodes: list[dict[str, Any]], form: str, by_node: bool, *, filtered: bool
) -> list[dict[str, Any]]:
    """每个分区里，要显示的东西都相同的节点合成一行。"""
    used = [letter for letter, read in _GROUPED.items() if read is not None and _uses(form, letter)]
    shows_partition = any(_uses(form, letter) for letter in "PRalLsghpMIBS")
    rows: list[dict[str, Any]] = []
    for partition in partitions:
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for node in of.partition_nodes(partition, nodes):
            key = tuple(_GROUPED[letter](node) for letter in used)  # type: ignore[misc]
            groups.setdefault((*key, node["name"]) if by_node else key, []).append(node)
        if not groups and not filtered:
            groups[()] = []
        rows += [{"partition": partition, "nodes": members} for members in groups.values()]
    if by_node:
        rows.sort(key=lambda row: row["nodes"][0]["name"] if row["nodes"] else "")
    elif not shows_partition:
        merged: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            key = tuple(_GROUPED[letter](row["nodes"][0]) if row["nodes"] else "" for letter in used)  # type: ignore[misc]
            known = merged.setdefault(key, {"partition": row["partition"], "nodes": []})
            names = {node["name"] for node in known["nodes"]}
            known["nodes"] += [node for node in row["nodes"] if node["name"] not in names]
        rows = list(merged.values())
    return rows


def _uses(form: str, letter: str) -> bool:
    from scns_conductor.slurm.columns import used_letters

    return letter in used_letters(form)
