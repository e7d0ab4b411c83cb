"""squeue 的列：% 字母与 -O 的名字（squeue(1)），各列写明要用到的 API 字段。"""

from collections.abc import Callable, Mapping

from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.columnar import Row
from scns_conductor.slurm.table.columns import Field, Known
from scns_conductor.slurm.table.job_tres import slurm_order, tres
from scns_conductor.slurm.table.times import elapsed_s, epoch, instant, memory, short_duration

_ID = "job_id array_job_id array_task_id array_remaining array_max_tasks het_job_id het_job_offset"
_CPUS = "allocated_cpus tasks cpus_per_task"
_NODES = "allocated_nodes minimum_nodes"
_ELAPSED = "start_time end_time suspend_time suspended_s state"
_LIMIT = "time_limit deadline begin_time state"
_PRIORITY = "hold priority job_id state"
_GRES = "tres_per_node tres_per_job"
_MEMORY = "allocated_memory memory_per_node memory_per_cpu memory_per_gpu"
_TRES = f"{_CPUS} {_NODES} {_MEMORY} {_GRES} allocated_gres tres_per_task"


def _constant(value: str) -> Callable[[Row], str]:
    return lambda _job: value


def _text(header: str, name: str, missing: str = "(null)") -> Field:
    return Field(header, of.text(name, missing), name)


def _moment(header: str, name: str) -> Field:
    return Field(header, lambda job: instant(job[name]), name)


def _raw_array(job: Row) -> str:
    if job.get("array_job_id") is None:
        return "N/A"
    return (
        str(job["array_task_id"])
        if job.get("array_task_id") is not None
        else of.shortened(of.array_tasks(job) or "N/A")
    )


def _het_offset(job: Row) -> str:
    return "N/A" if job.get("het_job_id") is None else str(job["het_job_offset"])


def _pending_s(job: Row) -> str:
    submitted = epoch(job["submit_time"]) or 0
    return str(int((epoch(job["start_time"]) or submitted) - submitted))


def _allocated_tres(job: Row) -> str:
    return slurm_order(tres(job, allocated=bool(job["allocated_cpus"])))


LETTERS: Known = {
    "a": _text("ACCOUNT", "account"),
    "A": _text("JOBID", "job_id"),
    "b": Field("TRES_PER_NODE", of.gres, _GRES),
    "B": _text("EXEC_HOST", "batch_host", "n/a"),
    "c": Field(
        "MIN_CPUS",
        lambda job: str(job["minimum_cpus_per_node"] or job["cpus_per_task"]),
        "minimum_cpus_per_node cpus_per_task",
    ),
    "C": Field("CPUS", lambda job: str(of.cpus(job)), _CPUS),
    "d": Field("MIN_TMP_DISK", lambda job: memory(job["temporary_disk_per_node"]), "temporary_disk_per_node"),
    "D": Field("NODES", lambda job: str(of.nodes(job)), _NODES),
    "e": Field(
        "END_TIME", of.end_time, f"end_time start_time expected_start_time begin_time state suspended_s {_LIMIT}"
    ),
    "E": Field("DEPENDENCY", of.dependency, "dependency state"),
    "f": _text("FEATURES", "constraints"),
    "F": Field("ARRAY_JOB_ID", lambda job: str(job["array_job_id"] or job["job_id"]), _ID),
    "g": Field("GROUP", lambda job: of.user_ids(job["user_name"])[2], "user_name"),
    "G": Field("GROUP", lambda job: of.user_ids(job["user_name"])[1], "user_name"),
    "h": Field("OVER_SUBSCRIBE", of.over_subscribe, "exclusive exclusive_to oversubscribe"),
    "H": _text("SOCKETS_PER_NODE", "sockets_per_node", "*"),
    "i": Field("JOBID", of.display_id, _ID),
    "I": _text("CORES_PER_SOCKET", "cores_per_socket", "*"),
    "j": _text("NAME", "name"),
    "J": _text("THREADS_PER_CORE", "threads_per_core", "*"),
    "k": _text("COMMENT", "comment"),
    "K": Field("ARRAY_TASK_ID", _raw_array, _ID),
    "l": Field("TIME_LIMIT", lambda job: short_duration(of.limit_s(job)), _LIMIT),
    "L": Field("TIME_LEFT", of.time_left, f"{_LIMIT} {_ELAPSED}"),
    "m": Field("MIN_MEMORY", of.requested_memory, "memory_per_node memory_per_cpu"),
    "M": Field("TIME", lambda job: short_duration(elapsed_s(job)), _ELAPSED),
    "n": _text("REQ_NODES", "required_nodes", ""),
    "N": _text("NODELIST", "node_list", ""),
    "o": Field("COMMAND", of.command, "command"),
    "O": Field("CONTIGUOUS", lambda job: str(int(job["contiguous"])), "contiguous"),
    "p": Field("PRIORITY", lambda job: f"{of.priority(job) / 4294967295:.14f}", _PRIORITY),
    "P": _text("PARTITION", "partition"),
    "q": _text("QOS", "qos"),
    "Q": Field("PRIORITY", lambda job: str(of.priority(job)), _PRIORITY),
    "r": Field("REASON", of.reason, "reason"),
    "R": Field("NODELIST(REASON)", of.reason_or_nodes, "state reason error_msg node_list"),
    "S": Field("START_TIME", of.start_time, "start_time expected_start_time begin_time state"),
    "t": Field("ST", of.short_state, "state configuring hold"),
    "T": Field("STATE", of.state, "state configuring hold"),
    "u": _text("USER", "user_name"),
    "U": Field("UID", lambda job: of.user_ids(job["user_name"])[0], "user_name"),
    "v": _text("RESERVATION", "reservation"),
    "V": _moment("SUBMIT_TIME", "submit_time"),
    "w": _text("WCKEY", "wckey"),
    "W": _text("LICENSES", "licenses"),
    "x": _text("EXC_NODES", "excluded_nodes", ""),
    "X": Field("CORE_SPEC", of.core_spec, "core_specification thread_specification"),
    "y": _text("NICE", "nice"),
    "Y": Field("SCHEDNODES", lambda job: job.get("expected_nodes") or "(null)", "expected_nodes"),
    "z": Field("S:C:T", of.sockets_cores_threads, "sockets_per_node cores_per_socket threads_per_core"),
    "Z": _text("WORK_DIR", "current_working_directory"),
}

