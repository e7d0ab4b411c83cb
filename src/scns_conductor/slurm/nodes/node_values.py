"""API 的节点与分区 -> sinfo 与 scontrol 要显示的值。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.core.hostlist import expand

Node = Mapping[str, Any]
Partition = Mapping[str, Any]


def state_word(node: Node) -> str:
    """sinfo 的状态词：idle、mixed、allocated、drained、draining、down、unknown，失联的带 *。"""
    used, total = int(node["allocated_cpus"]), int(node["cpus"])
    availability = node["availability"]
    if node["drain"]:
        return ("draining" if used else "drained") + ("" if availability == "UP" else "*")
    if availability == "UP":
        return "idle" if not used else "mixed" if used < total else "allocated"
    return "down*" if availability == "DOWN" and not node.get("reason_user") else availability.lower()


def complete_state(node: Node) -> str:
    """-O statecomplete：基本状态与标志，如 idle+drain。"""
    used, total = int(node["allocated_cpus"]), int(node["cpus"])
    word = node["availability"].lower()
    if word == "up":
        word = "idle" if not used else "mixed" if used < total else "allocated"
    return f"{word}+drain" if node["drain"] else word


_SHORT = {
    "allocated": "alloc", "mixed": "mix", "draining": "drng", "drained": "drain", "unknown": "unk",
}  # fmt: skip


def short_state(node: Node) -> str:
    """%t 的短状态。"""
    word = state_word(node)
    base = word.rstrip("*")
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


def span(values: list[int]) -> str:
    """一组节点的数：一样的写一个，不一样的写最小的加 +。"""
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)}+"
