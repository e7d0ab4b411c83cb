"""结束的原因：一张表。牧守进程报的原因 -> 作业、作业步到哪个状态；有人要求的去向 -> 用什么原因去结束。"""

from dataclasses import dataclass

from scns_conductor.core.states import JobState
from scns_conductor.worker.wire.end_record import EndRecord


@dataclass(frozen=True, slots=True)
class EndCause:
    """requeues：许可的作业回到队列。有人要求过去向的，以数据库里的要求为准。"""

    job: JobState
    step: JobState
    requeues: bool = False


# exit 另看退出码；表里没有的（launch_failed）是 FAILED。
_CAUSES = {
    "timeout": EndCause(JobState.TIMEOUT, JobState.TIMEOUT),
    "oom": EndCause(JobState.OUT_OF_MEMORY, JobState.OUT_OF_MEMORY),
    "killed": EndCause(JobState.FAILED, JobState.CANCELLED),
    "cancel": EndCause(JobState.CANCELLED, JobState.CANCELLED),
    "preempt": EndCause(JobState.PREEMPTED, JobState.CANCELLED),
    "deadline": EndCause(JobState.DEADLINE, JobState.CANCELLED),
    "requeue": EndCause(JobState.CANCELLED, JobState.CANCELLED, requeues=True),
    "shutdown": EndCause(JobState.CANCELLED, JobState.CANCELLED, requeues=True),
    "stale": EndCause(JobState.CANCELLED, JobState.CANCELLED),
    # 还没有启动，节点交还：从来没有跑过，不许重新排队的也回到队列。
    "give_back": EndCause(JobState.PENDING, JobState.CANCELLED),
    "unseen": EndCause(JobState.NODE_FAIL, JobState.NODE_FAIL, requeues=True),
    "reboot": EndCause(JobState.NODE_FAIL, JobState.NODE_FAIL, requeues=True),
}
_FAILED = EndCause(JobState.FAILED, JobState.FAILED)
_COMPLETED = EndCause(JobState.COMPLETED, JobState.COMPLETED)
_NODE_FAULT = EndCause(JobState.NODE_FAIL, JobState.FAILED, requeues=True)
_REQUESTED = {JobState.PREEMPTED: "preempt", JobState.DEADLINE: "deadline", JobState.PENDING: "requeue"}


def end_cause(end: EndRecord) -> EndCause:
    """一条结束记录说的。"""
    if end.cause == "exit":
        return _FAILED if end.exit_status or end.exit_signal else _COMPLETED
    if end.cause == "launch_failed" and end.on_node:
        return _NODE_FAULT
    return _CAUSES.get(end.cause, _FAILED)


def cause_of_request(state: str) -> str:
    """有人要求作业到 state 去：用这个原因结束它。"""
    return _REQUESTED.get(JobState(state), "cancel")
