"""API 的节点与分区 -> sinfo 与 scontrol 要显示的值。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.core.hostlist import expand
from scns_conductor.core.states import base_state, node_flags

Node = Mapping[str, Any]
Partition = Mapping[str, Any]


# 标志 -> sinfo(1) 的后缀，前面的优先。
_SUFFIXES = {
    "REBOOT_ISSUED": "^", "REBOOT_REQUESTED": "@", "POWERING_DOWN": "%", "POWERED_DOWN": "~", "POWERING_UP": "#",
    "POWER_DOWN": "!",
}  # fmt: skip
SUFFIXES = "*" + "".join(_SUFFIXES.values())


def state_word(node: Node) -> str:
    """sinfo 的状态词：idle、mixed、allocated、drained、draining、down、unknown；后缀 * 是失联，~#%!@^ 是电源与重启。"""
    base, flags = state_parts(node)
    suffix = next((mark for flag, mark in _SUFFIXES.items() if flag in flags), "")
    if node["drain"]:
        away = "*" if node["availability"] != "UP" and node["power_state"] == "ON" else ""
        return ("draining" if node["allocated_cpus"] else "drained") + (suffix or away)
    if base == "DOWN" and not node.get("reason_user"):
        return "down*"
    if suffix == "" and base == "IDLE" and "PLANNED" in flags:
        return "planned"
    return base.lower() + suffix


def state_parts(node: Node) -> tuple[str, list[str]]:
    """基本状态（IDLE、DOWN……）与标志（DRAIN、POWERED_DOWN……）。"""
    row = {**node, "state": node["availability"]}
    return base_state(row), node_flags(row)


def usable(node: Node) -> bool:
    """没有下线；为节能关着的也算。"""
    return state_parts(node)[0] not in ("DOWN", "UNKNOWN")


def complete_state(node: Node) -> str:
    """-O statecomplete：基本状态与标志，如 idle+drain。"""
    base, flags = state_parts(node)
    return "+".join([base, *flags]).lower()


_SHORT = {
    "allocated": "alloc", "mixed": "mix", "draining": "drng", "drained": "drain", "unknown": "unk",
    "planned": "plnd",
}  # fmt: skip


def short_state(node: Node) -> str:
    """%t 的短状态。"""
    word = state_word(node)
    base = word.rstrip(SUFFIXES)
    return _SHORT.get(base, base) + word[len(base) :]


def partition_nodes(partition: Partition, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """分区里的节点。"""
    if partition["nodes"].upper() == "ALL":
        return nodes
    names = set(expand(partition["nodes"]))
    return [node for node in nodes if node["name"] in names]


def gres_text(gres: Mapping[str, int]) -> str:
    """{'gpu:a100': 2} -> gpu:a100:2；没有是 (null)。"""
    return ",".join(f"{name}:{count}" for name, count in sorted(gres.items())) or "(null)"


def used_gres(node: Mapping[str, Any]) -> dict[str, int]:
    """用掉了几个：节点有的都写，没有用的是 0（同 Slurm 的 gpu:0）。"""
    return dict.fromkeys(node["gres"], 0) | dict(node["allocated_gres"])


def span(values: list[int]) -> str:
    """一组节点的数：一样的写一个，不一样的写最小的加 +。"""
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)}+"
