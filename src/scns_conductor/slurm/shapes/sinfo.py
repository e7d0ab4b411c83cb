"""sinfo --json 的一条（23.02 起）：一个分区里同样状态的一组节点。"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scns_conductor.slurm.nodes import node_values as of
from scns_conductor.slurm.nodes.cluster_json import base_state, gres_words
from scns_conductor.slurm.shapes.nodes import partition_record
from scns_conductor.slurm.shapes.schema import INFINITE, number
from scns_conductor.slurm.table.job_values import cluster_name
from scns_conductor.slurm.table.times import epoch

Record = Mapping[str, Any]


def _span(nodes: Sequence[Record], value: Callable[[Record], Any]) -> dict[str, Any]:
    found = [value(node) for node in nodes] or [0]
    return {"minimum": min(found), "maximum": max(found)}


def sinfo_record(version: str, partition: Record, nodes: Sequence[Record], members: Sequence[Record]) -> dict[str, Any]:
    """nodes 是这一行的节点，members 是分区的全部节点；内存是 MiB，负载乘以 100。"""
    names = [node["name"] for node in nodes]
    idle = [node for node in nodes if of.state_word(node).rstrip(of.SUFFIXES) in ("idle", "planned")]
    used = [node for node in nodes if node["allocated_cpus"]]
    up = [node for node in nodes if of.usable(node) and not node["drain"]]
    total, allocated = sum(node["cpus"] for node in nodes), sum(node["allocated_cpus"] for node in nodes)
    free = sum(node["cpus"] - node["allocated_cpus"] for node in up)
    first = nodes[0] if nodes else None
    features = ",".join(first["features"]) if first else ""
    base, flags = base_state(first) if first else ("unknown", [])
    loads = _span(nodes, lambda node: round(float(node["cpu_load"] or 0) * 100))
    memory_free = _span(nodes, lambda node: int(node["free_memory"] or 0))
    return {
        "port": 0,
        "node": {"state": [base.upper(), *flags]},
        "nodes": {
            "allocated": len(used),
            "idle": len(idle),
            "other": len(nodes) - len(used) - len(idle),
            "total": len(nodes),
            "hostnames": names,
            "addresses": [node["address"] or node["name"] for node in nodes],
            "nodes": names,
        },
        "cpus": {
            "allocated": allocated,
            "idle": free,
            "other": total - allocated - free,
            "total": total,
            **_span(nodes, lambda node: int(node["cpus"])),
            "load": loads,
            "per_node": {"max": number(partition["max_cpus_per_node"] or INFINITE)},
        },
        "sockets": {"minimum": 1, "maximum": 1},
        "cores": _span(nodes, lambda node: int(node["cpus"])),
        "threads": {"minimum": 1, "maximum": 1},
        "disk": _span(nodes, lambda node: int(node["temporary_disk"] or 0)),
        "memory": {
            **_span(nodes, lambda node: int(node["memory"])),
            "free": {key: number(value) for key, value in memory_free.items()},
            "allocated": sum(int(node["allocated_memory"]) for node in nodes),
        },
        "weight": _span(nodes, lambda node: int(node["weight"])),
        "features": {"total": features, "active": features},
        "gres": {
            "total": gres_words(first["gres"]) if first else "",
            "used": gres_words(first["allocated_gres"]) if first else "",
        },
        "cluster": cluster_name(),
        "comment": "",
        "extra": "",
        "reason": {
            "description": (first["reason"] or "") if first else "",
            "time": number(int(epoch(first["reason_time"]) or 0) if first else 0),
            "user": (first["reason_user"] or "") if first else "",
        },
        "reservation": "",
        "partition": partition_record(version, partition, members),
    }
