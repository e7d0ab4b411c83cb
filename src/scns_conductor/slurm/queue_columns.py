"""squeue 的列：% 字母与 -O 的名字（squeue(1)）。"""

from collections.abc import Callable, Mapping

from scns_conductor.slurm import job_values as of
from scns_conductor.slurm.columns import Row
from scns_conductor.slurm.times import elapsed_s, epoch, instant, memory, short_duration

Field = tuple[str, Callable[[Row], str]]


def _constant(value: str) -> Callable[[Row], str]:
    return lambda _job: value


def _raw_array(job: Row) -> str:
    if job.get("array_job_id") is None:
        return "N/A"
    return str(job["array_task_id"]) if job.get("array_task_id") is not None else of.array_tasks(job) or "N/A"


def _epoch_used(job: Row) -> str:
    return short_duration(elapsed_s(job))


LETTERS: Mapping[str, Field] = {
    "a": ("ACCOUNT", of.text("account")),
    "A": ("JOBID", of.text("job_id")),
    "b": ("TRES_PER_NODE", of.gres),
    "B": ("EXEC_HOST", of.text("batch_host", "n/a")),
    "c": ("MIN_CPUS", lambda job: str(job["minimum_cpus_per_node"] or job["cpus_per_task"])),
    "C": ("CPUS", lambda job: str(of.cpus(job))),
    "d": ("MIN_TMP_DISK", lambda job: memory(job["temporary_disk_per_node"])),
    "D": ("NODES", lambda job: str(of.nodes(job))),
    "e": ("END_TIME", of.end_time),
    "E": ("DEPENDENCY", of.text("dependency")),
    "f": ("FEATURES", of.text("constraints")),
    "F": ("ARRAY_JOB_ID", lambda job: str(job["array_job_id"] or job["job_id"])),
    "g": ("GROUP", lambda job: of.user_ids(job["user_name"])[2]),
    "G": ("GROUP", lambda job: of.user_ids(job["user_name"])[1]),
    "h": ("OVER_SUBSCRIBE", of.over_subscribe),
    "H": ("SOCKETS_PER_NODE", _constant("*")),
    "i": ("JOBID", of.display_id),
    "I": ("CORES_PER_SOCKET", _constant("*")),
    "j": ("NAME", of.text("name")),
    "J": ("THREADS_PER_CORE", _constant("*")),
    "k": ("COMMENT", of.text("comment")),
    "K": ("ARRAY_TASK_ID", _raw_array),
    "l": ("TIME_LIMIT", lambda job: short_duration(of.limit_s(job))),
    "L": ("TIME_LEFT", of.time_left),
    "m": ("MIN_MEMORY", of.requested_memory),
    "M": ("TIME", _epoch_used),
    "n": ("REQ_NODES", of.text("required_nodes", "")),
    "N": ("NODELIST", of.text("node_list", "")),
    "o": ("COMMAND", of.command),
    "O": ("CONTIGUOUS", _constant("0")),
    "p": ("PRIORITY", lambda job: f"{of.priority(job) / 4294967295:.14f}"),
    "P": ("PARTITION", of.text("partition")),
    "q": ("QOS", of.text("qos")),
    "Q": ("PRIORITY", lambda job: str(of.priority(job))),
    "r": ("REASON", of.reason),
    "R": ("NODELIST(REASON)", of.reason_or_nodes),
    "S": ("START_TIME", of.start_time),
    "t": ("ST", lambda job: of.SHORT_STATES[job["state"]]),
    "T": ("STATE", of.text("state")),
    "u": ("USER", of.text("user_name")),
    "U": ("UID", lambda job: of.user_ids(job["user_name"])[0]),
    "v": ("RESERVATION", of.text("reservation")),
    "V": ("SUBMIT_TIME", lambda job: instant(job["submit_time"])),
    "w": ("WCKEY", of.text("wckey")),
    "W": ("LICENSES", of.text("licenses")),
    "x": ("EXC_NODES", of.text("excluded_nodes", "")),
    "X": ("CORE_SPEC", _constant("N/A")),
    "y": ("NICE", lambda job: str(job["nice"])),
    "Y": ("SCHEDNODES", _constant("(null)")),
    "z": ("S:C:T", _constant("*:*:*")),
    "Z": ("WORK_DIR", of.text("current_working_directory")),
}

# -O 的名字 -> 相当的字母；表头也取自字母，除非另列。
_NAMES = {
    "account": "a", "batchhost": "B", "command": "o", "comment": "k", "contiguous": "O", "cores": "I",
    "corespec": "X", "dependency": "E", "endtime": "e", "feature": "f", "groupid": "G", "groupname": "g",
    "jobarrayid": "F", "jobid": "A", "arrayjobid": "F", "arraytaskid": "K", "licenses": "W", "mincpus": "c",
    "minmemory": "m", "mintmpdisk": "d", "minmemorynode": "m", "name": "j", "nice": "y", "nodelist": "N",
    "nodes": "N", "numcpus": "C", "numnodes": "D", "oversubscribe": "h", "partition": "P", "priority": "p",
    "prioritylong": "Q", "qos": "q", "reason": "r", "reasonlist": "R", "reqnodes": "n", "reservation": "v",
    "schednodes": "Y", "sct": "z", "starttime": "S", "state": "T", "statecompact": "t", "submittime": "V",
    "threads": "J", "timeleft": "L", "timelimit": "l", "timeused": "M", "tres-per-node": "b", "tresperjob": "b",
    "tres-per-job": "b", "userid": "U", "username": "u", "wckey": "w", "workdir": "Z",
    "exc_nodes": "x", "excnodes": "x",
}  # fmt: skip
NAMES: Mapping[str, Field] = {
    **{name: LETTERS[letter] for name, letter in _NAMES.items()},
    "cpus-per-task": ("CPUS_PER_TASK", of.text("cpus_per_task")),
    "exit_code": ("EXIT_CODE", lambda job: str(job["exit_status"] or 0)),
    "maxcpus": ("MAX_CPUS", _constant("0")),
    "maxnodes": ("MAX_NODES", lambda job: str(job["maximum_nodes"] or 0)),
    "nodelist": ("NODELIST", of.text("node_list", "")),
    "numtasks": ("TASKS", of.text("tasks")),
    "origin": ("ORIGIN", _constant("NULL")),
    "pendingtime": (
        "PENDING_TIME",
        lambda job: str(
            int((epoch(job["start_time"]) or epoch(job["submit_time"]) or 0) - (epoch(job["submit_time"]) or 0))
        ),
    ),
    "requeue": ("REQUEUE", lambda job: str(int(bool(job["requeue"])))),
    "restartcnt": ("RESTART_COUNT", of.text("restart_count")),
    "stdin": ("STDIN", of.text("standard_input", "/dev/null")),
    "stdout": ("STDOUT", of.text("standard_output", "slurm-%j.out")),
    "stderr": ("STDERR", of.text("standard_error", "")),
    "deadline": ("DEADLINE", lambda job: instant(job["deadline"])),
    "eligibletime": ("ELIGIBLE_TIME", lambda job: instant(job["eligible_time"])),
    "mcslabel": ("MCSLABEL", _constant("N/A")),
    "preemptime": ("PREEMPT_TIME", _constant("N/A")),
    "allocnodes": ("ALLOC_NODES", of.text("submit_host")),
    "allocsid": ("ALLOC_SID", _constant("0")),
    "profile": ("PROFILE", _constant("NotSet")),
    "reboot": ("REBOOT", _constant("0")),
    "cluster": ("CLUSTER", _constant("N/A")),
}
