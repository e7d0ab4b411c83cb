"""服务器的错误 -> Slurm 的那句话与它的号（slurm_errno.c）；命令与 slurmrestd 的接口共用。"""

NODE_CONFIGURATION = "Requested node configuration is not available"
# 服务器的错误码 -> Slurm 的错误（slurm_errno.c）。
BY_CODE = {
    "partition_unknown": "Invalid partition name specified",
    "partition_exists": "Invalid partition name specified",
    "partition_not_found": "Invalid partition name specified",
    "job_not_found": "Invalid job id specified",
    "het_job_component": "Operation not permitted on individual component of heterogeneous job",
    "not_job_owner": "Access/permission denied",
    "admin_required": "Access/permission denied",
    "account_out_of_reach": "Access/permission denied",
    "auditor_reads_only": "Access/permission denied",
    "token_scope": "Access/permission denied",
    "forbidden": "Access/permission denied",
    "unauthorized": "Protocol authentication error",
    "job_not_pending": "Job is no longer pending execution",
    "job_running": "Job is no longer pending execution",
    "job_pending": "Job is pending execution",
    "job_not_running": "Invalid job id specified",
    "step_not_found": "Invalid job id specified",
    "step_finished": "Job/step already completing or completed",
    "job_finished": "Job/step already completing or completed",
    "not_trigger_owner": "Access/permission denied",
    "root_jobs_disabled": "Access/permission denied",
    "job_not_suspended": "Job/step is not suspended",
    "job_preempted": "Requested operation is presently disabled",
    "requeue_disabled": "Requested operation is presently disabled",
    "array_invalid": "Invalid job array specification",
    "time_limit_exceeded": "Requested time limit is invalid (missing or exceeds some limit)",
    "node_limits_exceeded": NODE_CONFIGURATION,
    "memory_not_satisfiable": NODE_CONFIGURATION,
    "cpus_not_satisfiable": NODE_CONFIGURATION,
    "disk_not_satisfiable": NODE_CONFIGURATION,
    "node_count_invalid": "Node count specification invalid",
    "cpus_exceed_partition": "More processors requested than permitted",
    "node_unknown": "Invalid node name specified",
    "feature_unknown": "Invalid feature specification",
    "gres_unknown": "Invalid generic resource (gres) specification",
    "license_unknown": "Invalid license specification",
    "license_exceeded": "Invalid license specification",
    "deadline_past": "Requested time limit is invalid (missing or exceeds some limit)",
    "deadline_unreachable": "Requested time limit is invalid (missing or exceeds some limit)",
    "time_minimum_exceeds_limit": "Invalid time-min specification (exceeds job's time or other limits)",
    "partition_unavailable": "Required partition not available (inactive or drain)",
    "dependency_circular": "Circular job dependency",
    "dependency_self": "Job dependency problem",
    "node_not_found": "Invalid node name specified",
    "node_busy": "Requested nodes are busy",
    "node_alive": "Requested nodes are busy",
    "node_reserved": "Requested nodes are busy",
    "script_too_large": "Job script too large",
    "signal_unknown": "Invalid signal specification",
    "not_updatable": "Requested operation not supported on this system",
    "answer_timeout": "Socket timed out on send/recv operation",
    "account_unknown": "Invalid account or account/partition combination specified",
    "qos_unknown": "Invalid qos specification",
    "accounting_policy": "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "reservation_unknown": "Requested reservation is invalid",
    "reservation_not_found": "Requested reservation is invalid",
    "reservation_denied": "Access denied to requested reservation",
    "reservation_exists": "Duplicate reservation name",
    "reservation_in_use": "Requested reservation is in use",
}
BY_FIELD = {
    "dependency": "Job dependency problem",
    "constraints": "Invalid feature specification",
    "tres_per_job": "Invalid generic resource (gres) specification",
    "tres_per_node": "Invalid generic resource (gres) specification",
    "tres_per_task": "Invalid generic resource (gres) specification",
    "array": "Invalid job array specification",
    "time_limit": "Requested time limit is invalid (missing or exceeds some limit)",
    "time_minimum": "Requested time limit is invalid (missing or exceeds some limit)",
    "begin_time": "Invalid time specified",
    "licenses": "Invalid license specification",
    "nodes": "Node count specification invalid",
    "required_nodes": "Invalid node name specified",
    "excluded_nodes": "Invalid node name specified",
    "partition": "Invalid partition name specified",
    "account": "Invalid account or account/partition combination specified",
    "qos": "Invalid qos specification",
    "reservation": "Requested reservation is invalid",
}
# 提交被拒时 slurmctld 另附的一行（job_mgr.c）。
DETAILS = {
    "memory_not_satisfiable": "Memory specification can not be satisfied",
    "cpus_not_satisfiable": "CPU count per node can not be satisfied",
    "disk_not_satisfiable": "Temporary disk specification can not be satisfied",
}
# slurm_strerror 的号；表里没有的是 SLURM_ERROR。
NUMBERS = {
    "Invalid partition name specified": 2000, "Access/permission denied": 2002,
    "More processors requested than permitted": 2005, "Node count specification invalid": 2006,
    "Requested node configuration is not available": 2014, "Requested nodes are busy": 2016,
    "Invalid job id specified": 2017,
    "Invalid node name specified": 2018, "Job is pending execution": 2024, "Invalid feature specification": 2029,
    "Requested operation not supported on this system": 2036, "Requested operation is presently disabled": 2037,
    "Job dependency problem": 2038, "Invalid account or account/partition combination specified": 2045,
    "Invalid license specification": 2048,
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)": 2050,
    "Requested time limit is invalid (missing or exceeds some limit)": 2051,
    "Access denied to requested reservation": 2052, "Requested reservation is invalid": 2053,
    "Invalid time specified": 2054, "Requested reservation is in use": 2055, "Invalid qos specification": 2066,
    "Required partition not available (inactive or drain)": 2070, "Circular job dependency": 2071,
    "Invalid generic resource (gres) specification": 2072, "Job is no longer pending execution": 2073,
    "Invalid job array specification": 2081, "Duplicate reservation name": 2082,
    "Invalid time-min specification (exceeds job's time or other limits)": 2124,
}  # fmt: skip
SLURM_ERROR = -1
# 同一个错误码，出错的字段不同，话也不同的。
_BY_CODE_AND_FIELD = {("feature_unknown", "prefer"): "Invalid preferred feature specification"}


def slurm_words(code: str, field: str = "") -> str | None:
    """错误码（没有对应的就看出错的字段）换成 Slurm 的话；都没有是 None。"""
    field = field.rpartition(".")[2]
    return _BY_CODE_AND_FIELD.get((code, field)) or BY_CODE.get(code) or BY_FIELD.get(field)
