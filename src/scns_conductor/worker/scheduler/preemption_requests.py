"""抢占的提交：请节点结束（requeue、cancel）或挂起（suspend）被抢占的作业，以及之后的恢复。

都与领导者的栅栏在同一条语句里。挂起时作业的 CPU 从节点的计数里借出去（lent_cpus），恢复时拿回来；
拿不回来（不变量 3 的 CHECK 拦下）就整条作废。
"""

import math
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.engine import Connection

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import RunningJob
from scns_conductor.scheduling.preemption import SUSPEND, Preemption, Rules
from scns_conductor.statements.end_requests import END_PREEMPTED
from scns_conductor.statements.preemption import RESUME_PREEMPTED, SUSPEND_LENDING


def request_preemptions(
    connection: Connection,
    epoch: int,
    cluster: Cluster,
    preemptions: Sequence[Preemption],
    rules: Rules,
    kill_wait_s: float,
) -> tuple[dict[int, float], list[int]]:
    """写下要求。返回（要结束的作业 -> 至多多少秒之后，挂起了的作业）；已经在结束的不在其中。

    在调用者的事务里执行。宽限期一开始就发 SIGTERM，期满 SIGKILL；不短于 KillWait。
    """
    ending: dict[int, tuple[str, str, int | None]] = {}
    suspending: dict[int, str] = {}
    for preemption in preemptions:
        shape = preemption.job.shape
        by = f"QOS {shape.qos}" if rules.by_qos else f"分区 {shape.partition}"
        message = f"被作业 {preemption.job.job_id} 抢占（{by}）"
        for victim in preemption.victims:
            mode = rules.mode(cluster, victim)
            if mode == SUSPEND:
                suspending[victim.job_id] = message
                continue
            grace_s = rules.grace_s(cluster, victim)
            ending[victim.job_id] = (mode, message, max(grace_s, math.ceil(kill_wait_s)) if grace_s else None)
    ended = _end(connection, epoch, ending)
    suspended: list[int] = []
    if suspending:
        values = {"job_ids": list(suspending), "messages": list(suspending.values()), "cause": "preempt"}
        suspended = list(connection.scalars(SUSPEND_LENDING, {**values, "epoch": epoch}))
    return {job_id: float(ending[job_id][2] or kill_wait_s) for job_id in ended}, suspended


def _end(connection: Connection, epoch: int, ending: Mapping[int, tuple[str, str, int | None]]) -> list[int]:
    if not ending:
        return []
    values = {
        "job_ids": list(ending),
        "modes": [mode for mode, _, _ in ending.values()],
        "messages": [message for _, message, _ in ending.values()],
        "graces": [grace for _, _, grace in ending.values()],
        "epoch": epoch,
    }
    return list(connection.scalars(END_PREEMPTED, values))


def resume_preempted(
    connection: Connection, epoch: int, victims: Sequence[RunningJob], quiet: Collection[int]
) -> list[int]:
    """恢复借出了 CPU 的；返回真的恢复了的，quiet 的不记事件。节点的 CPU 不够时 PostgreSQL 报 CheckViolation。"""
    values = {"job_ids": [each.job_id for each in victims], "quiet": sorted(quiet), "epoch": epoch}
    return list(connection.scalars(RESUME_PREEMPTED, values))
