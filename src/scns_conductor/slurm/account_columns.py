"""sacct 的字段（sacct(1) 的 --format）；名字、次序、缺省宽度照 Slurm 22.05。"""

from collections.abc import Callable, Mapping

from scns_conductor.slurm import job_values as of
from scns_conductor.slurm.columns import Row
from scns_conductor.slurm.times import duration, elapsed_s, instant

Value = Callable[[Row], str]


def _exit_code(row: Row) -> str:
    return f"{row.get('exit_status') or 0}:{row.get('exit_signal') or 0}"


def _derived(row: Row) -> str:
    return "" if row.get("step") else f"{row.get('derived_exit_status') or 0}:0"


def _cpu_time(seconds: float | None) -> str:
    """MM:SS.mmm；一小时以上 [D-]HH:MM:SS。"""
    total = float(seconds or 0)
    if total >= 3600:
        return duration(total)
    return f"{int(total) // 60:02d}:{total % 60:06.3f}"


def _total_cpu(row: Row) -> str:
    return _cpu_time((row.get("cpu_user_s") or 0) + (row.get("cpu_system_s") or 0))


def _cpu_raw(row: Row) -> float:
    return elapsed_s(row) * of.cpus(row)


def _tres(row: Row) -> str:
    if not row.get("allocated_cpus"):
        return ""
    parts = [f"billing={of.cpus(row)}", f"cpu={of.cpus(row)}"]
    if row.get("allocated_memory"):
        parts.append(f"mem={row['allocated_memory']}M")
    parts.append(f"node={of.nodes(row)}")
    return ",".join(parts)


def _requested_tres(row: Row) -> str:
    if row.get("step"):
        return ""
    cpus = int(row["tasks"]) * int(row["cpus_per_task"])
    memory = f",mem={row['memory_per_node']}M" if row.get("memory_per_node") else ""
    return f"billing={cpus},cpu={cpus}{memory},node={row['minimum_nodes']}"


def _requested_memory(row: Row) -> str:
    if row.get("memory_per_cpu"):
        return f"{row['memory_per_cpu']}M"
    return f"{row['memory_per_node']}M" if row.get("memory_per_node") else ""


def _job_only(value: Value) -> Value:
    return lambda row: "" if row.get("step") else value(row)


def _step_only(value: Value) -> Value:
    return lambda row: value(row) if row.get("step") else ""


def _max_rss(row: Row) -> str:
    return f"{row['max_rss_kb']}K" if row.get("max_rss_kb") else "0"


def _end(row: Row) -> str:
    return instant(row.get("end_time"), "Unknown")


def _start(row: Row) -> str:
    return instant(row.get("start_time"), "None" if row.get("end_time") else "Unknown")


def _limit(row: Row) -> str:
    return "UNLIMITED" if row.get("time_limit") is None else duration(float(row["time_limit"]))


def _allocated(row: Row) -> str:
    return str(row.get("allocated_cpus") or 0)


def _step_id(row: Row, head: str) -> str:
    return f"{head}.{row['step']}" if row.get("step") else head


# 名字 -> (缺省宽度, 取值)；sacct 的列缺省右对齐。
FIELDS: Mapping[str, tuple[int, Value]] = {
    "Account": (10, of.text("account", "")),
    "AdminComment": (19, _job_only(of.text("admin_comment", ""))),
    "AllocCPUS": (10, _allocated),
    "AllocNodes": (10, lambda row: str(row.get("allocated_nodes") or 0)),
    "AllocTRES": (10, _tres),
    "AveRSS": (10, _step_only(_max_rss)),
    "Comment": (14, _job_only(of.text("comment", ""))),
    "Constraints": (15, _job_only(of.text("constraints", ""))),
    "CPUTime": (10, lambda row: duration(_cpu_raw(row))),
    "CPUTimeRAW": (10, lambda row: str(int(_cpu_raw(row)))),
    "DerivedExitCode": (15, _derived),
    "Elapsed": (10, lambda row: duration(elapsed_s(row))),
    "ElapsedRaw": (10, lambda row: str(int(elapsed_s(row)))),
    "Eligible": (19, lambda row: instant(row.get("eligible_time"), "Unknown")),
    "End": (19, _end),
    "ExitCode": (8, _exit_code),
    "Flags": (10, lambda _row: ""),
    "GID": (6, _job_only(lambda row: of.user_ids(row["user_name"])[1])),
    "Group": (9, _job_only(lambda row: of.user_ids(row["user_name"])[2])),
    "JobID": (12, lambda row: _step_id(row, of.display_id(row))),
    "JobIDRaw": (12, lambda row: _step_id(row, str(row["job_id"]))),
    "JobName": (10, lambda row: str(row.get("step") or row["name"])),
    "MaxRSS": (10, _step_only(_max_rss)),
    "NCPUS": (10, lambda row: str(of.cpus(row))),
    "NNodes": (8, lambda row: str(of.nodes(row))),
    "NodeList": (15, lambda row: row.get("node_list") or "None assigned"),
    "NTasks": (8, _step_only(lambda _row: "1")),
    "Partition": (10, _job_only(of.text("partition", ""))),
    "Priority": (10, _job_only(lambda row: str(of.priority(row)))),
    "QOS": (10, _job_only(of.text("qos", ""))),
    "Reason": (22, _job_only(of.reason)),
    "ReqCPUS": (8, lambda row: str(int(row["tasks"]) * int(row["cpus_per_task"]))),
    "ReqMem": (10, _job_only(_requested_memory)),
    "ReqNodes": (8, lambda row: str(row["minimum_nodes"])),
    "ReqTRES": (10, _requested_tres),
    "Reservation": (20, _job_only(of.text("reservation", ""))),
    "Restarts": (8, lambda row: str(row.get("restart_count") or 0)),
    "Start": (19, _start),
    "State": (10, of.text("state")),
    "Submit": (19, lambda row: instant(row.get("submit_time"), "Unknown")),
    "Suspended": (10, lambda row: duration(float(row.get("suspended_s") or 0))),
    "SystemCPU": (10, lambda row: _cpu_time(row.get("cpu_system_s"))),
    "Timelimit": (10, _job_only(_limit)),
    "TimelimitRaw": (
        13,
        _job_only(lambda row: "UNLIMITED" if row.get("time_limit") is None else str(int(row["time_limit"]) // 60)),
    ),
    "TotalCPU": (10, _total_cpu),
    "UID": (6, _job_only(lambda row: of.user_ids(row["user_name"])[0])),
    "User": (9, _job_only(of.text("user_name", ""))),
    "UserCPU": (10, lambda row: _cpu_time(row.get("cpu_user_s"))),
    "WCKey": (10, _job_only(of.text("wckey", ""))),
    "WorkDir": (20, _job_only(of.text("current_working_directory", ""))),
}
ALIASES = {"ncpu": "NCPUS", "jobname": "JobName", "nodes": "NodeList"}
CANONICAL = {name.lower(): name for name in FIELDS} | ALIASES
