"""一个作业 -> squeue --json 与 slurmrestd 的 jobs 里的一条（openapi/v0.0.38；键与 Slurm 22.05 的逐个相同）。"""

from collections.abc import Mapping
from typing import Any

from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.job_tres import slurm_order, tres
from scns_conductor.slurm.table.times import epoch

Job = Mapping[str, Any]

# 这里没有对应的东西，值与 Slurm 里没有设置时相同。
_ABSENT: dict[str, Any] = {
    "association_id": 0, "batch_features": "", "burst_buffer": "", "burst_buffer_state": "", "cluster_features": "",
    "cpu_frequency_minimum": None, "cpu_frequency_maximum": None, "cpu_frequency_governor": None,
    "cpus_per_tres": "", "delay_boot": 0, "federation_origin": "", "federation_siblings_active": "",
    "federation_siblings_viable": "", "tasks_per_board": 0,
    "preempt_time": 0, "profile": None, "reboot": False, "resize_time": 0, "sockets_per_board": 0,
    "system_comment": "", "tres_bind": "", "tres_freq": "",
    "tres_per_socket": "",
}  # fmt: skip


_LAYOUT = ("sockets_per_node", "cores_per_socket", "threads_per_core", "tasks_per_core", "tasks_per_socket")


def _moment(value: Any) -> int:
    return int(epoch(value) or 0)


