"""节点、分区、预留、许可证 -> sinfo --json、scontrol --json 与 slurmrestd 的一条。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.slurm.nodes import cluster_json
from scns_conductor.slurm.shapes.schema import INFINITE, render

Record = Mapping[str, Any]
# 我们的预留标志里 Slurm 的枚举不叫这个名字的。
_RESERVATION_FLAGS = {"LICENSE_ONLY": "ANY_NODES", **cluster_json.SHOWN_FLAGS}


def node_record(version: str, node: Record, partitions: Sequence[str]) -> dict[str, Any]:
    """一个节点；partitions 是它所在的分区。"""
    if version == "v0.0.38":
        return cluster_json.node_record(node, partitions)
    newer = cluster_json.node_record_39(node, partitions)
    if version == "v0.0.39":
        return newer
    return render(
        "node",
        version,
        {
            **newer,
            "alloc_idle_cpus": newer["idle_cpus"],
            "cert_flags": [],
            "cpu_load": round(float(node["cpu_load"] or 0) * 100),
            "effective_cpus": newer["cpus"],
            "energy": {"current_watts": 0},
            "free_mem": node["free_memory"] or None,
            "resume_after": 0,
            "tls_cert_last_renewal": 0,
            "topology": node.get("topology"),
            "version": newer["slurmd_version"],
        },
    )


def partition_record(version: str, partition: Record, nodes: Sequence[Record]) -> dict[str, Any]:
    """一个分区；nodes 是其中的节点。"""
    if version == "v0.0.38":
        return cluster_json.partition_record(partition, nodes)
    newer = cluster_json.partition_record_39(partition, nodes)
    if version == "v0.0.39":
        return newer
    per_cpu, per_node = partition["default_memory_per_cpu"], partition["max_memory_per_node"]
    return render(
        "partition_info",
        version,
        {
            **newer,
            "defaults": {**newer["defaults"], "partition_memory_per_cpu": per_cpu or None},
            "maximums": {
                **newer["maximums"],
                "cpus_per_socket": INFINITE,
                "partition_memory_per_node": per_node or 0,
                "shares": 1,
                "oversubscribe": {"jobs": 1},
            },
            "select_type": ["CPU"],
            "timeouts": {"resume": partition.get("resume_timeout"), "suspend": partition.get("suspend_timeout")},
            "suspend_time": INFINITE if partition.get("suspend_time") == -1 else partition.get("suspend_time"),
        },
    )


def reservation_record(version: str, found: Record) -> dict[str, Any]:
    """一个预留。"""
    flat = cluster_json.reservation_record(found)
    if version in ("v0.0.38", "v0.0.39"):
        return flat
    flags = [_RESERVATION_FLAGS.get(flag.partition("=")[0], flag.partition("=")[0]) for flag in found["flags"]]
    # 留的是个数，写成头几个的号（同 scontrol show reservation）。
    cores = [
        {"node": name, "core": f"0-{cpus - 1}" if cpus > 1 else "0"}
        for name, cpus in sorted((found["node_cpus"] or {}).items())
    ]
    return render("reservation_info", version, {**flat, "flags": flags, "watts": 0, "core_specializations": cores})


def license_record(version: str, found: Record) -> dict[str, Any]:
    """一个许可证。"""
    flat = cluster_json.license_record(found)
    return flat if version in ("v0.0.38", "v0.0.39") else render("license", version, flat)
