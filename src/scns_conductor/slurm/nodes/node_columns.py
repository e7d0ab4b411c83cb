"""sinfo 的列：% 字母与 -O 的名字（sinfo(1)）。一行是一个分区里要显示的东西都相同的几个节点。"""

from collections.abc import Callable, Mapping
from typing import Any

from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.nodes import node_values as of
from scns_conductor.slurm.table.columnar import Row
from scns_conductor.slurm.table.columns import Field, Known
from scns_conductor.slurm.table.times import instant, short_duration

_LAYOUT = ("sockets", "cores_per_socket", "threads_per_core")
# 一行里的节点必须相同的东西：出现了这些字母才按它分组。
GROUPED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
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
    "O": lambda node: node["cpu_load"],
    "e": lambda node: node["free_memory"],
    "H": lambda node: node["reason_time"] or "",
    "u": lambda node: node["reason_user"] or "",
    "U": lambda node: node["reason_user"] or "",
    "d": lambda node: node["temporary_disk"],
    "X": lambda node: node["sockets"],
    "Y": lambda node: node["cores_per_socket"],
    "Z": lambda node: node["threads_per_core"],
    "z": lambda node: tuple(node[name] for name in _LAYOUT),
}
# 写了 --exact 才按它们分组，不然一行里写最小的（4+）或从几到几。
SIZES = frozenset("cmwdOeXYZz")


def _counts(row: Row, names: tuple[str, ...]) -> str:
    groups = {"A": 0, "I": 0, "O": 0}
    for node in row["nodes"]:
        word = of.state_word(node).rstrip(of.SUFFIXES)
        groups["A" if word in ("allocated", "mixed", "draining") else "I" if word in ("idle", "planned") else "O"] += 1
    return "/".join(str(len(row["nodes"]) if name == "T" else groups[name]) for name in names)


def _cpu_counts(row: Row) -> str:
    used = sum(int(node["allocated_cpus"]) for node in row["nodes"])
    total = sum(int(node["cpus"]) for node in row["nodes"])
    away = sum(
        int(node["cpus"]) - int(node["allocated_cpus"]) for node in row["nodes"] if node["drain"] or not of.usable(node)
    )
    return f"{used}/{total - used - away}/{away}/{total}"


def _first(row: Row, read: Callable[[Mapping[str, Any]], str], empty: str = "n/a") -> str:
    return read(row["nodes"][0]) if row["nodes"] else empty


def _span(name: str) -> Callable[[Row], str]:
    return lambda row: of.span([int(node[name]) for node in row["nodes"]]) if row["nodes"] else "0"


def _range(name: str, written: Callable[[Any], str], absent: str) -> Callable[[Row], str]:
    """各节点从几到几，相同的写一个；不知道的是 absent。"""

    def shown(row: Row) -> str:
        found = [node[name] for node in row["nodes"] if node[name] is not None]
        ends = dict.fromkeys(map(written, (min(found), max(found)))) if found else [absent]
        return "-".join(ends) if row["nodes"] else "n/a"

    return shown


def _size(row: Row) -> str:
    low, high = int(row["partition"]["min_nodes"]), row["partition"]["max_nodes"]
    if high is None:
        return f"{low}-infinite"
    return str(low) if low == high else f"{low}-{high}"


def _limit(seconds: float | None) -> str:
    return "infinite" if seconds is None else short_duration(seconds)


def _groups(row: Row) -> str:
    return ",".join(row["partition"].get("allow_accounts") or []) or "all"


_LETTERS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "a": ("AVAIL", lambda row: row["partition"]["state"].lower()),
    "A": ("NODES(A/I)", lambda row: _counts(row, ("A", "I"))),
    "b": ("ACTIVE_FEATURES", lambda row: _first(row, lambda node: ",".join(node["features"]) or "(null)", "(null)")),
    "B": ("MAX_CPUS_PER_NODE", lambda row: str(row["partition"]["max_cpus_per_node"] or "UNLIMITED")),
    "c": ("CPUS", _span("cpus")),
    "C": ("CPUS(A/I/O/T)", _cpu_counts),
    "d": ("TMP_DISK", _span("temporary_disk")),
    "D": ("NODES", lambda row: str(len(row["nodes"]))),
    "e": ("FREE_MEM", _range("free_memory", str, "N/A")),
    "E": ("REASON", lambda row: _first(row, lambda node: node["reason"] or "none", "none")),
    "f": ("AVAIL_FEATURES", lambda row: _first(row, lambda node: ",".join(node["features"]) or "(null)", "(null)")),
    "F": ("NODES(A/I/O/T)", lambda row: _counts(row, ("A", "I", "O", "T"))),
    "g": ("GROUPS", _groups),
    "G": ("GRES", lambda row: _first(row, lambda node: of.gres_text(node["gres"]), "(null)")),
    "h": ("OVERSUBS", lambda row: "EXCLUSIV" if row["partition"]["exclusive"] else row["partition"]["oversubscribe"]),
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
    "O": ("CPU_LOAD", _range("cpu_load", "{:.2f}".format, "0.00")),
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
    "X": ("SOCKETS", _span("sockets")),
    "Y": ("CORES", _span("cores_per_socket")),
    "Z": ("THREADS", _span("threads_per_core")),
    "z": ("S:C:T", lambda row: ":".join(_span(name)(row) for name in _LAYOUT)),
}
LETTERS: Known = {letter: Field(*pair) for letter, pair in _LETTERS.items()}
GROUP_LETTERS = {
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
NAMES: Known = {
    **{name: LETTERS[letter] for name, letter in GROUP_LETTERS.items()},
    "allocmem": Field("ALLOCMEM", _span("allocated_memory")),
    "gresused": Field("GRES_USED", lambda row: _first(row, lambda node: of.gres_text(of.used_gres(node)), "(null)")),
    "comment": Field("COMMENT", lambda _row: "(null)"),
    "extra": Field("EXTRA", lambda _row: "(null)"),
    "oversubscribe": Field("OVERSUBSCRIBE", _LETTERS["h"][1]),
    "port": Field("PORT", lambda _row: "0"),
    "share": Field("OVERSUBSCRIBE", _LETTERS["h"][1]),
    "statecomplete": Field("STATECOMPLETE", lambda row: _first(row, of.complete_state)),
}
