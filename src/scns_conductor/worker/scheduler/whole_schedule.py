"""回答 schedule：受阻的作业预计何时、在哪些节点开始——把队列真的计划一次。"""

import math
from dataclasses import replace

from sqlalchemy.engine import Connection

from scns_conductor.core.answers.jobs import Scheduled
from scns_conductor.core.instants import moment_of
from scns_conductor.scheduling.outlook import LEAST_DEPTH
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.statements.queue import JOB_LABELS
from scns_conductor.worker.scheduler.memory import QueueMemory

MOST_SCHEDULED = 500


def whole_schedule(connection: Connection, memory: QueueMemory, policy: Policy, now: float) -> list[Scheduled]:
    """按预计的时刻先后，至多 MOST_SCHEDULED 个；与 why 说的是同一个计划。"""
    # 预测短的先回填时也照次序说：后来的谁会先启动，说不准。
    in_order = replace(policy, depth=max(policy.depth, LEAST_DEPTH), shortest_first=False)
    found = plan(memory.cluster, memory.queue, now, in_order)
    reservations = sorted(found.reservations, key=lambda each: each.start_time)[:MOST_SCHEDULED]
    ids = sorted({each.job.job_id for each in reservations})
    named = {line.job_id: line for line in connection.execute(JOB_LABELS, {"job_ids": ids})}
    return [
        {
            "job_id": named[each.job.job_id].label,
            "name": named[each.job.job_id].name,
            "user_name": named[each.job.job_id].user_name,
            "start_time": _iso(each.start_time) or "",
            "end_time": _iso(each.start_time + each.job.time_limit_s),
            "nodes": memory.cluster.node_names(each.shares),
            "cpus": sum(share.cpus for share in each.shares),
        }
        for each in reservations
        if each.job.job_id in named
    ]


def _iso(moment: float) -> str | None:
    found = moment_of(moment if math.isfinite(moment) else None)
    return None if found is None else found.isoformat()
