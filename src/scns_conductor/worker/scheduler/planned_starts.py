"""计划里的启动，换成要提交的行。"""

import math
from collections.abc import Sequence

from scns_conductor.core.gres import format_gres
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.scheduling.plan import PlannedStart
from scns_conductor.statements.starts import Share, Start
from scns_conductor.worker.scheduler.memory import QueueMemory


def rows_of(memory: QueueMemory, planned: Sequence[PlannedStart]) -> list[Start]:
    """依计划的次序，异构作业已经拆成各个部分；数组的最后一个任务用数组自己的行。"""
    names = memory.cluster.names
    left = {item.job.job_id: memory.tasks_left(item.job.job_id) for item in planned if item.job.tasks is not None}
    found = []
    for item in planned:
        job = item.job
        becomes = False
        if item.task_id is not None:
            left[job.job_id] -= 1
            becomes = left[job.job_id] == 0
        shares = tuple(
            Share(names[share.node], share.cpus, share.memory, dict(share.gres), share.tasks) for share in item.shares
        )
        gres: dict[str, int] = {}
        for share in item.shares:
            for name, count in share.gres:
                gres[name] = gres.get(name, 0) + count
        node_list, shares = _in_list_order(shares)
        found.append(
            Start(
                job.job_id,
                job.revision,
                item.task_id,
                becomes,
                node_list,
                shares,
                format_gres(gres) or None,
                None if item.time_limit_s is None else math.floor(item.time_limit_s),
                memory.partition_of(item),
                memory.het_job_of(item),
                memory.reservation_of(item),
                job.priority if memory.keeps_priority else None,
            )
        )
    return found


def _in_list_order(shares: tuple[Share, ...]) -> tuple[str, tuple[Share, ...]]:
    """节点列表，以及按它排好的份额：脚本与 0 号任务在列表的第一个节点上，客户端靠它互相找到。"""
    if len(shares) == 1:
        return shares[0].node_name, shares
    node_list = compress(sorted(share.node_name for share in shares))
    order = {name: index for index, name in enumerate(expand(node_list))}
    return node_list, tuple(sorted(shares, key=lambda share: order[share.node_name]))
