"""命令与系统之间：连接、Slurm 的英文错误、退出码。"""

import sys
from collections.abc import Callable, Sequence

from scns_conductor.client import Client, ClientError, EndpointUnknown, Problem, Unreachable
from scns_conductor.slurm.options import Option, Parsed, UsageError, parse

NODE_CONFIGURATION = "Requested node configuration is not available"
# 服务器的错误码 -> Slurm 的错误（slurm_errno.c）。
_BY_CODE = {
    "partition_unknown": "Invalid partition name specified",
    "partition_not_found": "Invalid partition name specified",
    "job_not_found": "Invalid job id specified",
    "not_job_owner": "Access/permission denied",
    "admin_required": "Access/permission denied",
    "forbidden": "Access/permission denied",
    "unauthorized": "Protocol authentication error",
    "job_not_pending": "Job is no longer pending execution",
    "job_pending": "Job is pending execution",
    "job_not_running": "Invalid job id specified",
    "job_not_suspended": "Job/step is not suspended",
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
_BY_FIELD = {
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
    "required_nodes": "Invalid node name specified",
    "excluded_nodes": "Invalid node name specified",
    "partition": "Invalid partition name specified",
    "account": "Invalid account or account/partition combination specified",
    "qos": "Invalid qos specification",
    "reservation": "Requested reservation is invalid",
}
# 提交被拒时 slurmctld 另附的一行（job_mgr.c）。
_DETAILS = {
    "memory_not_satisfiable": "Memory specification can not be satisfied",
    "cpus_not_satisfiable": "CPU count per node can not be satisfied",
    "disk_not_satisfiable": "Temporary disk specification can not be satisfied",
}
CONTACT_FAILED = "Unable to contact slurm controller (connect failure)"


class Fatal(Exception):
    """打印 lines（各行前加「命令: error: 」）并以 code 退出；prefix 为 None 时行首什么也不加（slurm_perror）。"""

    def __init__(self, *lines: str, code: int = 1, prefix: str | None = "error: ") -> None:
        super().__init__(*lines)
        self.lines, self.code, self.prefix = lines, code, prefix


def slurm_error(error: ClientError) -> str:
    """服务器或连接的错误，换成 Slurm 的那句话；没有对应的，写出服务器说的。"""
    if isinstance(error, (EndpointUnknown, Unreachable)):
        return CONTACT_FAILED
    if not isinstance(error, Problem):
        return str(error)
    if error.status == 503:
        return CONTACT_FAILED
    known = _BY_CODE.get(error.code)
    if known is None and error.errors:
        known = _BY_FIELD.get(error.errors[0].get("field", "").rpartition(".")[2])
    return known or f"{error.code}: {error}"


def refusal_details(error: ClientError) -> list[str]:
    """提交被拒时排在那句话前面的说明；没有则为空。"""
    return [_DETAILS[error.code]] if isinstance(error, Problem) and error.code in _DETAILS else []


def say(command: str, line: str) -> None:
    """一行到标准错误，前面是命令的名字。"""
    print(f"{command}: {line}", file=sys.stderr)


def connect() -> Client:
    """连接的对象；找不到系统抛 EndpointUnknown。"""
    return Client(data_source="CLI")


def parse_or_exit(
    command: str, words: Sequence[str], options: Sequence[Option], *, permute: bool = True, code: int = 1
) -> Parsed:
    """解析选项；写错了照 Slurm 打印两行，以 code 退出（sbatch 是 255，其余是 1）。"""
    try:
        return parse(words, options, permute=permute)
    except UsageError as error:
        print(f"{command}: {error}", file=sys.stderr)
        print(f'Try "{command} --help" for more information', file=sys.stderr)
        raise SystemExit(code) from None


def run(command: str, body: Callable[[list[str]], int], words: list[str]) -> int:
    """执行一个命令；Fatal 与连接的错误变成一行英文和退出码。"""
    try:
        return body(words)
    except Fatal as error:
        for line in error.lines:
            print(line if error.prefix is None else f"{command}: {error.prefix}{line}", file=sys.stderr)
        return error.code
    except ClientError as error:
        say(command, f"error: {slurm_error(error)}")
        if isinstance(error, (EndpointUnknown, Unreachable)):
            # Slurm 不说原因；原因（地址、怎么启动）附在后面一行。
            say(command, str(error))
        return 1
    except BrokenPipeError:
        # 下游（head）不读了；免得解释器退出时再报一次。
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
