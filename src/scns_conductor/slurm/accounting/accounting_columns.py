"""sacct 的列（sacct(1) 的 Job Accounting Fields）：名字、缺省宽度、取值。"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.job_tres import memory_total, tres
from scns_conductor.slurm.table.times import duration, elapsed_s, epoch, instant, memory

Row = Mapping[str, Any]


class Field(NamedTuple):
    """一列；width 为负是左对齐。

    needs 是取值要用到的 API 字段（空格相隔），不清楚的是 None：全部都取。写了的，作业的行（不是步的、没有换单位的）
    取值只看它们。
    """

    name: str
    width: int
    value: Callable[[Row], str]
    needs: str | None = None


def is_step(row: Row) -> bool:
    """作业步的行；step 是 batch、extern 或步号。"""
    return bool(row.get("step"))


def expanded_output(row: Row) -> dict[str, str]:
    """--expand-patterns：输出的路径里能确定的都展开；没有写标准错误的仍是空的。"""
    names = [name for name in ("standard_output", "standard_error", "standard_input") if row.get(name)]
    return {name: of.output_path(row, name) for name in dict.fromkeys(("standard_output", *names))}


def job_id(row: Row) -> str:
    """12、12_3、12_[4-9]；作业步后面是 .batch。"""
    return of.display_id(row) + (f".{row['step']}" if is_step(row) else "")


def raw_id(row: Row) -> str:
    """数字的作业号。"""
    return str(row["job_id"]) + (f".{row['step']}" if is_step(row) else "")


def state(row: Row) -> str:
    """缺省是平常的 CANCELLED：很多客户端只认它；设了 SCNS_SACCT_CANCELLED_BY 才写 CANCELLED by UID。"""
    word = str(row["state"])
    if word in ("RUNNING", "SUSPENDED") and not is_step(row) and row.get("requested_end_state") == "CANCELLED":
        # 已经取消，任务还在宽限里：Slurm 的记账此刻就是 CANCELLED（squeue 里是 COMPLETING）。
        word = "CANCELLED"
    if word == "CANCELLED" and not is_step(row) and os.environ.get("SCNS_SACCT_CANCELLED_BY"):
        return f"CANCELLED by {of.user_ids(row.get('requested_end_actor') or row['user_name'])[0]}"
    return word


def exit_code(row: Row) -> str:
    """退出码:信号；没有结束、取消的作业（不是它的步）是 0:0。"""
    if row["state"] == "CANCELLED" and not is_step(row):
        return "0:0"
    return f"{row.get('exit_status') or 0}:{row.get('exit_signal') or 0}"


def _job_only(value: Callable[[Row], str]) -> Callable[[Row], str]:
    """作业步没有这一项。"""
    return lambda row: "" if is_step(row) else value(row)


def _step_only(value: Callable[[Row], str]) -> Callable[[Row], str]:
    """只有作业步有这一项。"""
    return lambda row: value(row) if is_step(row) else ""


def _clock(seconds: float | None) -> str:
    """CPU 时间：MM:SS.mmm，过一小时是 [D-]HH:MM:SS。"""
    value = float(seconds or 0)
    if value >= 3600:
        return duration(value)
    return f"{int(value) // 60:02d}:{value % 60:06.3f}"


_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}


def _amount(size: float, row: Row, plain: str) -> str:
    """字节数；row 里有 --units 时换成那个单位，--noconvert（单位是空的）时是字节本身，否则是 plain。"""
    unit = row.get("units")
    if unit is None:
        return plain
    if not unit:
        return str(int(size))
    value = size / _UNITS[unit]
    return f"{int(value)}{unit}" if value == int(value) else f"{value:.2f}{unit}"


def _kilobytes(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else _amount(int(value) * 1024, row, f"{int(value)}K")


def _megabytes(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else _amount(int(value), row, f"{int(value) / 2**20:.2f}M")


def _tres_text(row: Row, *, allocated: bool) -> str:
    """作业步没有 billing；--units 时内存换单位。"""
    text = tres(row, allocated=allocated)
    parts = [part for part in text.split(",") if not (is_step(row) and part.startswith("billing="))]
    if row.get("units"):
        amount = int(row["allocated_memory"]) if allocated else memory_total(row)
        shown = _amount(amount * 1024**2, row, "")
        parts = [f"mem={shown}" if part.startswith("mem=") else part for part in parts]
    return ",".join(parts)


def _usage_in(row: Row) -> str:
    """步用掉的 CPU、读的字节、内存峰值；没有采到的不写。"""
    total = int(_cpu_total(row))
    parts = [f"cpu={duration(total)}", f"energy={energy_of(row)}"]
    if row.get("read_bytes") is not None:
        parts.append(f"fs/disk={int(row['read_bytes'])}")
    if row.get("max_gpu_memory_mb") is not None and _has_gpus(row):
        parts.append(f"gres/gpumem={int(row['max_gpu_memory_mb'])}M")
    if row.get("gpu_s") is not None and _has_gpus(row):
        # 各块忙的百分数之和，同 Slurm。
        parts.append(f"gres/gpuutil={round(100 * float(row['gpu_s']) / max(1.0, elapsed_s(row)))}")
    if row.get("max_rss_kb") is not None:
        parts.append(f"mem={_kilobytes(row, 'max_rss_kb')}")
    return ",".join(parts)


def _has_gpus(row: Row) -> bool:
    """GPU 的用量是整个作业的，写在脚本（占位）的那一行上；各步没有自己的。"""
    return row.get("step") in (None, "batch", "extern")


def energy_of(row: Row) -> int:
    """GPU 的能耗（焦耳）；别的没有采集，是 0。"""
    return round(float(row.get("gpu_energy_j") or 0)) if _has_gpus(row) else 0


def _energy_text(row: Row) -> str:
    """焦耳，一千以上写成 1.50K。"""
    joules = float(energy_of(row))
    for unit in ("", "K", "M", "G"):
        if joules < 1000 or unit == "G":
            return f"{joules:.0f}" if not unit else f"{joules:.2f}{unit}"
        joules /= 1000
    raise AssertionError


def _usage_out(row: Row) -> str:
    written = row.get("written_bytes")
    return "energy=0" if written is None else f"energy=0,fs/disk={int(written)}"


def _usage_nodes(row: Row) -> str:
    """最多的在哪个节点。"""
    host = str(row.get("batch_host") or "")
    return ",".join(f"{part.partition('=')[0]}={host}" for part in _usage_in(row).split(","))


def _frequency(row: Row) -> str:
    return "0" if row.get("step") == "batch" else "Unknown"


def _requested_memory(row: Row) -> str:
    for name, mark in (("memory_per_node", ""), ("memory_per_cpu", "")):
        if row.get(name):
            count = of.cpus(row) if name == "memory_per_cpu" else of.nodes(row)
            total = int(row[name]) * count
            return (_amount(total * 1024**2, row, "") if row.get("units") else memory(total)) + mark
    return "0"


def _step_nodes(row: Row) -> int:
    """batch 只在一个节点上。"""
    return 1 if row["step"] == "batch" else int(row["allocated_nodes"])


def _started(row: Row) -> str:
    return instant(row["start_time"], "Unknown" if not row.get("end_time") else "None")


def _allocated_cpus(row: Row) -> str:
    return str(row.get("allocated_cpus") or 0)


def _cpu_total(row: Row) -> float:
    return float(row.get("cpu_user_s") or 0) + float(row.get("cpu_system_s") or 0)


def _waited_s(row: Row) -> float | None:
    begun = epoch(row.get("start_time")) or epoch(row.get("end_time"))
    queued = epoch(row.get("eligible_time")) or epoch(row["submit_time"])
    return None if begun is None or queued is None else max(0.0, begun - queued)


def _planned(row: Row) -> str:
    waited = _waited_s(row)
    return "" if waited is None else duration(waited)


def _planned_cpu_s(row: Row) -> int:
    """等了多久，乘以要的 CPU 数。"""
    return int(_waited_s(row) or 0) * of.cpus(row)


def _wait_breakdown(row: Row) -> str:
    """本系统自己的一列：等待花在各个原因上多久，多的在前；None 是等调度的那一会儿。"""
    parts = sorted((row.get("wait_breakdown") or {}).items(), key=lambda item: -float(item[1]))
    return ",".join(f"{name}={duration(float(spent))}" for name, spent in parts)


def _flags(row: Row) -> str:
    # 拼写同 Slurm。
    return "SchedMain,StartRecieved" if row.get("start_time") else "SchedMain"


_ELAPSED_NEEDS = "start_time end_time suspend_time state suspended_s"
_TRES_NEEDS = (
    "allocated_cpus allocated_memory allocated_gres allocated_nodes tasks cpus_per_task minimum_nodes memory_per_node "
    "memory_per_cpu memory_per_gpu tres_per_node tres_per_job tres_per_task"
)
_PLANNED_NEEDS = "start_time end_time eligible_time submit_time"

FIELDS = {
    field.name.lower(): field
    for field in (
        Field("Account", 10, lambda row: str(row.get("account") or ""), "account"),
        Field("AdminComment", 19, _job_only(lambda row: str(row.get("admin_comment") or ""))),
        Field("AllocCPUS", 10, _allocated_cpus, "allocated_cpus"),
        Field("AllocNodes", 10, lambda row: str(row.get("allocated_nodes") or 0), "allocated_nodes"),
        Field("AllocTRES", 10, lambda row: _tres_text(row, allocated=True), _TRES_NEEDS),
        Field("AssocID", 7, _job_only(lambda _row: "0")),
        Field("AveCPU", 10, _step_only(lambda row: duration(_cpu_total(row) / (row.get("step_tasks") or 1)))),
        Field("AveCPUFreq", 10, lambda _row: ""),
        Field("AveDiskRead", 14, _step_only(lambda row: _megabytes(row, "read_bytes"))),
        Field("AveDiskWrite", 14, _step_only(lambda row: _megabytes(row, "written_bytes"))),
        Field("AvePages", 10, lambda _row: ""),
        Field("AveRSS", 10, _step_only(lambda row: _kilobytes(row, "max_rss_kb"))),
        Field("AveVMSize", 10, lambda _row: ""),
        Field("BlockID", 16, lambda _row: ""),
        Field("Cluster", 10, lambda _row: of.cluster_name(), ""),
        Field("Comment", 14, _job_only(lambda row: str(row.get("comment") or "")), "comment"),
        Field("Constraints", 19, _job_only(lambda row: str(row.get("constraints") or ""))),
        Field("ConsumedEnergy", 14, _step_only(_energy_text)),
        Field("ConsumedEnergyRaw", 17, _step_only(lambda row: str(energy_of(row)))),
        Field(
            "Container",
            19,
            _job_only(lambda row: str(row.get("container") or row.get("container_image") or "")),
            "container container_image",
        ),
        Field(
            "CPUTime",
            10,
            lambda row: duration(elapsed_s(row) * int(row.get("allocated_cpus") or 0)),
            _ELAPSED_NEEDS + " allocated_cpus",
        ),
        Field(
            "CPUTimeRAW",
            10,
            lambda row: str(int(elapsed_s(row)) * int(row.get("allocated_cpus") or 0)),
            _ELAPSED_NEEDS + " allocated_cpus",
        ),
        Field("DBIndex", 10, _job_only(lambda row: str(row["job_id"])), "job_id"),
        Field("DerivedExitCode", 15, _job_only(lambda row: f"{row.get('derived_exit_status') or 0}:0")),
        Field("Elapsed", 10, lambda row: duration(elapsed_s(row)), _ELAPSED_NEEDS),
        Field("ElapsedRaw", 10, lambda row: str(int(elapsed_s(row))), _ELAPSED_NEEDS),
        Field("Eligible", 19, _job_only(lambda row: instant(row.get("eligible_time"), "Unknown")), "eligible_time"),
        Field("End", 19, lambda row: instant(row.get("end_time"), "Unknown"), "end_time"),
        Field("ExitCode", 8, exit_code, "state exit_status exit_signal"),
        Field("Extra", 19, _job_only(lambda row: str(row.get("extra") or ""))),
        Field("FailedNode", 15, lambda _row: ""),
        Field("Flags", 20, _job_only(_flags)),
        Field("GID", 6, _job_only(lambda row: of.user_ids(row["user_name"])[1]), "user_name"),
        Field("Group", 9, _job_only(lambda row: of.user_ids(row["user_name"])[2]), "user_name"),
        Field(
            "JobID",
            -12,
            job_id,
            "job_id array_job_id array_task_id array_remaining array_max_tasks het_job_id het_job_offset",
        ),
        Field("JobIDRaw", -12, raw_id, "job_id"),
        Field(
            "JobName",
            10,
            lambda row: str(row["step"] if row.get("step") in ("batch", "extern") else row["name"]),
            "name",
        ),
        Field("Licenses", 20, _job_only(lambda row: str(row.get("licenses") or "")), "licenses"),
        Field("Layout", 9, _step_only(lambda _row: "Unknown")),
        Field("MaxDiskRead", 12, _step_only(lambda row: _megabytes(row, "read_bytes"))),
        Field("MaxDiskReadNode", 15, _step_only(lambda row: str(row.get("batch_host") or ""))),
        Field("MaxDiskReadTask", 15, _step_only(lambda _row: "0")),
        Field("MaxDiskWrite", 12, _step_only(lambda row: _megabytes(row, "written_bytes"))),
        Field("MaxDiskWriteNode", 16, _step_only(lambda row: str(row.get("batch_host") or ""))),
        Field("MaxDiskWriteTask", 16, _step_only(lambda _row: "0")),
        Field("MaxPages", 8, lambda _row: ""),
        Field("MaxPagesNode", 12, lambda _row: ""),
        Field("MaxPagesTask", 14, lambda _row: ""),
        Field("MaxRSS", 10, _step_only(lambda row: _kilobytes(row, "max_rss_kb")), "max_rss_kb"),
        Field("MaxRSSNode", 10, _step_only(lambda row: str(row.get("batch_host") or "")), "batch_host"),
        Field("MaxRSSTask", 10, _step_only(lambda _row: "0")),
        Field("MaxVMSize", 10, lambda _row: ""),
        Field("MaxVMSizeNode", 14, lambda _row: ""),
        Field("MaxVMSizeTask", 14, lambda _row: ""),
        Field("McsLabel", 9, lambda _row: ""),
        Field("MinCPU", 10, _step_only(lambda row: duration(_cpu_total(row) / (row.get("step_tasks") or 1)))),
        Field("MinCPUNode", 10, _step_only(lambda row: str(row.get("batch_host") or ""))),
        Field("MinCPUTask", 10, _step_only(lambda _row: "0")),
        Field("NCPUS", 10, _allocated_cpus, "allocated_cpus"),
        Field(
            "NNodes",
            8,
            lambda row: str(_step_nodes(row) if is_step(row) else of.nodes(row)),
            "allocated_nodes minimum_nodes",
        ),
        Field("NodeList", 15, lambda row: str(row.get("node_list") or "None assigned"), "node_list"),
        Field("NTasks", 8, _step_only(lambda row: str(row.get("step_tasks") or 1)), ""),
        Field("Partition", 10, _job_only(lambda row: str(row["partition"])), "partition"),
        Field("Planned", 10, _job_only(_planned), _PLANNED_NEEDS),
        Field("PlannedCPU", 10, _job_only(lambda row: duration(_planned_cpu_s(row)))),
        Field("PlannedCPURAW", 10, _job_only(lambda row: str(_planned_cpu_s(row)))),
        Field("Priority", 10, _job_only(lambda row: str(of.priority(row))), "job_id hold priority"),
        Field("QOS", 10, _job_only(lambda row: str(row.get("qos") or "normal")), "qos"),
        Field("QOSRAW", 10, _job_only(lambda _row: "1")),
        Field("QOSREQ", 10, _job_only(lambda row: str(row.get("qos") or "")), "qos"),
        Field("Reason", 22, _job_only(of.reason), "reason"),
        Field("ReqCPUFreq", 10, _frequency),
        Field("ReqCPUFreqGov", 13, _frequency),
        Field("ReqCPUFreqMax", 13, _frequency),
        Field("ReqCPUFreqMin", 13, _frequency),
        Field("ReqCPUS", 8, lambda row: str(int(row["tasks"]) * int(row["cpus_per_task"])), "tasks cpus_per_task"),
        Field("ReqMem", 10, _job_only(_requested_memory), _TRES_NEEDS),
        Field(
            "ReqNodes",
            8,
            lambda row: str(_step_nodes(row) if is_step(row) else row["minimum_nodes"]),
            "allocated_nodes minimum_nodes",
        ),
        Field("ReqTRES", 10, _job_only(lambda row: _tres_text(row, allocated=False)), _TRES_NEEDS),
        Field("Reservation", 20, _job_only(lambda row: str(row.get("reservation") or "")), "reservation"),
        Field("ReservationId", 15, lambda _row: ""),
        # 22.05 的名字；后来的叫 Planned。
        Field("Reserved", 10, _job_only(_planned), _PLANNED_NEEDS),
        Field("Restarts", 10, _job_only(lambda row: str(row.get("restart_count") or 0)), "restart_count"),
        Field("ResvCPU", 10, _job_only(lambda row: duration(_planned_cpu_s(row)))),
        Field("ResvCPURAW", 10, _job_only(lambda row: str(_planned_cpu_s(row)))),
        Field("Start", 19, _started, "start_time end_time"),
        # 写的是什么就是什么：%j 等不展开。
        Field("StdErr", 20, _job_only(lambda row: str(row.get("standard_error") or "")), "standard_error"),
        Field("StdIn", 20, _job_only(lambda row: str(row.get("standard_input") or "/dev/null")), "standard_input"),
        Field("StdOut", 20, _job_only(lambda row: str(row.get("standard_output") or "")), "standard_output"),
        Field("State", 10, state, "state requested_end_state requested_end_actor user_name"),
        Field(
            "Submit",
            19,
            lambda row: instant(row["start_time"] if is_step(row) else row["submit_time"], "Unknown"),
            "start_time submit_time",
        ),
        Field("SubmitLine", 20, lambda _row: ""),
        Field("Suspended", 10, lambda row: duration(float(row.get("suspended_s") or 0)), "suspended_s"),
        Field("SystemComment", 19, lambda _row: ""),
        Field("SystemCPU", 10, lambda row: _clock(row.get("cpu_system_s")), "cpu_system_s"),
        Field(
            "Timelimit", 10, _job_only(lambda row: duration(of.limit_s(row))), "time_limit deadline begin_time state"
        ),
        Field(
            "TimelimitRaw",
            12,
            _job_only(lambda row: "UNLIMITED" if row.get("time_limit") is None else str(int(row["time_limit"]) // 60)),
            "time_limit",
        ),
        Field("TotalCPU", 10, lambda row: _clock(_cpu_total(row)), "cpu_user_s cpu_system_s"),
        Field("TRESUsageInAve", 14, _step_only(_usage_in)),
        Field("TRESUsageInMax", 14, _step_only(_usage_in)),
        Field("TRESUsageInMaxNode", 18, _step_only(_usage_nodes)),
        Field("TRESUsageInMaxTask", 18, lambda _row: ""),
        Field("TRESUsageInMin", 14, lambda _row: ""),
        Field("TRESUsageInMinNode", 18, lambda _row: ""),
        Field("TRESUsageInMinTask", 18, lambda _row: ""),
        Field("TRESUsageInTot", 14, _step_only(_usage_in)),
        Field("TRESUsageOutAve", 15, _step_only(_usage_out)),
        Field("TRESUsageOutMax", 15, _step_only(_usage_out)),
        Field("TRESUsageOutMaxNode", 19, lambda _row: ""),
        Field("TRESUsageOutMaxTask", 19, lambda _row: ""),
        Field("TRESUsageOutMin", 15, lambda _row: ""),
        Field("TRESUsageOutMinNode", 19, lambda _row: ""),
        Field("TRESUsageOutMinTask", 19, lambda _row: ""),
        Field("TRESUsageOutTot", 15, _step_only(_usage_out)),
        Field("UID", 6, _job_only(lambda row: of.user_ids(row["user_name"])[0]), "user_name"),
        Field("User", 9, _job_only(lambda row: str(row["user_name"])), "user_name"),
        Field("UserCPU", 10, lambda row: _clock(row.get("cpu_user_s")), "cpu_user_s"),
        Field("WaitBreakdown", 40, _job_only(_wait_breakdown), "wait_breakdown"),
        Field("WCKey", 10, _job_only(lambda row: str(row.get("wckey") or ""))),
        Field("WCKeyID", 8, _job_only(lambda _row: "0")),
        Field("WorkDir", 20, _job_only(lambda row: str(row["current_working_directory"])), "current_working_directory"),
    )
}
DEFAULT_FORMAT = "jobid,jobname,partition,account,alloccpus,state,exitcode"
BRIEF_FORMAT = "jobid,state,exitcode"
LONG_FORMAT = (
    "jobid,jobidraw,jobname,partition,maxvmsize,maxvmsizenode,maxvmsizetask,avevmsize,maxrss,maxrssnode,maxrsstask,"
    "averss,maxpages,maxpagesnode,maxpagestask,avepages,mincpu,mincpunode,mincputask,avecpu,ntasks,alloccpus,elapsed,"
    "state,exitcode,avecpufreq,reqcpufreqmin,reqcpufreqmax,reqcpufreqgov,reqmem,consumedenergy,maxdiskread,"
    "maxdiskreadnode,maxdiskreadtask,avediskread,maxdiskwrite,maxdiskwritenode,maxdiskwritetask,avediskwrite,"
    "reqtres,alloctres,tresusageinave,tresusageinmax,tresusageinmaxnode,tresusageinmaxtask,tresusageinmin,"
    "tresusageinminnode,tresusageinmintask,tresusageintot,tresusageoutmax,tresusageoutmaxnode,tresusageoutmaxtask,"
    "tresusageoutave,tresusageouttot"
)
