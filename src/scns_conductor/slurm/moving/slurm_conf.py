"""slurm.conf（连同 gres.conf、topology.conf）-> cluster.yaml 的 settings、nodes、partitions。"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.sharing import oversubscribe
from scns_conductor.core.units import UNLIMITED_WORDS, format_duration, parse_duration, parse_memory_mb
from scns_conductor.slurm.moving.conf_lines import ConfLine, read_conf
from scns_conductor.slurm.moving.conf_settings import read_settings
from scns_conductor.slurm.moving.findings import Findings, Place

_RECORDS = ("nodename", "partitionname", "nodeset", "downnodes", "frontendname", "switchname", "blockname")
# 节点的这些由代理登记，不必搬。
_REGISTERED = frozenset(
    {"nodename", "nodeaddr", "nodehostname", "bcastaddr", "cpus", "procs", "boards", "sockets", "socketsperboard",
     "corespersocket", "threadspercore", "realmemory", "tmpdisk", "gres", "state", "port"}
)  # fmt: skip
_MOST_TIER = 65533
# 同 api/partition_request.py。
_PARTITION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(slots=True)
class SlurmConf:
    """读出来的；nodes 是 名字 -> {features, weight, topology}。"""

    settings: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    partitions: list[dict[str, Any]] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        """cluster.yaml 的那几节；写法相同的节点合在一起。"""
        groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for name, traits in self.nodes.items():
            if traits:
                groups.setdefault(repr(sorted(traits.items())), (traits, []))[1].append(name)
        found: dict[str, Any] = {"version": 1, "settings": self.settings}
        found["nodes"] = [{"name": compress(names), **traits} for traits, names in groups.values()]
        found["partitions"] = self.partitions
        return {name: value for name, value in found.items() if value}


def read_slurm_conf(path: Path, findings: Findings) -> SlurmConf:
    """读 slurm.conf；旁边有 gres.conf、topology.conf 的一并读。写坏的记下，从不抛出。"""
    lines = read_conf(path, findings)
    found = SlurmConf()
    general: list[tuple[Place, str, str]] = []
    records: dict[str, list[ConfLine]] = {name: [] for name in _RECORDS}
    for line in lines:
        kind = line.pairs[0][0]
        if kind in records:
            records[kind].append(line)
        else:
            general += [(line.place, name, value) for name, value in line.pairs]
    found.settings = read_settings(general, findings)
    words = {name: value for _, name, value in general}
    whole_nodes = words.get("selecttype", "").lower() == "select/linear"
    _read_nodes(records["nodename"], found, findings)
    sets = _node_sets(records["nodeset"], found, findings)
    _read_partitions(records["partitionname"], found, sets, findings, whole_nodes=whole_nodes)
    for kind in ("downnodes", "frontendname", "blockname"):
        for line in records[kind]:
            findings.add(line.place, line.text, "没有对应的；要下线的节点用 scns nodes NAME --drain")
    topology = path.with_name("topology.conf")
    switches = records["switchname"] + (read_conf(topology, findings) if topology.is_file() else [])
    _read_switches(switches, found, findings)
    gres = path.with_name("gres.conf")
    if gres.is_file():
        for line in read_conf(gres, findings):
            _check_gres(line, findings)
    return found


def _hosts(text: str, place: Place, findings: Findings) -> list[str]:
    try:
        return expand(text)
    except ValueError as error:
        findings.add(place, text, str(error))
        return []


def _merged(lines: Iterable[ConfLine], key: str) -> Iterable[tuple[ConfLine, dict[str, str]]]:
    """各行；DEFAULT 的值给它后面的（slurm.conf(5)）。"""
    defaults: dict[str, str] = {}
    for line in lines:
        words = line.words()
        if words[key].upper() == "DEFAULT":
            defaults.update({name: value for name, value in words.items() if name != key})
        else:
            yield line, {**defaults, **words}


# ---- 节点 ----


def _read_nodes(lines: list[ConfLine], found: SlurmConf, findings: Findings) -> None:
    for line, words in _merged(lines, "nodename"):
        traits: dict[str, Any] = {}
        features = words.get("features") or words.get("feature")
        if features:
            traits["features"] = [word.strip() for word in features.split(",") if word.strip()]
        if words.get("weight", "").isdigit():
            traits["weight"] = min(int(words["weight"][:12]), 2**31 - 1)
        for name, value in line.pairs:
            if name not in _REGISTERED and name not in ("features", "feature", "weight"):
                findings.add(line.place, f"{name}={value}", "没有对应的")
        state = words.get("state", "").upper()
        if state.startswith(("FUTURE", "CLOUD", "DOWN", "DRAIN", "FAIL")):
            findings.add(
                line.place, f"state={state}", "节点的状态不搬：代理登记之后是 UP，要停用的用 scns nodes NAME --drain"
            )
        for name in _hosts(words["nodename"], line.place, findings):
            found.nodes[name] = dict(traits)


def _node_sets(lines: list[ConfLine], found: SlurmConf, findings: Findings) -> dict[str, list[str]]:
    sets: dict[str, list[str]] = {}
    for line in lines:
        words = line.words()
        members = _hosts(words.get("nodes", ""), line.place, findings)
        feature = words.get("feature")
        if feature:
            members += [name for name, traits in found.nodes.items() if feature in traits.get("features", ())]
        sets[words["nodeset"]] = members
    return sets


def _read_switches(lines: list[ConfLine], found: SlurmConf, findings: Findings) -> None:
    """交换机的树 -> 节点的路径，从根到叶。"""
    above: dict[str, str] = {}
    leaves: list[tuple[str, list[str]]] = []
    for line in lines:
        words = line.words()
        if "switchname" not in words:
            findings.add(line.place, line.text, "没有对应的")
            continue
        for name in _hosts(words.get("switches", ""), line.place, findings):
            above.setdefault(name, words["switchname"])
        if words.get("nodes"):
            leaves.append((words["switchname"], _hosts(words["nodes"], line.place, findings)))
    for leaf, names in leaves:
        path, at = [leaf], leaf
        while at in above and above[at] not in path:
            at = above[at]
            path.insert(0, at)
        for name in names:
            found.nodes.setdefault(name, {})["topology"] = "/".join(path)


def _check_gres(line: ConfLine, findings: Findings) -> None:
    """GPU 由代理探测；别的要在节点上声明。"""
    words = line.words()
    kind = words.get("name", "").lower()
    if kind not in ("gpu", ""):
        findings.add(
            line.place, line.text, f"GRES {kind} 在节点上声明：SCNS_NODE_GRES（如 {kind}:{words.get('count', '1')}）"
        )


# ---- 分区 ----


def _names(value: str) -> list[str] | None:
    words = [word.strip() for word in value.split(",") if word.strip()]
    return None if not words or words[0].upper() == "ALL" else words


def _limit(value: str) -> str | None:
    return None if value.upper() in (*UNLIMITED_WORDS, "NONE") else format_duration(parse_duration(value))


def _count(value: str) -> int | None:
    return None if value.upper() in ("UNLIMITED", "INFINITE") else int(value)


def _memory(value: str) -> int | None:
    amount = None if value.upper() == "UNLIMITED" else parse_memory_mb(value)
    return amount or None


def _state(value: str) -> str:
    if value.upper() not in ("UP", "DOWN", "DRAIN", "INACTIVE"):
        raise ValueError("没有这个状态")
    return value.upper()


def _mode(value: str) -> str:
    words = [word.strip().lower() for word in value.split(",")]
    found = next((word for word in words if word in ("off", "cancel", "requeue", "suspend")), None)
    if found is None:
        raise ValueError("没有这种方式")
    return found


def _yes(value: str) -> bool:
    return value.lower() in ("yes", "true", "1")


def _tier(value: str) -> int:
    return min(max(0, int(value)), _MOST_TIER)


_COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "default": ("is_default", _yes),
    "state": ("state", _state),
    "maxtime": ("max_time", _limit),
    "defaulttime": ("default_time", _limit),
    "minnodes": ("min_nodes", lambda value: max(1, int(value))),
    "maxnodes": ("max_nodes", _count),
    "maxcpuspernode": ("max_cpus_per_node", _count),
    "maxmempernode": ("max_memory_per_node", _memory),
    "defmempercpu": ("default_memory_per_cpu", _memory),
    "prioritytier": ("priority_tier", _tier),
    "priorityjobfactor": ("priority_job_factor", _tier),
    "preemptmode": ("preempt_mode", _mode),
    "gracetime": ("grace_time", int),
    "suspendtime": ("suspend_time", lambda value: -1 if value.upper() == "INFINITE" else max(-1, int(value))),
    "suspendtimeout": ("suspend_timeout", int),
    "resumetimeout": ("resume_timeout", int),
    "allowaccounts": ("allow_accounts", _names),
    "denyaccounts": ("deny_accounts", _names),
    "allowqos": ("allow_qos", _names),
}
_DEFAULTS = {"is_default": False, "state": "UP", "min_nodes": 1, "grace_time": 0}


def _read_partitions(
    lines: list[ConfLine], found: SlurmConf, sets: Mapping[str, list[str]], findings: Findings, *, whole_nodes: bool
) -> None:
    seen: dict[str, dict[str, Any]] = {}
    for line, words in _merged(lines, "partitionname"):
        for name in (each.strip() for each in words["partitionname"].split(",") if each.strip()):
            if not _PARTITION_NAME.fullmatch(name):
                findings.add(line.place, f"partitionname={name}", "名字只能有字母、数字与 . _ -")
                continue
            columns = _partition(line, words, found, sets, findings)
            if whole_nodes:
                columns["exclusive"] = True
            if name in seen:
                findings.add(line.place, f"partitionname={name}", "写了两遍，后一遍算")
            seen[name] = {"name": name, **columns}
    default = [each for each in seen.values() if each.get("is_default")]
    for each in default[:-1]:
        del each["is_default"]
    found.partitions = list(seen.values())


def _partition(
    line: ConfLine, words: Mapping[str, str], found: SlurmConf, sets: Mapping[str, list[str]], findings: Findings
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, value in words.items():
        text = f"{name}={value}"
        if name in ("partitionname",) or value == "":
            continue
        if name == "nodes":
            nodes = _partition_nodes(value, line.place, found, sets, findings)
            if nodes is not None:
                columns["nodes"] = nodes
            continue
        try:
            if name == "priority":
                columns["priority_tier"] = columns["priority_job_factor"] = _tier(value)
            elif name in ("oversubscribe", "shared"):
                if value.upper() == "EXCLUSIVE":
                    columns["exclusive"] = True
                elif value.upper() != "NO":
                    columns["oversubscribe"] = oversubscribe(value)
            elif name in _COLUMNS:
                column, convert = _COLUMNS[name]
                columns[column] = convert(value)
            else:
                findings.add(line.place, text, "分区没有对应的")
        except (ValueError, OverflowError):
            findings.add(line.place, text, "值不对")
    return {
        name: value for name, value in columns.items() if value is not None and _DEFAULTS.get(name, _DEFAULTS) != value
    }


def _partition_nodes(
    value: str, place: Place, found: SlurmConf, sets: Mapping[str, list[str]], findings: Findings
) -> str | None:
    """节点列表：ALL、NodeSet 的名字、主机列表可以混着写。"""
    if value.upper() == "ALL":
        return None
    names: dict[str, None] = {}
    for name in _hosts(value, place, findings):
        names |= dict.fromkeys(sets.get(name, [name]))
    unknown = [name for name in names if name not in found.nodes]
    if unknown:
        findings.add(place, compress(unknown), "没有 NodeName 定义这些节点；照写")
    return compress(list(names)) if names else None
