"""作业的一行与一页：把 API 的值写成人看的文字。"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from scns_conductor.core.units import format_duration, format_memory_mb
from scns_conductor.language import told

LIST_FIELDS = (
    "job_id,array_job_id,array_task_id,array_remaining,het_job_id,het_job_offset,partition,name,user_name,state,reason,"
    "start_time,end_time,suspend_time,suspended_s,time_limit,minimum_nodes,allocated_nodes,allocated_cpus,tasks,cpus_per_task,node_list"
)
LIST_HEADER = ("作业", "分区", "名字", "用户", "状态", "用时", "时限", "节点数", "CPU", "节点（原因）")

# 列表里的行在终端里的颜色；没有的照常。
COLOURS = {
    "RUNNING": "green", "SUSPENDED": "cyan", "PENDING": "yellow", "FAILED": "red", "TIMEOUT": "red",
    "NODE_FAIL": "red", "OUT_OF_MEMORY": "red", "DEADLINE": "red", "BOOT_FAIL": "red",
}  # fmt: skip

LABELS = {
    "job_id": "作业",
    "name": "名字",
    "user_name": "用户",
    "account": "账户",
    "partition": "分区",
    "qos": "服务质量",
    "state": "状态",
    "reason": "原因",
    "error_msg": "说明",
    "exit_code": "退出码",
    "restart_count": "重新排队次数",
    "priority": "优先级",
    "nice": "nice",
    "hold": "保留",
    "dependency": "依赖",
    "submit_time": "提交",
    "eligible_time": "可以运行",
    "expected_start_time": "预计开始",
    "expected_nodes": "预计节点",
    "wait_breakdown": "等待花在",
    "reason_since": "原因从何时起",
    "start_time": "开始",
    "end_time": "结束",
    "suspend_time": "挂起",
    "suspended_s": "累计挂起",
    "time_limit": "时限",
    "begin_time": "最早开始",
    "deadline": "最迟结束",
    "node_list": "节点",
    "batch_host": "脚本所在节点",
    "allocated_nodes": "分到的节点数",
    "allocated_cpus": "分到的 CPU",
    "allocated_memory": "分到的内存",
    "allocated_gres": "分到的 GRES",
    "tasks": "任务数",
    "tasks_per_node": "每节点任务数",
    "cpus_per_task": "每任务 CPU",
    "minimum_nodes": "至少节点数",
    "maximum_nodes": "至多节点数",
    "memory_per_node": "每节点内存",
    "memory_per_cpu": "每 CPU 内存",
    "memory_per_gpu": "每 GPU 内存",
    "tres_per_job": "GRES（作业）",
    "tres_per_node": "GRES（每节点）",
    "tres_per_task": "GRES（每任务）",
    "constraints": "特性",
    "prefer": "最好有的特性",
    "exclusive": "独占",
    "sockets_per_node": "至少几个插槽",
    "cores_per_socket": "每插槽至少几个核",
    "threads_per_core": "每核用几个线程",
    "tasks_per_core": "每核至多几个任务",
    "tasks_per_socket": "每插槽至多几个任务",
    "core_specification": "留给系统的核",
    "thread_specification": "留给系统的线程",
    "array": "数组",
    "array_job_id": "所属数组",
    "array_task_id": "数组任务号",
    "array_remaining": "未启动的任务",
    "het_job_id": "所属异构作业",
    "het_job_offset": "第几个部分",
    "het_job_id_set": "各个部分",
    "contiguous": "节点要挨着",
    "spread_job": "尽量摊开",
    "use_min_nodes": "取最少的节点",
    "no_kill": "坏节点不结束",
    "container": "容器的目录",
    "container_image": "容器的镜像",
    "current_working_directory": "工作目录",
    "standard_input": "标准输入",
    "standard_output": "标准输出",
    "standard_error": "标准错误",
    "argv": "参数",
    "comment": "备注",
    "cpu_user_s": "用户态 CPU 秒",
    "cpu_system_s": "内核态 CPU 秒",
    "max_rss_kb": "内存峰值",
    "read_bytes": "读的字节",
    "written_bytes": "写的字节",
    "gpu_s": "GPU 忙的秒",
    "max_gpu_memory_mb": "显存峰值",
    "gpu_energy_j": "GPU 能耗（焦耳）",
    "requeue": "可重新排队",
    "oversubscribe": "可共享 CPU",
    "data_source": "来源",
    "submit_host": "提交的机器",
    "command": "脚本的路径",
    "reservation": "预留",
    "wckey": "工作负载标签",
    "licenses": "许可证",
    "open_mode": "输出文件的打开方式",
    "umask": "umask",
    "minimum_cpus_per_node": "节点至少有的 CPU",
    "temporary_disk_per_node": "节点至少有的临时磁盘",
    "required_nodes": "必须包含的节点",
    "excluded_nodes": "不用的节点",
    "exclusive_to": "节点上只许谁的作业",
    "mcs_label": "安全标签",
    "required_switches": "最多跨几个交换机",
    "maximum_switch_wait_time": "为交换机至多等",
    "distribution": "任务的分布",
    "time_minimum": "最短的时限",
    "kill_on_invalid_dependency": "依赖满足不了就取消",
    "kill_warning_signal": "时限前的信号",
    "kill_warning_delay": "提前多少秒发信号",
    "admin_comment": "管理员的备注",
    "extra": "附加的文字",
    "mail_type": "何时发邮件",
    "mail_user": "邮件发给",
    "array_max_tasks": "同时至多几个任务",
    "cron": "crontab 的时刻",
    "derived_exit_status": "作业步退出码的最大值",
    "configuring": "在等节点开机",
    "process_id": "脚本的进程号",
    "requested_partitions": "原来列的分区",
    "requested_reservation": "原来写的预留",
    "start_priority": "启动时的优先级",
    "requested_end_state": "有人要求的结局",
    "requested_end_reason": "要求的说明",
    "requested_end_actor": "谁要求的",
    "requested_end_grace": "要求给的宽限秒数",
    "nodes": "节点",
    "cpus": "分到的 CPU",
    "probable_start_time": "多半何时开始",
}
_TIMES = frozenset(name for name in LABELS if name.endswith("_time")) | {"deadline", "reason_since"}
_DURATIONS = frozenset({"time_limit", "time_minimum", "maximum_switch_wait_time"})
_MEMORY = frozenset(
    {"allocated_memory", "max_gpu_memory_mb", "memory_per_node", "memory_per_cpu", "memory_per_gpu"}
    | {"temporary_disk_per_node"}
)


def instant(value: Any) -> datetime | None:
    """API 的时刻（ISO 8601 或 Unix 秒）；空则为 None。"""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return datetime.fromisoformat(str(value))


def local_time(value: Any) -> str:
    """本地时区的时刻，精确到秒；空是短横。"""
    found = instant(value)
    return "-" if found is None else found.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def time_limit_text(value: Any) -> str:
    """时限：API 给秒数或已写好的文字；空是不限。"""
    return format_duration(value) if value is None or isinstance(value, int | float) else str(value)


def elapsed_text(job: Mapping[str, Any], now: datetime) -> str:
    """用时：从开始到结束或现在，减去挂起的时间；没有开始是 0:00。"""
    start = instant(job.get("start_time"))
    if start is None:
        return "00:00:00"
    end = instant(job.get("end_time"))
    if end is None and job.get("state") == "SUSPENDED":
        end = instant(job.get("suspend_time"))
    seconds = ((end or now) - start).total_seconds() - float(job.get("suspended_s") or 0)
    return format_duration(max(0.0, seconds))


def job_label(job: Mapping[str, Any]) -> str:
    """作业号；数组任务写成 12_3，数组行写成 12_[4-9]，异构作业的部分写成 12+1。"""
    if job.get("het_job_id") is not None:
        return f"{job['het_job_id']}+{job['het_job_offset']}"
    array_id = job.get("array_job_id")
    if array_id is None:
        return str(job["job_id"])
    if job.get("array_task_id") is not None:
        return f"{array_id}_{job['array_task_id']}"
    remaining = job.get("array_remaining")
    return f"{array_id}_[{remaining}]" if remaining else str(array_id)


def list_row(job: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """列表里的一行，与 LIST_HEADER 对应。排队的作业显示要求的数目，运行过的显示分到的。"""
    started = job.get("start_time") is not None and job.get("state") != "PENDING"
    asked_cpus = int(job.get("tasks") or 1) * int(job.get("cpus_per_task") or 1)
    reason = job.get("reason") or "None"
    place = job.get("node_list") if started and job.get("node_list") else f"({reason})"
    return (
        job_label(job),
        str(job.get("partition") or "-"),
        str(job.get("name") or "-"),
        str(job.get("user_name") or "-"),
        str(job.get("state") or "-"),
        elapsed_text(job, now),
        time_limit_text(job.get("time_limit")),
        str((job.get("allocated_nodes") if started else job.get("minimum_nodes")) or 1),
        str((job.get("allocated_cpus") if started else None) or asked_cpus),
        str(place),
    )


def value_text(name: str, value: Any) -> str:
    """一个字段的值写成文字。"""
    if name in _TIMES:
        return local_time(value)
    if name in _DURATIONS:
        return time_limit_text(value)
    if name == "wait_breakdown" and isinstance(value, Mapping):
        # 多的在前；None 是等调度的那一会儿。
        parts = sorted(value.items(), key=lambda item: -float(item[1]))
        return told("、").join(
            f"{told('等调度') if key == 'None' else key} {format_duration(spent)}" for key, spent in parts
        )
    if name in _MEMORY and isinstance(value, int):
        return format_memory_mb(value)
    if name == "max_rss_kb" and isinstance(value, int):
        return format_memory_mb(-(-value // 1024))
    if isinstance(value, bool):
        return told("是" if value else "否")
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, Mapping):
        return "\n".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return str(value)


def field_pairs(job: Mapping[str, Any], *, skip: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """有值的字段，先是认得的（中文名），再是其余的（原名）。空的不列。"""
    names = [name for name in LABELS if name in job] + [name for name in job if name not in LABELS]
    return [
        (LABELS.get(name, name), value_text(name, job[name]))
        for name in names
        if name not in skip and job[name] is not None and job[name] not in ("", [], {})
    ]