# -O 的名字 -> 相当的字母；表头也取自字母，除非另列。
_SAME = {
    "account": "a", "batchhost": "B", "command": "o", "comment": "k", "contiguous": "O", "cores": "I",
    "corespec": "X", "dependency": "E", "endtime": "e", "feature": "f", "groupid": "G", "groupname": "g",
    "jobarrayid": "i", "jobid": "A", "arrayjobid": "F", "arraytaskid": "K", "licenses": "W", "mincpus": "c",
    "minmemory": "m", "mintmpdisk": "d", "minmemorynode": "m", "name": "j", "nice": "y", "nodelist": "N",
    "nodes": "N", "numcpus": "C", "numnodes": "D", "oversubscribe": "h", "shared": "h", "partition": "P",
    "priority": "p", "prioritylong": "Q", "qos": "q", "reason": "r", "reasonlist": "R", "reqnodes": "n",
    "reservation": "v", "schednodes": "Y", "sct": "z", "sockets": "H", "starttime": "S", "state": "T",
    "statecompact": "t", "submittime": "V", "threads": "J", "timeleft": "L", "timelimit": "l", "timeused": "M",
    "gres": "b", "userid": "U", "username": "u", "wckey": "w", "workdir": "Z", "exc_nodes": "x", "excnodes": "x",
}  # fmt: skip
# 这里没有对应的东西：表头与 Slurm 里没有设置时的值。
_ABSENT = {
    "associd": ("ASSOC_ID", "0"), "allocsid": ("ALLOC_SID", "0"), "boardspernode": ("BOARDS_PER_NODE", "0"),
    "burstbuffer": ("BURST_BUFFER", "(null)"), "burstbufferstate": ("BURST_BUFFER_STATE", "(null)"),
    "clusterfeature": ("CLUSTER_FEATURES", "(null)"),
    "cpus-per-tres": ("CPUS_PER_TRES", "N/A"), "delayboot": ("DELAY_BOOT", "0:00"),
    "mcslabel": ("MCSLABEL", "(null)"), "mem-per-tres": ("MEM_PER_TRES", "N/A"), "network": ("NETWORK", "(null)"),
    "ntperboard": ("NTASKS_PER_BOARD", "0"), "origin": ("ORIGIN", "NA"), "originraw": ("ORIGIN_RAW", "NA"),
    "preempttime": ("PREEMPT_TIME", "N/A"), "profile": ("PROFILE", "NotSet"),
    "reboot": ("REBOOT", "0"), "resizetime": ("RESIZE_TIME", "N/A"), "selectjobinfo": ("", ""),
    "siblingsactive": ("ACTIVE_SIBLINGS", "NA"), "siblingsactiveraw": ("ACTIVE_SIBLINGS_RAW", "NA"),
    "siblingsviable": ("VIABLE_SIBLINGS", "NA"), "siblingsviableraw": ("VIALBLE_SIBLINGS_RAW", "NA"),
    "sperboard": ("SOCKETS_PER_BOARD", "0"), "system_comment": ("SYSTEM_COMMENT", "(null)"),
    "tres-bind": ("TRES_BIND", "N/A"), "tres-freq": ("TRES_FREQ", "N/A"), "tres-per-socket": ("TRES_PER_SOCKET", "N/A"),
}  # fmt: skip
NAMES: Mapping[str, Field] = {
    **{name: LETTERS[letter] for name, letter in _SAME.items()},
    **{name: Field(header, _constant(value)) for name, (header, value) in _ABSENT.items()},
    "ntpercore": _text("NTASKS_PER_CORE", "tasks_per_core", "N/A"),
    "ntpersocket": _text("NTASKS_PER_SOCKET", "tasks_per_socket", "N/A"),
    "prefer": _text("PREFER", "prefer"),
    **{
        f"{prefix}{name}": field
        for prefix in ("hetjob", "packjob")
        for name, field in (
            ("id", _text("HET_JOB_ID", "het_job_id", "N/A")),
            ("offset", Field("HET_JOB_OFFSET", _het_offset, "het_job_id het_job_offset")),
            ("idset", _text("HET_JOB_ID_SET", "het_job_id_set", "N/A")),
        )
    },
    "accruetime": _moment("ACCRUE_TIME", "eligible_time"),
    "admin_comment": _text("ADMIN_COMMENT", "admin_comment"),
    "allocnodes": _text("ALLOC_NODES", "submit_host"),
    "batchflag": Field("BATCH_FLAG", lambda job: str(int(not job["interactive"])), "interactive"),
    "cluster": Field("CLUSTER", lambda _job: of.cluster_name()),
    "container": Field(
        "CONTAINER",
        lambda job: str(job["container"] or job["container_image"] or "(null)"),
        "container container_image",
    ),
    "cpus-per-task": _text("CPUS_PER_TASK", "cpus_per_task"),
    "cpuspertask": _text("CPUS_PER_TASK", "cpus_per_task"),
    "deadline": _moment("DEADLINE", "deadline"),
    "derivedec": Field("DERIVED_EC", lambda job: str(job["derived_exit_status"] or 0), "derived_exit_status"),
    # 保留着的作业还没有轮到，Slurm 显示 --begin 的时刻。
    "eligibletime": Field(
        "ELIGIBLE_TIME",
        lambda job: instant(of.eligible_time(job)),
        "eligible_time begin_time submit_time state reason hold",
    ),
    "exit_code": Field("EXIT_CODE", lambda job: str(job["exit_status"] or 0), "exit_status"),
    "lastschedeval": _moment("LAST_SCHED_EVAL", "start_time"),
    "maxcpus": Field("MAX_CPUS", lambda job: str(of.cpus(job)), _CPUS),
    "maxnodes": Field("MAX_NODES", lambda job: str(job["maximum_nodes"] or of.nodes(job)), f"maximum_nodes {_NODES}"),
    "mintime": Field("TIME_MIN", lambda job: short_duration(job["time_minimum"] or 0), "time_minimum"),
    "ntpernode": Field("NTASKS_PER_NODE", lambda job: str(job["tasks_per_node"] or 0), "tasks_per_node"),
    "numtasks": _text("TASKS", "tasks"),
    "pendingtime": Field("PENDING_TIME", _pending_s, "start_time submit_time"),
    "reqswitch": Field("REQ_SWITCH", lambda job: str(job["required_switches"] or 0), "required_switches"),
    "requeue": Field("REQUEUE", lambda job: str(int(bool(job["requeue"]))), "requeue"),
    "restartcnt": _text("RESTART_COUNT", "restart_count"),
    "stderr": Field("STDERR", lambda job: of.output_path(job, "standard_error"), of.OUTPUT_FIELDS),
    "stdin": Field("STDIN", lambda job: of.output_path(job, "standard_input"), of.OUTPUT_FIELDS),
    "stdout": Field("STDOUT", lambda job: of.output_path(job, "standard_output"), of.OUTPUT_FIELDS),
    "tres": Field("TRES_ALLOC", _allocated_tres, _TRES),
    "tres-alloc": Field("TRES_ALLOC", _allocated_tres, _TRES),
    "tres-per-job": Field("TRES_PER_JOB", lambda job: of.tres_words(job["tres_per_job"]), "tres_per_job"),
    "tresperjob": Field("TRES_PER_JOB", lambda job: of.tres_words(job["tres_per_job"]), "tres_per_job"),
    "tres-per-node": Field("TRES_PER_NODE", lambda job: of.tres_words(job["tres_per_node"]), "tres_per_node"),
    "tres-per-task": Field("TRES_PER_TASK", lambda job: of.tres_words(job["tres_per_task"]), "tres_per_task"),
}

# --noconvert：不换算成 G。
_IN_MB = {
    "m": Field("MIN_MEMORY", lambda job: _megabytes(of.least_memory_mb(job)), LETTERS["m"].needs),
    "d": Field("MIN_TMP_DISK", lambda job: _megabytes(job["temporary_disk_per_node"]), LETTERS["d"].needs),
}
LETTERS_IN_MB: Known = {**LETTERS, **_IN_MB}
NAMES_IN_MB: Known = {**NAMES, **{name: _IN_MB[letter] for name, letter in _SAME.items() if letter in _IN_MB}}


def _megabytes(amount: int | None) -> str:
    return f"{amount}M" if amount else "0"
