"""节点、分区、许可证、预留 -> sinfo --json 与 slurmrestd 的一条（openapi/v0.0.38；键与 Slurm 22.05 的逐个相同）。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.hostlist import compress, expand
from scns_conductor.slurm.nodes import node_values as of
from scns_conductor.slurm.queue.job_json import number
from scns_conductor.slurm.table.job_tres import node_tres, partition_tres
from scns_conductor.slurm.table.times import epoch

Record = Mapping[str, Any]
# 预留的标志：写的名字 -> 显示的（reservation_flags_string）。
SHOWN_FLAGS = {"STATIC_ALLOC": "STATIC", "NO_HOLD_JOBS_AFTER": "NO_HOLD_JOBS_AFTER_END"}


def _moment(value: Any) -> int:
    return int(epoch(value) or 0)


def _minutes(seconds: Any, missing: Any) -> Any:
    return missing if seconds is None else -(-int(seconds) // 60)


def base_state(node: Record) -> tuple[str, list[str]]:
    """基本状态与标志：排空是标志，不是状态。"""
    word, flags = of.state_parts(node)
    base = word.lower()
    if base == "down" and not node.get("reason_user"):
        flags.append("NOT_RESPONDING")
    return base, flags


def gres_words(values: Mapping[str, int]) -> str:
    """gpu:2,gpu:a100:2；没有是空的。"""
    text = of.gres_text(values)
    return "" if text == "(null)" else text


def node_record(node: Record, partitions: Sequence[str]) -> dict[str, Any]:
    """v0.0.38 的一个节点；内存是 MiB，cpu_load 是负载乘以 100。"""
    base, flags = base_state(node)
    features = ",".join(node["features"])
    used, total, amount = int(node["allocated_cpus"]), int(node["cpus"]), int(node["allocated_memory"])
    tres_used = node_tres(used, amount, node["allocated_gres"], billing=False)
    return {
        "architecture": node["architecture"] or "",
        "burstbuffer_network_address": "",
        "boards": 1,
        "boot_time": _moment(node["boot_time"]),
        "comment": "",
        "cores": node["cores_per_socket"],
        "cpu_binding": 0,
        "cpu_load": round(float(node["cpu_load"] or 0) * 100),
        "extra": "",
        "free_memory": node["free_memory"] or 0,
        "cpus": total,
        "last_busy": _moment(node["last_heartbeat"]),
        "features": features,
        "active_features": features,
        "gres": gres_words(node["gres"]),
        "gres_drained": "N/A",
        "gres_used": gres_words(of.used_gres(node)),
        "mcs_label": "",
        "name": node["name"],
        "next_state_after_reboot": "invalid",
        "address": node["address"],
        "hostname": node["name"],
        "state": base,
        "state_flags": flags,
        "next_state_after_reboot_flags": [],
        "operating_system": node["operating_system"] or "",
        "owner": None,
        "partitions": list(partitions),
        "port": 0,
        "real_memory": node["memory"],
        "reason": node["reason"] or "",
        "reason_changed_at": _moment(node["reason_time"]),
        "reason_set_by_user": node["reason_user"],
        "slurmd_start_time": _moment(node["registered_at"]),
        "sockets": node["sockets"],
        "threads": node["threads_per_core"],
        "temporary_disk": node["temporary_disk"],
        "weight": node["weight"],
        "tres": node_tres(total, node["memory"], node["gres"], billing=True),
        "slurmd_version": node["agent_version"] or "",
        "alloc_memory": amount,
        "alloc_cpus": used,
        "idle_cpus": total - used,
        "tres_used": tres_used,
        "tres_weighted": float(used),
    }


def node_record_39(node: Record, partitions: Sequence[str]) -> dict[str, Any]:
    """v0.0.39：state 是一个列表（基本状态与各标志，大写）。"""
    record = node_record(node, partitions)
    flags = record.pop("state_flags")
    record.pop("next_state_after_reboot_flags")
    return record | {
        "features": list(node["features"]),
        "active_features": list(node["features"]),
        "state": [record["state"].upper(), *flags],
        "next_state_after_reboot": ["INVALID"],
        "cpu_load": number(record["cpu_load"]),
        "free_mem": number(record.pop("free_memory") or None),
        "owner": "",
        "reason_set_by_user": record["reason_set_by_user"] or "",
    }


def partition_record(partition: Record, nodes: Sequence[Record]) -> dict[str, Any]:
    """v0.0.38 的一个分区；时限是分钟，-1 是不限。"""
    cpus = sum(int(node["cpus"]) for node in nodes)
    mode = (partition["preempt_mode"] or "off").lower()
    return {
        "flags": ["default"] if partition["is_default"] else [],
        "preemption_mode": ["disabled" if mode == "off" else mode],
        "allowed_allocation_nodes": "",
        "allowed_accounts": ",".join(partition["allow_accounts"] or []),
        "allowed_groups": "",
        "allowed_qos": ",".join(partition["allow_qos"] or []),
        "alternative": "",
        "billing_weights": "",
        "default_memory_per_cpu": partition["default_memory_per_cpu"],
        "default_memory_per_node": None,
        "default_time_limit": _minutes(partition["default_time"], None),
        "denied_accounts": ",".join(partition["deny_accounts"] or []),
        "denied_qos": "",
        "preemption_grace_time": partition["grace_time"],
        "maximum_cpus_per_node": partition["max_cpus_per_node"] or -1,
        "maximum_memory_per_cpu": None,
        "maximum_memory_per_node": partition["max_memory_per_node"],
        "maximum_nodes_per_job": partition["max_nodes"] or -1,
        "max_time_limit": _minutes(partition["max_time"], -1),
        # 键里的空格是 Slurm 22.05 的原样。
        "min nodes per job": partition["min_nodes"],
        "name": partition["name"],
        "nodes": compress(node["name"] for node in nodes),
        "over_time_limit": None,
        "priority_job_factor": partition["priority_job_factor"],
        "priority_tier": partition["priority_tier"],
        "qos": "",
        "state": partition["state"],
        "total_cpus": cpus,
        "total_nodes": len(nodes),
        "tres": partition_tres(nodes),
    }


def partition_record_39(partition: Record, nodes: Sequence[Record]) -> dict[str, Any]:
    """v0.0.39：按节点、CPU、时间分成几组。"""
    flat = partition_record(partition, nodes)

    def most(value: Any) -> dict[str, Any]:
        return number(None if value in (None, -1) else value, infinite=True)

    return {
        "name": flat["name"],
        "alternate": "",
        "cluster": "",
        "node_sets": "",
        "grace_time": flat["preemption_grace_time"],
        "accounts": {"allowed": flat["allowed_accounts"], "deny": flat["denied_accounts"]},
        "groups": {"allowed": ""},
        "qos": {"allowed": flat["allowed_qos"], "deny": "", "assigned": ""},
        "nodes": {"allowed_allocation": "", "configured": flat["nodes"], "total": flat["total_nodes"]},
        "cpus": {"task_binding": 0, "total": flat["total_cpus"]},
        "defaults": {
            "memory_per_cpu": flat["default_memory_per_cpu"] or 0,
            "time": number(flat["default_time_limit"]),
            "job": "",
        },
        "maximums": {
            "cpus_per_node": most(flat["maximum_cpus_per_node"]),
            "memory_per_cpu": 0,
            "memory_per_node": most(flat["maximum_memory_per_node"]),
            "nodes": most(flat["maximum_nodes_per_job"]),
            "time": most(flat["max_time_limit"]),
        },
        "minimums": {"nodes": flat["min nodes per job"]},
        "priority": {"job_factor": flat["priority_job_factor"], "tier": flat["priority_tier"]},
        "partition": {"state": [flat["state"]]},
        "tres": {"billing_weights": "", "configured": flat["tres"]},
    }


def reservation_record(found: Record) -> dict[str, Any]:
    """v0.0.38 的一个预留。"""
    return {
        "accounts": ",".join(found["accounts"]),
        "burst_buffer": "",
        "core_count": sum((found["node_cpus"] or {}).values()),
        "core_spec_cnt": 0,
        "end_time": _moment(found["end_time"]),
        "features": "",
        "flags": list(found["flags"]),
        "groups": "",
        "licenses": found["licenses"] or "",
        "max_start_delay": 0,
        "name": found["name"],
        "node_count": len(expand(found["node_list"])) if found["node_list"] else 0,
        "node_list": found["node_list"],
        "partition": found["partition"] or "",
        "start_time": _moment(found["start_time"]),
        "tres": "",
        "users": ",".join(found["users"]),
    }


def license_record(found: Record) -> dict[str, Any]:
    """v0.0.38 的一个许可证。"""
    return {
        "LicenseName": found["name"],
        "Total": found["total"],
        "Used": found["used"],
        "Free": found["free"],
        "Reserved": 0,
        "Remote": False,
    }
