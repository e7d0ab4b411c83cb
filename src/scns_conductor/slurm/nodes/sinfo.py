"""sinfo：分区与节点（sinfo(1)）。"""

import os
import sys
import time
from typing import Any

from scns_conductor.client import JsonClient
from scns_conductor.core.hostlist import expand
from scns_conductor.slurm.nodes import node_values as of
from scns_conductor.slurm.nodes.node_columns import GROUP_LETTERS, GROUPED, LETTERS, NAMES, SIZES
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.table.columns import Column, fields, letters, table, used_letters
from scns_conductor.slurm.table.job_values import require_own_cluster
from scns_conductor.slurm.table.times import duration, epoch, instant

OPTIONS = [
    *flags("-d --dead", "-h --noheader", "-l --long"),
    *flags("-N --Node", "-r --responding", "-R --list-reasons", "-s --summarize", "-T --reservation"),
    *flags("-V --version", "--help", "--usage", "--helpFormat", "--helpstate"),
    *flags("-e --exact", "-v --verbose"),
    *hints(flags("-a --all", "-F --future", "--hide", "--local", "--federation")),
    *hints(flags("--noconvert")),
    *values("-i --iterate", "-M --clusters --cluster", "-n --nodes", "-o --format", "-O --Format"),
    *values("-p --partition", "-S --sort", "-t --states --state"),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
# 次序与用词同 Slurm 的提示。
_VALID_STATES = (
    "unknown,down,idle,allocated,?,mixed,future,drain,drained,draining,no_respond,reserved,perfctrs,cloud,completing,"
    "powering_down,powered_down,power_down,powering_up,fail,maint,reboot,reboot^,unknown"
)
_FORMATS = {
    "": "%#P %.5a %.10l %.6D %.6t %N",
    "long": "%#P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N",
    "summarize": "%#P %.5a %.10l %.16F %N",
    "Node": "%#N %.6D %.#P %6t",
    "Node long": "%#N %.6D %.#P %.11T %4c %.8z %.6m %.8d %.6w %.8f %20E",
    "list_reasons": "%20E %9u %19H %N",
    "list_reasons long": "%20E %12U %19H %6t %N",
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
            f"{duration(seconds):>11}  {each['node_list']}"
        )
    return lines


def main(words: list[str]) -> int:
    """列出分区与节点。"""
    parsed = parse_or_exit("sinfo", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sinfo [-abdelNRrsTv] [-i seconds] [-t states] [-p partition] [-n nodes] ...")
        return 0
    if "helpFormat" in parsed or "helpstate" in parsed:
        print(_VALID_STATES.replace(",", " ") if "helpstate" in parsed else " ".join(sorted(NAMES)))
        return 0
    require_own_cluster(parsed.last("clusters"))
    period = parsed.last("iterate")
    if period is not None and (not period.isdigit() or int(period) < 1):
        raise Fatal(f"Error: invalid entry for --iterate={period}")
    with connect() as client:
        while True:
            _once(client, parsed)
            if period is None:
                return 0
            sys.stdout.flush()
            time.sleep(float(period))
            print()


def _once(client: JsonClient, parsed: Parsed) -> None:
    if "reservation" in parsed:
        print("\n".join(_reservation_lines([each for each in client.reservations() if each["state"] != "ENDED"])))
        return
    everything, partitions = client.nodes(), client.partitions()
    nodes = _chosen(everything, parsed)
    wanted = parsed.last("partition", os.environ.get("SINFO_PARTITION"))
    if wanted is not None:
        partitions = [each for each in partitions if each["name"] in wanted.split(",")]
    if "json" in parsed or "yaml" in parsed:
        _write_json(parsed, everything, nodes, partitions)
        return
    columns, form = _columns(parsed)
    by_node = "Node" in parsed
    rows = node_rows(partitions, nodes, form, by_node=by_node, exact="exact" in parsed)
    if "list_reasons" in parsed:
        rows = [row for row in rows if row["nodes"] and row["nodes"][0]["reason"]]
        rows = list({tuple(node["name"] for node in row["nodes"]): row for row in rows}.values())
    _sort(rows, parsed.last("sort") or os.environ.get("SINFO_SORT") or "")
    if "noheader" not in parsed and ("long" in parsed or "iterate" in parsed):
        print(time.strftime("%a %b %d %H:%M:%S %Y"))
    for line in table(columns, rows, header="noheader" not in parsed):
        print(line)


def _write_json(
    parsed: Parsed, everything: list[dict[str, Any]], nodes: list[dict[str, Any]], partitions: list[dict[str, Any]]
) -> None:
    """旧版是一个节点一条，23.11（v0.0.40）起是表里的一行一条（缺省按节点，-s 按分区）。"""
    from scns_conductor.slurm.shapes.envelope import OLD_VERSIONS
    from scns_conductor.slurm.shapes.nodes import node_record
    from scns_conductor.slurm.shapes.sinfo import sinfo_record
    from scns_conductor.slurm.table.json_answer import asked_version, write_answer

    version = asked_version(parsed)
    members = {each["name"]: of.partition_nodes(each, everything) for each in partitions}
    if version in OLD_VERSIONS:
        inside = {node["name"]: [name for name, found in members.items() if node in found] for node in nodes}
        records = [node_record(version, node, inside[node["name"]]) for node in nodes]
        write_answer(parsed, "openapi_nodes_resp", "nodes", records)
        return
    by_name = {each["name"]: each for each in partitions}
    rows = []
    for name, found in members.items():
        chosen = [node for node in nodes if node in found]
        groups = [chosen] if "summarize" in parsed else [[node] for node in chosen]
        rows += [sinfo_record(version, by_name[name], group, found) for group in groups]
    write_answer(parsed, "openapi_sinfo_resp", "sinfo", rows)


def _sort(rows: list[dict[str, Any]], order: str) -> None:
    """-S 的各个字母，前面的为主；不写时是分区的次序（-N 是节点名）。"""
    for word in reversed([word for word in order.split(",") if word]):
        letter = word.lstrip("+-#")
        if letter not in LETTERS:
            raise Fatal(f"Invalid sort specification: {letter}")
        rows.sort(key=LETTERS[letter].value, reverse=word.startswith("-"))


def _columns(parsed: Parsed) -> tuple[list[Column], str]:
    if parsed.last("Format"):
        text = parsed.last("Format") or ""
        if text.lower() == "all":
            text = ",".join(NAMES)
        known = "".join(GROUP_LETTERS.get(word.partition(":")[0].strip().lower(), "") for word in text.split(","))
        return fields(text, NAMES), "".join(f"%{letter}" for letter in known)
    kind = next((key for key in ("summarize", "Node", "list_reasons") if key in parsed), "")
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
            "reboot_requested",
            "reboot_issued",
            "powered_down",
            "powering_up",
            "powering_down",
        }
        for wrong in sorted({each for word in words for each in word.split("&")} - known):
            raise Fatal(f'Bad state string: "{wrong}"', f"valid states: {_VALID_STATES}")
        if "all" not in words:
            nodes = [node for node in nodes if _in_state(node, words)]
    if "dead" in parsed:
        nodes = [node for node in nodes if not of.usable(node)]
    if "responding" in parsed:
        nodes = [node for node in nodes if of.usable(node)]
    return nodes


# sinfo -t 里别的叫法。
_FLAG_WORDS = {
    "POWERED_DOWN": ("power_down",), "POWERING_UP": ("power_up",), "REBOOT_REQUESTED": ("reboot",),
    "REBOOT_ISSUED": ("reboot",),
}  # fmt: skip


def _in_state(node: dict[str, Any], words: set[str]) -> bool:
    names = {of.state_word(node).rstrip(of.SUFFIXES), of.short_state(node).rstrip(of.SUFFIXES)}
    names |= {name for flag in of.state_parts(node)[1] for name in (flag.lower(), *_FLAG_WORDS.get(flag, ()))}
    # 用 & 相连的要都是。
    return any(set(word.split("&")) <= names for word in words)


def node_rows(
    partitions: list[dict[str, Any]], nodes: list[dict[str, Any]], form: str, *, by_node: bool, exact: bool
) -> list[dict[str, Any]]:
    """每个分区里，要显示的东西都相同的节点合成一行；大小不同的也合，写成 4+，exact（-e）时不合。"""
    letters_used = used_letters(form)
    used = [letter for letter in GROUPED if letter in letters_used and (exact or letter not in SIZES)]
    shows_partition = any(letter in letters_used for letter in "PRalLsghpMIBS")
    rows: list[dict[str, Any]] = []
    for partition in partitions:
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for node in of.partition_nodes(partition, nodes):
            key = tuple(GROUPED[letter](node) for letter in used)
            groups.setdefault((*key, node["name"]) if by_node else key, []).append(node)
        if not groups and not by_node:
            groups[()] = []
        rows += [{"partition": partition, "nodes": members} for members in groups.values()]
    if by_node:
        rows.sort(key=lambda row: row["nodes"][0]["name"] if row["nodes"] else "")
    elif not shows_partition:
        merged: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            key = tuple(GROUPED[letter](row["nodes"][0]) if row["nodes"] else "" for letter in used)
            known = merged.setdefault(key, {"partition": row["partition"], "nodes": []})
            names = {node["name"] for node in known["nodes"]}
            known["nodes"] += [node for node in row["nodes"] if node["name"] not in names]
        rows = list(merged.values())
    return rows
