"""作业与节点的状态，以及作业唯一的一张合法转移表。

名称取自 Slurm（squeue(1) 的 JOB STATE CODES、sinfo(1) 的 NODE STATE CODES）。
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """作业状态。"""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DEADLINE = "DEADLINE"
    BOOT_FAIL = "BOOT_FAIL"


TERMINAL_STATES = frozenset(
    {
        JobState.COMPLETED,
        JobState.CANCELLED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.OUT_OF_MEMORY,
        JobState.DEADLINE,
        JobState.BOOT_FAIL,
    }
)
ACTIVE_STATES = frozenset({JobState.RUNNING, JobState.SUSPENDED})

SHORT_STATES: dict[JobState, str] = {
    JobState.PENDING: "PD",
    JobState.RUNNING: "R",
    JobState.SUSPENDED: "S",
    JobState.COMPLETED: "CD",
    JobState.CANCELLED: "CA",
    JobState.FAILED: "F",
    JobState.TIMEOUT: "TO",
    JobState.NODE_FAIL: "NF",
    JobState.PREEMPTED: "PR",
    JobState.OUT_OF_MEMORY: "OOM",
    JobState.DEADLINE: "DL",
    JobState.BOOT_FAIL: "BF",
}
# 保留的种类 -> 原因：本人保留的、管理员保留的、启动失败之后保留的（本人可以放行，同 Slurm）、
# 重新排队时要的 SPECIAL_EXIT（scontrol requeuehold State=SpecialExit）。
HOLD_REASONS: dict[str | None, str] = {
    "user": "JobHeldUser",
    "admin": "JobHeldAdmin",
    "launch_failed": "launch failed requeued held",
    "special_exit": "JobHeldUser",
}

# 键是来处，值是去处。终态回到 PENDING 只有一条路：重新排队（restart_count 加一）。
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.DEADLINE, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.PENDING, JobState.SUSPENDED}) | TERMINAL_STATES,
    JobState.SUSPENDED: frozenset({JobState.PENDING, JobState.RUNNING}) | TERMINAL_STATES,
    **{state: frozenset({JobState.PENDING}) for state in TERMINAL_STATES},
}


def sources_of(target: JobState) -> list[str]:
    """能够转移到 target 的全部状态；写进 UPDATE 的 WHERE，使非法转移不可能发生。"""
    return sorted(source.value for source, targets in TRANSITIONS.items() if target in targets)


class NodeAvailability(StrEnum):
    """节点行里存储的可用性；空闲、部分占用、全占用由计数推出，不另存。"""

    UNKNOWN = "UNKNOWN"
    UP = "UP"
    DOWN = "DOWN"


class PowerState(StrEnum):
    """节点的电源。OFF 的节点照样可以分配作业：分配了就开机。"""

    ON = "ON"
    OFF = "OFF"
    POWERING_UP = "POWERING_UP"
    POWERING_DOWN = "POWERING_DOWN"


class RebootStage(StrEnum):
    """scontrol reboot 的进展。"""

    REQUESTED = "REQUESTED"
    ISSUED = "ISSUED"


# 电源与重启 -> scontrol 的标志。
_FLAGS: dict[str, str] = {
    PowerState.OFF: "POWERED_DOWN",
    PowerState.POWERING_UP: "POWERING_UP",
    PowerState.POWERING_DOWN: "POWERING_DOWN",
    RebootStage.REQUESTED: "REBOOT_REQUESTED",
    RebootStage.ISSUED: "REBOOT_ISSUED",
}


class PartitionState(StrEnum):
    """分区状态（scontrol(1) 的 State）。"""

    UP = "UP"
    DOWN = "DOWN"
    DRAIN = "DRAIN"
    INACTIVE = "INACTIVE"


def node_state(node: Mapping[str, Any]) -> str:
    """Slurm 的节点状态词：IDLE、MIXED、ALLOCATED、DOWN、UNKNOWN，后面是标志，如 IDLE+CLOUD+POWERED_DOWN。

    node 是节点的行（nodes 的列名）。
    """
    return "+".join([base_state(node), *node_flags(node)])


def base_state(node: Mapping[str, Any]) -> str:
    """不带标志的状态词。关着机的不是下线：照分配的算。"""
    state: str = node["state"]
    if state == NodeAvailability.DOWN or (state == NodeAvailability.UNKNOWN and node["power_state"] == PowerState.ON):
        return state
    if node["allocated_cpus"] <= 0:
        return "IDLE"
    return "MIXED" if node["allocated_cpus"] < node["cpus"] else "ALLOCATED"


def node_flags(node: Mapping[str, Any]) -> list[str]:
    """状态后面的标志，次序固定。"""
    flags = [name for name, present in (("CLOUD", node["cloud"]), ("DRAIN", node["drain"])) if present]
    if node["power_state"] != PowerState.ON:
        flags.append(_FLAGS[node["power_state"]])
    elif node["power_request"] in ("DOWN", "ASAP", "FORCE"):
        flags.append("POWER_DOWN")
    if node["planned"] and node["allocated_cpus"] <= 0:
        flags.append("PLANNED")
    if node["reboot"] is not None:
        flags.append(_FLAGS[node["reboot"]])
    return flags