def _minutes(seconds: Any) -> int | None:
    return None if seconds is None else -(-int(seconds) // 60)


def wait_status(job: Job) -> int:
    """exit_code 是 wait(2) 的状态：退出码在高字节，信号在低字节。"""
    return int(job.get("exit_status") or 0) << 8 | int(job.get("exit_signal") or 0)


def _end(job: Job) -> int:
    if job.get("end_time"):
        return _moment(job["end_time"])
    start, limit = epoch(job.get("start_time")), of.limit_s(job)
    return 0 if start is None or limit is None else int(start + limit + float(job.get("suspended_s") or 0))


def allocated_resources(job: Job) -> dict[str, Any]:
    """分到的资源；各节点上的细目只有总数，核的位置在节点上。"""
    if not job.get("allocated_cpus") or not job.get("node_list"):
        return {}
    from scns_conductor.core.hostlist import expand

    names = expand(job["node_list"])
    share = int(job["allocated_memory"]) // max(1, len(names))
    nodes = [
        {"sockets": {}, "nodename": name, "cpus_used": 0, "memory_used": 0, "memory_allocated": share} for name in names
    ]
    return {
        "job_resources": {
            "nodes": job["node_list"],
            "allocated_cpus": job["allocated_cpus"],
            "allocated_hosts": job["allocated_nodes"],
            "allocated_nodes": nodes,
        }
    }


def _flags(job: Job) -> list[str]:
    found = []
    if job.get("kill_on_invalid_dependency") is not None:
        found.append(f"{'' if job['kill_on_invalid_dependency'] else 'NO_'}KILL_INVALID_DEPENDENCY")
    found += ["CRON_JOB"] if job.get("cron") else []
    found += [flag for flag in ("SPREAD_JOB", "USE_MIN_NODES") if job.get(flag.lower())]
    return [*found, *(["JOB_WAS_RUNNING"] if job.get("start_time") else [])]


def job_record(job: Job) -> dict[str, Any]:
    """v0.0.38 的一条；时刻是 Unix 秒，时限是分钟（不限为 null），内存是 MiB。"""
    uid, gid, group = of.user_ids(job["user_name"])
    array = job.get("array_job_id") is not None
    tasks = of.array_tasks(job) if of.is_array_rest(job) else None
    return {
        **_ABSENT,
        "container": job.get("container") or job.get("container_image") or "",
        "account": job.get("account") or "",
        "accrue_time": _moment(job.get("eligible_time")),
        "admin_comment": job.get("admin_comment") or "",
        "array_job_id": int(job["array_job_id"]) if array else 0,
        "array_task_id": job.get("array_task_id"),
        "array_max_tasks": (job.get("array_max_tasks") or 0) if array else 0,
        "array_task_string": tasks or "",
        "batch_flag": not job.get("interactive"),
        "batch_host": job.get("batch_host") or "",
        "flags": _flags(job),
        "cluster": of.cluster_name(),
        "command": job.get("command") or "",
        "contiguous": bool(job.get("contiguous")),
        "core_spec": job.get("core_specification"),
        "thread_spec": job.get("thread_specification"),
        "prefer": job.get("prefer") or "",
        **{name: job.get(name) for name in _LAYOUT},
        "comment": job.get("comment") or "",
        "billable_tres": float(job["allocated_cpus"]) if job.get("allocated_cpus") else None,
        "cpus_per_task": job["cpus_per_task"] if int(job["cpus_per_task"]) > 1 else None,
        "deadline": _moment(job.get("deadline")),
        "dependency": of.dependency(job).replace("(null)", ""),
        "derived_exit_code": int(job.get("derived_exit_status") or 0) << 8,
        "eligible_time": _moment(job.get("eligible_time")),
        "end_time": _end(job),
        "excluded_nodes": job.get("excluded_nodes") or "",
        "exit_code": wait_status(job),
        "features": job.get("constraints") or "",
        "gres_detail": str(job["allocated_gres"]).split(",") if job.get("allocated_gres") else [],
        "group_id": int(gid),
        "group_name": group,
        "het_job_id": int(job.get("het_job_id") or 0),
        "het_job_id_set": job.get("het_job_id_set") or "",
        "het_job_offset": job.get("het_job_offset") or 0,
        "job_id": int(job["job_id"]),
        **allocated_resources(job),
        "job_state": of.state(job),
        "last_sched_evaluation": _moment(job.get("start_time")),
        "licenses": job.get("licenses") or "",
        "max_cpus": 0,
        "mcs_label": job.get("mcs_label") or "",
        "memory_per_tres": f"gres/gpu:{job['memory_per_gpu']}" if job.get("memory_per_gpu") else "",
        "max_nodes": job.get("maximum_nodes") or 0,
        "name": job["name"],
        "nodes": job.get("node_list") or "",
        "nice": job.get("nice") or None,
        "tasks_per_node": job.get("tasks_per_node") or 0,
        "cpus": of.cpus(job),
        "node_count": of.nodes(job),
        "tasks": job["tasks"],
        "partition": job["partition"],
        "memory_per_node": job.get("memory_per_node"),
        "memory_per_cpu": job.get("memory_per_cpu"),
        "minimum_cpus_per_node": job.get("minimum_cpus_per_node") or job["cpus_per_task"],
        "minimum_tmp_disk_per_node": job.get("temporary_disk_per_node") or 0,
        "pre_sus_time": 0,
        "priority": of.priority(job),
        "qos": job.get("qos") or "",
        "required_nodes": job.get("required_nodes") or "",
        "requeue": bool(job["requeue"]),
        "restart_cnt": job["restart_count"],
        "resv_name": job.get("reservation") or "",
        "shared": None if not job.get("exclusive") else "none",
        "show_flags": ["SHOW_ALL", "SHOW_DETAIL", "SHOW_LOCAL"],
        "start_time": _moment(job.get("start_time") or job.get("expected_start_time")),
        "state_description": job.get("error_msg") or "",
        "state_reason": of.reason(job),
        "standard_error": of.output_path(job, "standard_error"),
        "standard_input": of.output_path(job, "standard_input"),
        "standard_output": of.output_path(job, "standard_output"),
        "submit_time": _moment(job["submit_time"]),
        "suspend_time": _moment(job.get("suspend_time")),
        "time_limit": _minutes(job.get("time_limit")),
        "time_minimum": _minutes(job.get("time_minimum")) or 0,
        "tres_per_job": job.get("tres_per_job") or "",
        "tres_per_node": job.get("tres_per_node") or "",
        "tres_per_task": job.get("tres_per_task") or "",
        "tres_req_str": slurm_order(tres(job, allocated=False)),
        "tres_alloc_str": slurm_order(tres(job, allocated=True)),
        "user_id": int(uid),
        "user_name": job["user_name"],
        "wckey": job.get("wckey") or "",
        "current_working_directory": job["current_working_directory"],
    }


# v0.0.39 起这些数写成 {"set", "infinite", "number"}（Slurm 的 NO_VAL 与 INFINITE）。
NUMBERS_39 = frozenset(
    {"array_job_id", "array_task_id", "array_max_tasks", "cores_per_socket", "billable_tres", "cpus_per_task",
     "cpu_frequency_minimum", "cpu_frequency_maximum", "cpu_frequency_governor", "delay_boot", "derived_exit_code",
     "exit_code", "het_job_id", "het_job_offset", "max_cpus", "max_nodes", "tasks_per_core", "tasks_per_node",
     "tasks_per_socket", "tasks_per_board", "cpus", "node_count", "tasks", "memory_per_cpu", "memory_per_node",
     "minimum_cpus_per_node", "minimum_tmp_disk_per_node", "priority", "sockets_per_node", "time_limit",
     "time_minimum", "threads_per_core"}
)  # fmt: skip


def number(value: Any, *, infinite: bool = False) -> dict[str, Any]:
    """v0.0.39 的数；None 是没有设置。"""
    return {"set": value is not None, "infinite": infinite and value is None, "number": value or 0}


def job_record_39(job: Job) -> dict[str, Any]:
    """v0.0.39 的一条：数带 set 与 infinite，几个键换了样子。"""
    record = job_record(job)
    wrapped: dict[str, Any] = {
        key: number(value, infinite=key == "time_limit") if key in NUMBERS_39 else value
        for key, value in record.items()
    }
    return wrapped | {
        "nice": job.get("nice") or 0,
        "hold": bool(job.get("hold")),
        "core_spec": job.get("core_specification") or 0,
        "thread_spec": job.get("thread_specification") or 0,
        "profile": ["NOT_SET"],
        "shared": ["none"] if job.get("exclusive") else [],
        "exclusive": ["true"] if job.get("exclusive") else [job["exclusive_to"]] if job.get("exclusive_to") else [],
        "oversubscribe": bool(job.get("oversubscribe")),
        "show_flags": ["ALL", "DETAIL", "LOCAL"],
        "mail_type": [word for word in str(job.get("mail_type") or "").split(",") if word],
        "mail_user": job.get("mail_user") or "",
        "extra": job.get("extra") or "",
        "failed_node": "",
        "network": "",
        "allocating_node": job.get("submit_host") or "",
        "minimum_switches": job.get("required_switches") or 0,
        "scheduled_nodes": job.get("expected_nodes") or "",
    }
