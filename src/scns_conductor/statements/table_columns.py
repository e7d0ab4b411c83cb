"""作业的各表的列，照 core/models 由 make openapi 写出，不要手改：代理与调度器的语句不必导入模型。"""

from typing import Any

# 提交时写明的（JobSpec）。
# fmt: off
JOB_SPEC: tuple[str, ...] = (
    "name", "user_name", "account", "partition", "qos", "reservation", "wckey", "argv", "environment",
    "current_working_directory", "standard_input", "standard_output", "standard_error", "open_mode", "umask", "tasks",
    "tasks_per_node", "cpus_per_task", "minimum_nodes", "maximum_nodes", "minimum_cpus_per_node", "memory_per_node",
    "memory_per_cpu", "memory_per_gpu", "temporary_disk_per_node", "tres_per_job", "tres_per_node", "tres_per_task",
    "constraints", "required_nodes", "excluded_nodes", "exclusive", "exclusive_to", "mcs_label", "oversubscribe",
    "contiguous", "spread_job", "use_min_nodes", "sockets_per_node", "cores_per_socket", "threads_per_core",
    "tasks_per_core", "tasks_per_socket", "core_specification", "thread_specification", "prefer", "no_kill",
    "container", "container_image", "licenses", "required_switches", "maximum_switch_wait_time", "distribution",
    "time_limit", "time_minimum", "begin_time", "deadline", "dependency", "kill_on_invalid_dependency", "hold",
    "priority", "nice", "requeue", "kill_warning_signal", "kill_warning_delay", "kill_warning_batch_only", "comment",
    "admin_comment", "extra", "mail_type", "mail_user", "array", "interactive", "data_source", "submit_host",
    "command",
)
# 没有写明时取的值；必须写明的不在其中。
JOB_SPEC_DEFAULTS: dict[str, Any] = {
    "account": None, "qos": None, "reservation": None, "wckey": None, "argv": [], "environment": {},
    "standard_input": None, "standard_output": None, "standard_error": None, "open_mode": None, "umask": None,
    "tasks": 1, "tasks_per_node": None, "cpus_per_task": 1, "minimum_nodes": 1, "maximum_nodes": None,
    "minimum_cpus_per_node": None, "memory_per_node": None, "memory_per_cpu": None, "memory_per_gpu": None,
    "temporary_disk_per_node": None, "tres_per_job": None, "tres_per_node": None, "tres_per_task": None,
    "constraints": None, "required_nodes": None, "excluded_nodes": None, "exclusive": False, "exclusive_to": None,
    "mcs_label": None, "oversubscribe": False, "contiguous": False, "spread_job": False, "use_min_nodes": False,
    "sockets_per_node": None, "cores_per_socket": None, "threads_per_core": None, "tasks_per_core": None,
    "tasks_per_socket": None, "core_specification": None, "thread_specification": None, "prefer": None,
    "no_kill": False, "container": None, "container_image": None, "licenses": None, "required_switches": None,
    "maximum_switch_wait_time": None, "distribution": None, "time_limit": None, "time_minimum": None,
    "begin_time": None, "deadline": None, "dependency": None, "kill_on_invalid_dependency": None, "hold": None,
    "priority": None, "nice": 0, "requeue": True, "kill_warning_signal": None, "kill_warning_delay": None,
    "kill_warning_batch_only": False, "comment": None, "admin_comment": None, "extra": None, "mail_type": None,
    "mail_user": None, "array": None, "interactive": False, "data_source": 'API', "submit_host": None,
    "command": None,
}
# 表 -> 列。
COLUMNS: dict[str, tuple[str, ...]] = {
    "jobs": (
        "name", "user_name", "account", "partition", "qos", "reservation", "wckey", "argv", "environment",
        "current_working_directory", "standard_input", "standard_output", "standard_error", "open_mode", "umask",
        "tasks", "tasks_per_node", "cpus_per_task", "minimum_nodes", "maximum_nodes", "minimum_cpus_per_node",
        "memory_per_node", "memory_per_cpu", "memory_per_gpu", "temporary_disk_per_node", "tres_per_job",
        "tres_per_node", "tres_per_task", "constraints", "required_nodes", "excluded_nodes", "exclusive",
        "exclusive_to", "mcs_label", "oversubscribe", "contiguous", "spread_job", "use_min_nodes", "sockets_per_node",
        "cores_per_socket", "threads_per_core", "tasks_per_core", "tasks_per_socket", "core_specification",
        "thread_specification", "prefer", "no_kill", "container", "container_image", "licenses", "required_switches",
        "maximum_switch_wait_time", "distribution", "time_limit", "time_minimum", "begin_time", "deadline",
        "dependency", "kill_on_invalid_dependency", "hold", "priority", "nice", "requeue", "kill_warning_signal",
        "kill_warning_delay", "kill_warning_batch_only", "comment", "admin_comment", "extra", "mail_type",
        "mail_user", "array", "interactive", "data_source", "submit_host", "command", "job_id", "script",
        "array_job_id", "array_task_id", "array_remaining", "array_base", "array_step", "array_listed",
        "array_max_tasks", "het_job_id", "het_job_offset", "het_job_id_set", "cron", "state", "reason", "error_msg",
        "restart_count", "revision", "submit_time", "eligible_time", "start_time", "end_time", "suspend_time",
        "suspended_s", "expected_start_time", "expected_nodes", "wait_breakdown", "reason_since", "exit_status",
        "exit_signal", "derived_exit_status", "configuring", "node_list", "batch_host", "allocated_nodes",
        "allocated_cpus", "allocated_memory", "allocated_gres", "process_id", "requested_partitions",
        "requested_reservation", "start_priority", "requested_end_state", "requested_end_reason",
        "requested_end_actor", "requested_end_grace", "cpu_user_s", "cpu_system_s", "max_rss_kb", "read_bytes",
        "written_bytes", "gpu_s", "max_gpu_memory_mb", "gpu_energy_j",
    ),
    "resource_allocations": (
        "allocation_id", "job_id", "restart_count", "node_name", "node_index", "cpus", "memory", "gres", "tasks",
        "lent_cpus", "cpu_ids", "gres_ids", "token_digest", "process_id", "created_at", "claimed_at", "released_at",
        "relay_chain",
    ),
    "job_events": (
        "event_id", "job_id", "restart_count", "event_time", "from_state", "to_state", "cause", "actor", "message",
    ),
    "job_outputs": (
        "job_id", "restart_count", "stream", "path", "content", "total_bytes",
    ),
    "job_samples": (
        "job_id", "restart_count", "node_name", "since", "width_s", "elapsed_s", "cpu_s", "memory_mb", "gpu_s",
        "gpu_memory_mb", "gpu_energy_j",
    ),
    "job_steps": (
        "job_id", "restart_count", "step_id", "name", "state", "tasks", "cpus_per_task", "nodes", "node_tasks",
        "node_cpus", "pending_nodes", "node_shares", "samples", "launch", "start_time", "end_time", "exit_status",
        "exit_signal", "cpu_user_s", "cpu_system_s", "max_rss_kb",
    ),
}
# fmt: on
