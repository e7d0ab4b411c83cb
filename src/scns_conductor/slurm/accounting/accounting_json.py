"""一个作业与它的步 -> sacct --json 的一条（openapi/dbv0.0.38；键与 Slurm 22.05 的逐个相同）。"""

import signal
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.slurm.accounting.accounting_columns import energy_of
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.job_tres import TRES_IDS, gres_of, memory_total, with_totals
from scns_conductor.slurm.table.times import elapsed_s, epoch

Row = Mapping[str, Any]


def _moment(value: Any) -> int:
    return int(epoch(value) or 0)


def _cpu_time(seconds: Any) -> dict[str, int]:
    whole = float(seconds or 0)
    return {"seconds": int(whole), "microseconds": int(whole % 1 * 1e6)}


def exit_code(row: Row) -> dict[str, Any]:
    """SUCCESS、ERROR、SIGNALED、PENDING；22.05 自己在这里总是写成功，这里写真的。"""
    if row.get("exit_status") is None and not row.get("end_time"):
        return {"status": "PENDING", "return_code": 0}
    status, number = int(row.get("exit_status") or 0), int(row.get("exit_signal") or 0)
    if number:
        known = {each.value: each.name.removeprefix("SIG") for each in signal.Signals}
        found = {"signal_id": number, "name": known.get(number, str(number))}
        return {"status": "SIGNALED", "return_code": status, "signal": found}
    return {"status": "ERROR" if status else "SUCCESS", "return_code": status}


def _count(kind: str, count: int, name: str | None = None) -> dict[str, Any]:
    return {"type": kind, "name": name, "id": TRES_IDS.get(kind, 1001), "count": count}


def _tres(row: Row, *, allocated: bool, billing: bool) -> list[dict[str, Any]]:
    cpus, nodes = of.cpus(row), of.nodes(row)
    if allocated and not row.get("allocated_cpus"):
        return []
    memory = int(row.get("allocated_memory") or 0) if allocated else memory_total(row)
    found = [_count("cpu", cpus), *([_count("mem", memory)] if memory else []), _count("node", nodes)]
    if billing:
        found.append(_count("billing", cpus))
    gres = with_totals(gres_of(row, allocated=allocated))
    return found + [_count("gres", count, name.removeprefix("gres/")) for name, count in gres.items()]


def _usage(row: Row) -> dict[str, Any]:
    """各步用掉的：CPU（毫秒）、内存峰值（字节）、读写的字节。"""
    total = float(row.get("cpu_user_s") or 0) + float(row.get("cpu_system_s") or 0)
    consumed = [_count("cpu", int(total * 1000)), _count("mem", int(row.get("max_rss_kb") or 0) * 1024)]
    empty: dict[str, list[Any]] = {"max": [], "min": [], "average": [], "total": []}
    return {
        "requested": dict(empty),
        "consumed": {**empty, "max": consumed, "total": consumed},
        "allocated": _tres(row, allocated=True, billing=False),
    }


def _times(row: Row) -> dict[str, Any]:
    user, system = row.get("cpu_user_s"), row.get("cpu_system_s")
    return {
        "elapsed": int(elapsed_s(row)),
        "end": _moment(row.get("end_time")),
        "start": _moment(row.get("start_time")),
        "suspended": int(float(row.get("suspended_s") or 0)),
        "system": _cpu_time(system),
        "total": _cpu_time(float(user or 0) + float(system or 0)),
        "user": _cpu_time(user),
    }


def step_record(row: Row) -> dict[str, Any]:
    """一步；row 是 sacct 的一行，step 是 batch、extern 或步号。"""
    from scns_conductor.core.hostlist import expand

    nodes = expand(row["node_list"] or "") if row.get("node_list") else []
    if row["step"] in ("batch", "extern"):
        nodes = nodes[:1]
    number = int(row["step"]) if str(row["step"]).isdigit() else row["step"]
    return {
        "nodes": {"list": nodes, "count": len(nodes), "range": row.get("node_list") or ""},
        "tres": _usage(row),
        "time": _times(row),
        "exit_code": exit_code(row),
        "tasks": {"count": int(row.get("step_tasks") or 1)},
        "pid": None,
        "CPU": {"requested_frequency": {"min": 0, "max": 0}, "governor": []},
        "kill_request_user": None,
        "state": row["state"],
        "statistics": {"CPU": {"actual_frequency": 0}, "energy": {"consumed": energy_of(row)}},
        "step": {
            "job_id": int(row["job_id"]),
            "het": {"component": None},
            "id": number,
            "name": row["name"] if isinstance(number, int) else number,
        },
        "task": {"distribution": "Unknown"},
    }


def _het(job: Row) -> dict[str, Any]:
    if job.get("het_job_id") is None:
        return {"job_id": 0, "job_offset": None}
    return {"job_id": int(job["het_job_id"]), "job_offset": job["het_job_offset"]}


def accounting_record(job: Row, steps: Iterable[Row]) -> dict[str, Any]:
    """一个作业；时限是分钟，不限是 null。"""
    limit = of.limit_s(job)
    array = job.get("array_job_id") is not None
    return {
        "account": job.get("account") or "",
        "comment": {"administrator": job.get("admin_comment"), "job": job.get("comment"), "system": None},
        "allocation_nodes": job.get("allocated_nodes") or 0,
        "array": {
            "job_id": int(job["array_job_id"]) if array else 0,
            "limits": {"max": {"running": {"tasks": int(job.get("array_max_tasks") or 0)}}},
            "task": of.array_tasks(job) if of.is_array_rest(job) else None,
            "task_id": job.get("array_task_id"),
        },
        "association": {
            "account": job.get("account") or "",
            "cluster": of.cluster_name(),
            "partition": None,
            "user": job["user_name"],
        },
        "cluster": of.cluster_name(),
        "constraints": job.get("constraints") or "",
        "container": job.get("container") or job.get("container_image"),
        "derived_exit_code": {
            "status": "ERROR" if job.get("derived_exit_status") else "SUCCESS",
            "return_code": int(job.get("derived_exit_status") or 0),
        },
        "time": {
            **_times(job),
            "eligible": _moment(job.get("eligible_time")),
            "submission": _moment(job["submit_time"]),
            "limit": None if limit is None else int(limit) // 60,
        },
        "exit_code": exit_code(job),
        "flags": ["CLEAR_SCHEDULING"],
        "group": of.user_ids(job["user_name"])[2],
        "het": _het(job),
        "job_id": int(job["job_id"]),
        "name": job["name"],
        "mcs": {"label": job.get("mcs_label") or ""},
        "nodes": job.get("node_list") or "None assigned",
        "partition": job["partition"],
        "priority": of.priority(job),
        "qos": job.get("qos") or "normal",
        "required": {"CPUs": int(job["tasks"]) * int(job["cpus_per_task"]), "memory": job.get("memory_per_node") or 0},
        "kill_request_user": job.get("requested_end_actor"),
        "reservation": {"id": 0, "name": job.get("reservation") or 0},
        "state": {"current": job["state"], "reason": of.reason(job)},
        "steps": [step_record(step) for step in steps],
        "tres": {
            "allocated": _tres(job, allocated=True, billing=True),
            "requested": _tres(job, allocated=False, billing=True),
        },
        "user": job["user_name"],
        "wckey": {"wckey": job.get("wckey") or "", "flags": []},
        "working_directory": job["current_working_directory"],
    }
